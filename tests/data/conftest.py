"""Small sources, indices and files for the tests of data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medkd.data.patches import ImagePatches, SampleTable


def make_table(labels: list[int], *, known: list[bool] | None = None) -> SampleTable:
    names = tuple(f"s{i}" for i in range(len(labels)))
    return SampleTable(
        sample_id=names,
        patient_id=tuple(f"p{i // 2}" for i in range(len(labels))),
        seriesuid=names,
        center_mm=None,
        label=torch.tensor(labels, dtype=torch.float32)[:, None],
        label_known=torch.tensor(known or [True] * len(labels))[:, None],
    )


@pytest.fixture
def images() -> ImagePatches:
    """90 negatives and 10 positives; every pixel of sample n is n."""
    pixels = np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1)
    return ImagePatches(make_table([0] * 90 + [1] * 10), pixels.repeat(4, 2).repeat(5, 3))


@pytest.fixture
def medmnist_file(tmp_path: Path) -> Path:
    """A MedMNIST-like file; train rows 3 and 7 are copies of a val and a test row."""
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 20), ("val", 6), ("test", 8)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 3 > 0).astype(np.uint8)[:, None]
    arrays["train_images"][3] = arrays["val_images"][5]
    arrays["train_images"][7] = arrays["test_images"][0]
    path = tmp_path / "pneumoniamnist.npz"
    np.savez(path, **arrays)
    return path
