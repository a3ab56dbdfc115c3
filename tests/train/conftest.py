"""A tiny image task and its settings, for tests of whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkd.config.run_settings import RunSettings


def write_images(path: Path, *, rows: int = 12, counts: tuple[int, ...] = (48, 24, 24)) -> Path:
    """Write a MedMNIST-like file: a bright blob in noise is positive."""
    random = np.random.default_rng(5)
    arrays: dict[str, Any] = {}
    for part, count in zip(("train", "val", "test"), counts, strict=True):
        labels = np.arange(count) % 2
        images = random.normal(90, 25, (count, rows, rows))
        images[labels == 1, 4:8, 4:8] += 70
        arrays[f"{part}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    np.savez_compressed(path, **arrays)
    return path


@pytest.fixture(scope="session")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "pneumoniamnist.npz")


def plain_values(image_file: Path) -> dict[str, Any]:
    """Plain values of a run that trains in a second."""
    return {
        "name": "tiny",
        "device": "cpu",
        "target": {
            "data": {"kind": "medmnist", "path": str(image_file)},
            "split": {"kind": "official"},
            "augmentation": {"shift_vox": 1.0},
        },
        "teacher": {
            "model": {"kind": "shallow2d", "channels": 12},
            "training": {"epochs": 3, "batch_size": 16, "learning_rate": 0.02},
        },
        "student": {
            "model": {"kind": "shallow2d", "channels": 4},
            "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "ema_decay": 0.8},
        },
        "transfer": {"terms": [{"kind": "soft_label"}, {"kind": "hint", "weight": 0.3}]},
        "evaluation": {"bootstrap": 50},
    }


@pytest.fixture(scope="session")
def image_values(image_file: Path) -> dict[str, Any]:
    """Plain values of a run that trains in a second."""
    return plain_values(image_file)


@pytest.fixture(scope="session")
def image_settings(image_values: dict[str, Any]) -> Callable[..., RunSettings]:
    """Build the tiny run's settings with some values replaced."""

    def build(**changed: Any) -> RunSettings:
        return RunSettings.model_validate(image_values | changed)

    return build
