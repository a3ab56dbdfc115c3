"""Writes images with labels and patients in MedMNIST's layout, for benches on other sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """The images [N, ...] uint8 of train, val or test, their labels [N], 0 or 1, and patients."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    patients: Sequence[str]


def write_set(out: Path, name: str, parts: Mapping[str, Part]) -> None:
    """Write OUT/NAME.npz, and OUT/patients.csv for `data.patients`."""
    arrays = {}
    for part, found in parts.items():
        arrays[f"{part}_images"] = found.images
        arrays[f"{part}_labels"] = found.labels.astype(np.uint8)[:, None]
    rows = [
        (f"{name}-{part}-{number:06d}", patient)
        for part, found in parts.items()
        for number, patient in enumerate(found.patients)
    ]
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / f"{name}.npz", **arrays)
    table = pd.DataFrame(rows, columns=["seriesuid", "patient_id"])
    table.to_csv(out / "patients.csv", index=False)
