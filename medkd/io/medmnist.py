"""Reader of MedMNIST `.npz` files, 2-D and 3-D, of any size, with their official splits.

Images remain uint8 as stored ([N, row, column] or [N, i, j, k]), labels become int64 [N, K].
A file with another checksum than the official one is still read, but its notes and the log
report it as unverified. Colour sets are refused: medkd is for CT and radiographs.
Checksums: `medmnist/info.py` of MedMNIST 3.0.2, repository MedMNIST/MedMNIST, commit 3bb56be.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from medkd.errors import SeriesError
from medkd.files import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_LOG = logging.getLogger(__name__)

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")

OFFICIAL_MD5 = {
    "pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f",
    "pneumoniamnist_64": "8f4eceb4ccffa70c672198ea285246c6",
    "pneumoniamnist_128": "05b46931834c231683c68f40c47b2971",
    "pneumoniamnist_224": "d6a3c71de1b945ea11211b03746c1fe1",
    "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8",
    "chestmnist_64": "9de6cd0b934ebb5b7426cfba5efbae16",
    "chestmnist_128": "db107e5590b27930b62dbaf558aebee3",
    "chestmnist_224": "45bd33e6f06c3e8cdb481c74a89152aa",
    "nodulemnist3d": "8755a7e9e05a4d9ce80a24c3e7a256f3",
    "nodulemnist3d_64": "c47c5b7d457bf6332200d2ea6d64ecd8",
    "breastmnist": "750601b1f35ba3300ea97c75c52ff8f6",
    "breastmnist_64": "742edef2a1fd1524b2efff4bd7ba9364",
    "breastmnist_128": "363e4b3f8d712e9b5de15470a2aaadf1",
    "breastmnist_224": "b56378a6eefa9fed602bb16d192d4c8b",
    "organmnist3d": "a0c5a1ff56af4f155c46d46fbb45a2fe",
    "organmnist3d_64": "58a2205adf14a9d0a189cb06dc78bf10",
    "adrenalmnist3d": "bbd3c5a5576322bc4cdfea780653b1ce",
    "adrenalmnist3d_64": "17721accfe9fb005146a47d33bc54b2f",
    "fracturemnist3d": "6aa7b0143a6b42da40027a9dda61302f",
    "fracturemnist3d_64": "f01d7e6316aedf4210da0da5b7437b42",
    "vesselmnist3d": "b41fd4f7e7e2feedddb201585ecafa1b",
    "vesselmnist3d_64": "6bb274a8846e1097066dcd64e2c4520f",
    "synapsemnist3d": "1235b78a3cd6280881dd7850a78eadb6",
    "synapsemnist3d_64": "43bd14ebf3af9d3dd072446fedc14d5e",
}
"""File name without suffix to the official MD5. Files of other names are always unverified."""

LABEL_NAMES = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "nodulemnist3d": ("benign", "malignant"),
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
        "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
    ),
}  # fmt: skip
"""Names of the classes (one label column) or of the label columns (several); chest sets only."""

OFFICIAL_SIZES = {
    "pneumoniamnist": {"train": 4708, "val": 524, "test": 624},
    "nodulemnist3d": {"train": 1158, "val": 165, "test": 310},
    "chestmnist": {"train": 78468, "val": 11219, "test": 22433},
}
"""Number of images in each split; chest sets only."""


class MedMnistSplit(NamedTuple):
    """Images uint8 [N, row, col] or [N, i, j, k] and labels int64 [N, K] of one split."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MedMnistSet:
    """The content of a MedMNIST file; `name` is without the size, for example "pneumoniamnist".

    `label_names` are the names of the K label columns, or for K = 1 of the classes; if they are
    not known, numbers. The first of the `notes` is "unverified: ..." unless the MD5 is official.
    """

    name: str
    splits: dict[SplitName, MedMnistSplit]
    label_names: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = ()


def read_medmnist(path: Path) -> MedMnistSet:
    """Read a MedMNIST file with its official splits.

    Args:
        path: `<name>.npz` or `<name>_<size>.npz` as downloaded; the official checksum is looked
            up by this name.

    Raises:
        SeriesError: with all reasons: a missing file, not an `.npz`, missing arrays, wrong types,
            inconsistent counts, colour images, negative labels.
    """
    if not path.is_file():
        raise _refusal(path, ["there is no such file"])
    arrays = _read_arrays(path)
    reasons = [reason for split in SPLITS for reason in _split_reasons(arrays, split)]
    reasons = reasons or _agreement_reasons(arrays)
    if reasons:
        raise _refusal(path, reasons)
    splits = {
        split: MedMnistSplit(arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int64))
        for split in SPLITS
    }
    stem = path.name.removesuffix(".npz")
    name = stem.partition("_")[0]
    with path.open("rb") as stream:
        md5 = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    notes = _notes(stem, name, md5, splits)
    for note in notes:
        _LOG.warning("%s: %s", path.name, note)
    return MedMnistSet(name, splits, _label_names(name, splits), sha256_of(path), notes)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise _refusal(path, [f"expected an .npz of arrays without pickle: {error}"]) from error


def _split_reasons(arrays: dict[str, NDArray[Any]], split: SplitName) -> list[str]:
    """Return what is wrong with the two arrays of one split."""
    missing = [f"{split}_{kind}" for kind in ("images", "labels")]
    missing = [name for name in missing if name not in arrays]
    if missing:
        return [f"the array {name} is missing" for name in missing]
    images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    reasons = []
    if images.dtype != np.uint8:
        reasons.append(f"{split}_images: expected uint8, got {images.dtype}")
    if images.ndim == 4 and images.shape[-1] in (3, 4):
        reasons.append(f"{split}_images: expected grey images, got colour {images.shape}")
    elif images.ndim not in (3, 4):
        reasons.append(f"{split}_images: expected [N, row, col] or 3-D, got {images.shape}")
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        reasons.append(
            f"{split}_labels: expected whole numbers [N, K], got {labels.dtype} {labels.shape}"
        )
    elif labels.size and labels.min() < 0:
        reasons.append(f"{split}_labels: expected labels from 0 up, got {labels.min()}")
    if images.ndim and labels.ndim and len(images) != len(labels):
        reasons.append(f"{split}: {len(images)} images but {len(labels)} labels")
    if images.ndim and not len(images):
        reasons.append(f"{split}: expected images, got none")
    return reasons


def _agreement_reasons(arrays: dict[str, NDArray[Any]]) -> list[str]:
    reasons = []
    for kind in ("images", "labels"):
        shapes = {arrays[f"{split}_{kind}"].shape[1:] for split in SPLITS}
        if len(shapes) > 1:
            reasons.append(f"the splits' {kind} differ in shape: {sorted(shapes)}")
    return reasons


def _notes(
    stem: str, name: str, md5: str, splits: dict[SplitName, MedMnistSplit]
) -> tuple[str, ...]:
    notes = []
    official = OFFICIAL_MD5.get(stem)
    if official is None:
        notes.append(f"unverified: no official checksum is known for a file named {stem}.npz")
    elif md5 != official:
        notes.append(f"unverified: MD5 {md5} is not the official {official}")
    for split, expected in OFFICIAL_SIZES.get(name, {}).items():
        got = len(splits[split].images)  # type: ignore[index]  # keys of the table are SPLITS
        if got != expected:
            notes.append(f"{split} has {got} images, the official set has {expected}")
    return tuple(notes)


def _label_names(name: str, splits: dict[SplitName, MedMnistSplit]) -> tuple[str, ...]:
    columns = splits["train"].labels.shape[1]
    classes = 1 + max(int(split.labels.max()) for split in splits.values())
    count = columns if columns > 1 else max(classes, 2)
    known = LABEL_NAMES.get(name, ())
    noun = "label" if columns > 1 else "class"
    return known if len(known) == count else tuple(f"{noun} {n}" for n in range(count))


def _refusal(path: Path, reasons: list[str]) -> SeriesError:
    return SeriesError(f"{path}: cannot be read as a MedMNIST set", reasons)
