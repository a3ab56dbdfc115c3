"""Insert typical faults of real archives into the files of a valid DICOM CT series.

This is for testing archive readers. Each fault has the code that the gate (`codes.CODES`) or the
check of an INDEX must report. The functions need files from `write.py` and change them in place, so
they must not be used on series of real patients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from medkd.io.dicom.tags import hashed_uid
from medkd.io.dicom.write import save_slice

Slices = list[Path]
Edit = Callable[[Dataset], None]
Planter = Callable[[Slices, Slices, np.random.Generator], Slices]
"""(slices in order, slices of another patient, generator) -> files changed, added or removed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: its description, the code that a reader must report, and how to insert it."""

    what: str
    code: str
    plant: Planter


def slices_in(folder: Path) -> Slices:
    """Return the files of a series in the order of their InstanceNumber."""
    return sorted(folder.iterdir(), key=lambda path: int(_head(path).InstanceNumber))


def ids_of(path: Path) -> tuple[str, str]:
    """Return PatientID and SeriesInstanceUID of a file."""
    head = _head(path)
    return str(head.PatientID), str(head.SeriesInstanceUID)


def copy_series(slices: Sequence[Path], folder: Path, *, patient_id: str | None = None) -> Slices:
    """Copy a series with new UIDs, as in an archive that received it twice.

    Args:
        slices: files of the series.
        folder: for the copies; must not exist yet.
        patient_id: PatientID of the copies, which then get another PatientName; None: unchanged.
    """
    folder.mkdir(parents=True)

    def rename(dataset: Dataset) -> None:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, name, _other_uid(dataset[name].value))
        if patient_id is not None:
            dataset.PatientID, dataset.PatientName = patient_id, "Testperson^Twin"

    return [_edited(path, rename, _copy_name(folder / path.name)) for path in slices]


def _head(path: Path) -> Dataset:
    return dcmread(path, stop_before_pixels=True)


def _edited(path: Path, edit: Edit, target: Path | None = None) -> Path:
    dataset = dcmread(path)
    edit(dataset)
    save_slice(dataset, target or path)
    return target or path


def _copy_name(path: Path) -> Path:
    return path.with_name(f"C{path.name[1:]}")


def _other_uid(uid: str) -> str:
    return hashed_uid(f"another {uid}")


def _inner(slices: Slices, rng: np.random.Generator) -> int:
    """Return a random index from the middle half of a series."""
    count = len(slices)
    return int(rng.integers(count // 4, count - count // 4))


def _in_one(edit: Edit) -> Planter:
    """Return a planter that edits one inner slice."""
    return lambda slices, _, rng: [_edited(slices[_inner(slices, rng)], edit)]


def _in_all(edit: Edit) -> Planter:
    return lambda slices, _, rng: [_edited(path, edit) for path in slices]


def _setting(**values: object) -> Edit:
    def edit(dataset: Dataset) -> None:
        for name, value in values.items():
            setattr(dataset, name, value)

    return edit


def _remove_rescale(dataset: Dataset) -> None:
    del dataset.RescaleSlope, dataset.RescaleIntercept


def _turn(dataset: Dataset) -> None:
    across, down = np.split(np.asarray(dataset.ImageOrientationPatient, float), 2)
    dataset.ImageOrientationPatient = [*down.tolist(), *(-across).tolist()]


def _wipe(dataset: Dataset) -> None:
    dataset.PixelData = bytes(len(dataset.PixelData))


def _add_private_name(dataset: Dataset) -> None:
    """Add the patient's name as a private attribute, as some scanners do."""
    block = dataset.private_block(0x0099, "MEDKD FAULTS", create=True)
    block.add_new(0x01, "LO", str(dataset.PatientName))


def _remove(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    gone = slices[_inner(slices, rng)]
    gone.unlink()
    return [gone]


def _duplicate(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    path = slices[_inner(slices, rng)]
    _copy_name(path).write_bytes(path.read_bytes())
    return [path, _copy_name(path)]


def _merge(slices: Slices, other: Slices, rng: np.random.Generator) -> Slices:
    """Add a slice of another patient to the series, as a wrong merge does."""
    number = _inner(slices, rng)
    added = other[min(number, len(other) - 1)]
    edit = partial(_join_series, series_uid=ids_of(slices[number])[1])
    return [_edited(added, edit, _copy_name(slices[number].with_name(added.name)))]


def _join_series(dataset: Dataset, series_uid: str) -> None:
    dataset.SeriesInstanceUID = series_uid
    dataset.SOPInstanceUID = _other_uid(dataset.SOPInstanceUID)


def _cut(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    path = slices[_inner(slices, rng)]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return [path]


def _add_scout(slices: Slices, _other: Slices, _rng: np.random.Generator) -> Slices:
    def edit(dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.SOPInstanceUID = _other_uid(dataset.SOPInstanceUID)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    return [_edited(slices[0], edit, _copy_name(slices[0]))]


def _keep_few(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    start = int(rng.integers(0, len(slices) - 12))
    gone = slices[:start] + slices[start + 12 :]
    for path in gone:
        path.unlink()
    return gone


def _swap(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    """Exchange the pixels of two slices that are a quarter of the series apart."""
    first = int(rng.integers(len(slices) // 4, len(slices) // 2))
    pair = [slices[first], slices[first + len(slices) // 4]]
    pixels = [dcmread(path).PixelData for path in pair]
    return [
        _edited(path, _setting(PixelData=other))
        for path, other in zip(pair, reversed(pixels), strict=True)
    ]


HIDDEN_NAME = "private_name"
"""Code of a fault that no reader reports: the name must not occur in any output of medkd."""

FAULTS: tuple[Fault, ...] = (
    Fault("a slice is missing", "missing_slices", _remove),
    Fault("a slice occurs twice", "duplicate_positions", _duplicate),
    Fault("a slice has no rescale", "missing_rescale", _in_one(_remove_rescale)),
    Fault("a slice has a wrong rescale", "hu_range", _in_one(_setting(RescaleIntercept="32000"))),
    Fault("a slice of another patient is mixed in", "mixed_series", _merge),
    Fault("a file is cut short", "truncated_pixels", _cut),
    Fault("a scout image is among the slices", "localizer", _add_scout),
    Fault("a slice has another orientation", "mixed_orientation", _in_one(_turn)),
    Fault("the header names the head", "not_chest",
          _in_all(_setting(BodyPartExamined="HEAD", StudyDescription="CT head"))),
    Fault("most slices are missing", "few_slices", _keep_few),
    Fault("the pixels of two slices are exchanged", "disordered_slices", _swap),
    Fault("the slices are thick", "slice_thickness", _in_all(_setting(SliceThickness="5"))),
    Fault("a slice is empty", "blank_slices", _in_one(_wipe)),
    Fault("the patient's name is in a private attribute", HIDDEN_NAME, _in_all(_add_private_name)),
)  # fmt: skip
