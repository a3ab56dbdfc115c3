"""Two sites of a tiny image task: the images of the second are brighter and have less contrast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

COUNTS = {"train": 192, "val": 48, "test": 48}


def write_site(
    path: Path, *, seed: int, gain: float = 1.0, offset: float = 0.0, share: float = 1.0
) -> Path:
    """Write a MedMNIST-like file of a site; a bright square in noise is positive.

    `share` of the cases of each part are written.
    """
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for part, count in COUNTS.items():
        labels = np.arange(int(count * share)) % 2
        images = random.normal(90, 25, (len(labels), 12, 12))
        images[labels == 1, 4:8, 4:8] += 30
        arrays[f"{part}_images"] = (gain * images + offset).clip(0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def domain_values(path: Path) -> dict[str, Any]:
    return {
        "data": {"kind": "medmnist", "path": str(path)},
        "split": {"kind": "official"},
        "augmentation": {"shift_vox": 1.0},
    }


def two_site_values(folder: Path) -> dict[str, Any]:
    """Plain values of a run whose source and target are two sites; it trains in seconds."""
    source = write_site(folder / "source" / "pneumoniamnist.npz", seed=1)
    target = write_site(
        folder / "target" / "pneumoniamnist.npz", seed=2, gain=0.9, offset=15, share=0.5
    )
    training = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01}
    return {
        "name": "two_sites",
        "device": "cpu",
        "source": domain_values(source),
        "target": domain_values(target),
        "teacher": {"model": {"kind": "shallow2d", "channels": 8}, "training": training},
        "student": {"model": {"kind": "shallow2d", "channels": 4}, "training": training},
        "transfer": {"terms": [{"kind": "soft_label"}]},
        "evaluation": {"bootstrap": 20},
    }
