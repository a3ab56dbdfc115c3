"""Insert typical faults of real archives into the files of a valid DICOM CT series.

This is for testing archive readers: each fault has the code that the gate (`codes.CODES`) or the
check of an INDEX must report. The functions need uncompressed files from `write.py`. They change
files in place, add files or remove files. Do not use them on series of real patients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from medkd.io.dicom.write import save_slice

Slices = list[Path]
Edit = Callable[[Dataset], None]
Planter = Callable[[Slices, Slices, np.random.Generator], Slices]
"""(slices in order, slices of another patient, generator) -> files changed, added or removed."""

_PRIVATE = (0x0099, "MEDKD FAULTS")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: its description, the code that a reader must report, and how to insert it."""

    what: str
    code: str
    plant: Planter


def slices_in(folder: Path) -> Slices:
    """Return the files of a series in the order of their InstanceNumber."""
    heads = {path: dcmread(path, stop_before_pixels=True) for path in folder.iterdir()}
    return sorted(heads, key=lambda path: int(heads[path].InstanceNumber))


def head_of(path: Path) -> tuple[str, str, str]:
    """Return PatientID, SeriesInstanceUID and PatientName of a file."""
    head = dcmread(path, stop_before_pixels=True)
    return str(head.PatientID), str(head.SeriesInstanceUID), str(head.PatientName)


def copy_series(slices: Sequence[Path], folder: Path, *, patient_id: str | None = None) -> Slices:
    """Copy a series with new UIDs, as in an archive that received it twice.

    Args:
        slices: files of the series.
        folder: for the copies; must not exist yet.
        patient_id: PatientID of the copies, which then get another PatientName; None: unchanged.
    """
    folder.mkdir(parents=True)

    def renamed(dataset: Dataset) -> None:
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, name, _other_uid(dataset[name].value))
        if patient_id is not None:
            dataset.PatientID, dataset.PatientName = patient_id, "Testperson^Twin"

    return [_edited(path, renamed, folder / f"C{path.name[1:]}") for path in slices]


def _edited(path: Path, edit: Edit, target: Path | None = None) -> Path:
    dataset = dcmread(path)
    edit(dataset)
    target = target or path
    save_slice(dataset, target)
    return target


def _other_uid(uid: str) -> str:
    digest = hashlib.sha256(f"another {uid}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _inner(slices: Slices, rng: np.random.Generator) -> int:
    """Return a random index from the middle half of a series."""
    count = len(slices)
    return int(rng.integers(count // 4, count - count // 4))


def _setting(*, everywhere: bool = False, **values: object) -> Planter:
    """Return a planter that sets attributes (None removes them) in one slice, or in all."""

    def edit(dataset: Dataset) -> None:
        for name, value in values.items():
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)

    def plant(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
        chosen = slices if everywhere else [slices[_inner(slices, rng)]]
        return [_edited(path, edit) for path in chosen]

    return plant


def _missing(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    gone = slices[_inner(slices, rng)]
    gone.unlink()
    return [gone]


def _twice(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    path = slices[_inner(slices, rng)]
    again = path.with_name(f"C{path.name[1:]}")
    again.write_bytes(path.read_bytes())
    return [path, again]


def _foreign(slices: Slices, other: Slices, rng: np.random.Generator) -> Slices:
    """Add a slice of another patient to the series, as a wrong merge does."""
    number = _inner(slices, rng)
    series = dcmread(slices[number], stop_before_pixels=True).SeriesInstanceUID

    def claimed(dataset: Dataset) -> None:
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = _other_uid(dataset.SOPInstanceUID)

    stranger = other[min(number, len(other) - 1)]
    return [_edited(stranger, claimed, slices[number].with_name(f"C{stranger.name[1:]}"))]


def _cut(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    path = slices[_inner(slices, rng)]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return [path]


def _scout(slices: Slices, _other: Slices, _rng: np.random.Generator) -> Slices:
    path = slices[0]

    def scout(dataset: Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.SOPInstanceUID = _other_uid(dataset.SOPInstanceUID)
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    return [_edited(path, scout, path.with_name(f"C{path.name[1:]}"))]


def _turned(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    def turn(dataset: Dataset) -> None:
        across, down = np.split(np.asarray(dataset.ImageOrientationPatient, float), 2)
        dataset.ImageOrientationPatient = [*down.tolist(), *(-across).tolist()]

    return [_edited(slices[_inner(slices, rng)], turn)]


def _few(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    start = int(rng.integers(0, len(slices) - 12))
    gone = [path for number, path in enumerate(slices) if not start <= number < start + 12]
    for path in gone:
        path.unlink()
    return gone


def _swapped(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    """Exchange the pixels of two slices that are a quarter of the series apart."""
    first = int(rng.integers(len(slices) // 4, len(slices) // 2))
    pair = [slices[first], slices[first + len(slices) // 4]]
    one, other = (dcmread(path) for path in pair)
    one.PixelData, other.PixelData = other.PixelData, one.PixelData
    for path, dataset in zip(pair, (one, other), strict=True):
        save_slice(dataset, path)
    return pair


def _blank(slices: Slices, _other: Slices, rng: np.random.Generator) -> Slices:
    def wipe(dataset: Dataset) -> None:
        dataset.PixelData = bytes(len(dataset.PixelData))

    return [_edited(slices[_inner(slices, rng)], wipe)]


def _named(slices: Slices, _other: Slices, _rng: np.random.Generator) -> Slices:
    """Add the patient's name to every slice as a private attribute, as some scanners do."""

    def add_name(dataset: Dataset) -> None:
        block = dataset.private_block(*_PRIVATE, create=True)
        block.add_new(0x01, "LO", str(dataset.PatientName))

    return [_edited(path, add_name) for path in slices]


HIDDEN_NAME = "private_name"
"""Code of a fault that no reader reports: the name must not occur in any output of medkd."""

FAULTS: tuple[Fault, ...] = (
    Fault("a slice is missing", "missing_slices", _missing),
    Fault("a slice occurs twice", "duplicate_positions", _twice),
    Fault("a slice has no rescale", "missing_rescale",
          _setting(RescaleSlope=None, RescaleIntercept=None)),
    Fault("a slice has a wrong rescale", "hu_range", _setting(RescaleIntercept="32000")),
    Fault("a slice of another patient is mixed in", "mixed_series", _foreign),
    Fault("a file is cut short", "truncated_pixels", _cut),
    Fault("a scout image is among the slices", "localizer", _scout),
    Fault("a slice has another orientation", "mixed_orientation", _turned),
    Fault("the header names the head", "not_chest",
          _setting(everywhere=True, BodyPartExamined="HEAD", StudyDescription="CT head")),
    Fault("most slices are missing", "few_slices", _few),
    Fault("the pixels of two slices are exchanged", "disordered_slices", _swapped),
    Fault("the slices are thick", "slice_thickness",
          _setting(everywhere=True, SliceThickness="5")),
    Fault("a slice is empty", "blank_slices", _blank),
    Fault("the patient's name is in a private attribute", HIDDEN_NAME, _named),
)  # fmt: skip
