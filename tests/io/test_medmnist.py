"""MedMNIST files: official splits as stored, checksums checked, faults named together."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.io import medmnist
from medkd.io.medmnist import OFFICIAL_MD5, read_medmnist
from tests.real_data import needs_data


def arrays(shape: tuple[int, ...] = (8, 8), columns: int = 1) -> dict[str, np.ndarray]:
    made = {}
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        made[f"{split}_images"] = np.full((count, *shape), count, np.uint8)
        made[f"{split}_labels"] = np.ones((count, columns), np.uint8)
    return made


def write(path: Path, content: dict[str, np.ndarray]) -> Path:
    np.savez(path, **content)
    return path


@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (28, 28, 28)])
def test_splits_are_as_stored_in_2d_and_3d(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = read_medmnist(write(tmp_path / "somemnist_64.npz", arrays(shape)))
    assert data.name == "somemnist"
    assert data.splits["val"].images.shape == (3, *shape)
    assert data.splits["val"].labels.dtype == np.int64
    assert data.label_names == ("class 0", "class 1")


def test_several_label_columns_name_columns(tmp_path: Path) -> None:
    data = read_medmnist(write(tmp_path / "chestmnist.npz", arrays(columns=14)))
    assert data.label_names[5] == "nodule"
    assert len(data.label_names) == 14


def test_another_checksum_is_unverified_and_warned_of(tmp_path: Path, caplog) -> None:
    path = write(tmp_path / "pneumoniamnist.npz", arrays())
    with caplog.at_level(logging.WARNING):
        data = read_medmnist(path)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324  # as the official list
    assert data.notes[0] == (
        f"unverified: MD5 {md5} is not the official {OFFICIAL_MD5['pneumoniamnist']}"
    )
    assert "train has 6 images, the official set has 4708" in data.notes
    assert "unverified" in caplog.text


def test_the_official_checksum_verifies(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "nodulemnist3d_64.npz", arrays((8, 8, 8)))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324  # as the official list
    monkeypatch.setitem(medmnist.OFFICIAL_MD5, "nodulemnist3d_64", md5)
    assert not any("unverified" in note for note in read_medmnist(path).notes)


def test_all_faults_are_named_together(tmp_path: Path) -> None:
    content = arrays()
    del content["val_labels"]
    content["train_images"] = content["train_images"].astype(np.float32)
    content["test_labels"] = content["test_labels"][:2]
    with pytest.raises(SeriesError) as refusal:
        read_medmnist(write(tmp_path / "a.npz", content))
    assert refusal.value.reasons == (
        "train_images: expected uint8, got float32",
        "the array val_labels is missing",
        "test: 4 images but 2 labels",
    )


def test_labels_and_shapes_that_make_no_sense_are_named(tmp_path: Path) -> None:
    content = arrays()
    content["train_images"] = content["train_images"][0]
    content["val_labels"] = content["val_labels"].astype(np.int16) - 2
    content["test_labels"] = content["test_labels"].astype(np.float32)
    with pytest.raises(SeriesError) as refusal:
        read_medmnist(write(tmp_path / "a.npz", content))
    words = (
        "expected [N, row, col]",
        "8 images but 6",
        "labels from 0 up, got -1",
        "whole numbers",
    )
    for word, reason in zip(words, refusal.value.reasons, strict=True):
        assert word in reason


def test_splits_of_different_shape_are_refused(tmp_path: Path) -> None:
    content = arrays() | {"val_images": np.zeros((3, 9, 9), np.uint8)}
    with pytest.raises(SeriesError, match="images differ in shape"):
        read_medmnist(write(tmp_path / "a.npz", content))


def test_colour_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="got colour"):
        read_medmnist(write(tmp_path / "pathmnist.npz", arrays((28, 28, 3))))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    content = arrays()
    content["train_labels"] = np.array([{"a": 1}], dtype=object)
    with pytest.raises(SeriesError, match="without pickle"):
        read_medmnist(write(tmp_path / "a.npz", content))


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 broken")
    for name in ("a.npz", "absent.npz"):
        with pytest.raises(SeriesError):
            read_medmnist(tmp_path / name)


@needs_data
def test_the_real_images_have_the_official_sizes() -> None:
    root = Path(os.environ["MEDKD_DATA"]) / "pneumoniamnist"
    data = read_medmnist(root / "pneumoniamnist.npz")
    counts = {split: len(part.images) for split, part in data.splits.items()}
    assert counts == {"train": 4708, "val": 524, "test": 624}
    assert data.label_names == ("normal", "pneumonia")
    # The file was rebuilt from partial copies, so its order and its checksum are others.
    assert data.notes[0].startswith("unverified")
