"""Plants faults in a DICOM archive of phantoms, each in a patient of its own.

The seed decides which fault is planted where. `phantom.json` lists every fault with its files and
the code that `medkd index` (a refusal) or `medkd check` (a warning) must report. It also lists the
name in a private attribute that must not appear anywhere afterwards. `labels.csv` and `labels.yaml`
belong to the contradictory label: `medkd index --config labels.yaml`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medkd.files import write_text
from medkd.io.dicom.faulty import (
    FAULTS,
    HIDDEN_NAME,
    Slices,
    copy_series,
    head_of,
    slices_in,
)

ONE_EACH = len(FAULTS) + 4
"""Scans that it takes: one a fault of a series, three for those of several, and one untouched."""

_TWIN = "-TWIN"

_LABELS_YAML = """\
# Purpose: reads labels.csv of an archive of phantoms with planted faults.
# Data: a folder of `medkd phantom --format dicom --plant-faults`.
# Run: medkd index . --out ../index.csv --config labels.yaml  (in the folder)
annotations:
  - {kind: table, path: labels.csv, key: seriesuid, key_is: seriesuid, labels: {nodule: nodule}}
"""


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """A fault of an archive.

    `code` is what `seen_by` must say of the series `seriesuid`; `files` are those that are
    faulty, new or gone, relative to the archive.
    """

    what: str
    code: str
    seen_by: Literal["index", "check", "nobody"]
    patient_id: str
    seriesuid: str
    files: tuple[str, ...]

    def as_row(self) -> dict[str, object]:
        """Return it as plain values for phantom.json."""
        return asdict(self)


def plant_faults(archive: Path, *, seed: int) -> tuple[PlantedFault, ...]:
    """Plant every fault once.

    Args:
        archive: folder of patients, in each one series.
        seed: of the choice of patients and slices.

    Raises:
        ValueError: if there are fewer than `ONE_EACH` patients.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 0xFA]))
    patients = [path.name for path in archive.iterdir() if path.is_dir()]
    series = [slices_in(next((archive / p).iterdir())) for p in _drawn_order(patients, rng)]
    whole = series[-1]
    planted = [*_several(archive, series[len(FAULTS) : ONE_EACH - 1])]
    for fault, slices in zip(FAULTS, series[: len(FAULTS)], strict=True):
        seen: Literal["index", "nobody"] = "nobody" if fault.code == HIDDEN_NAME else "index"
        patient_id, seriesuid, _ = head_of(slices[0])
        files = fault.plant(slices, whole, rng)
        planted.append(
            PlantedFault(
                fault.what, fault.code, seen, patient_id, seriesuid, _paths(files, archive)
            )
        )
    return tuple(sorted(planted, key=lambda fault: fault.patient_id))


def altered_patients(patients: Iterable[str], *, seed: int) -> set[str]:
    """Name the patients of an archive that `plant_faults` alters."""
    rng = np.random.Generator(np.random.PCG64([seed, 0xFA]))
    return set(_drawn_order(patients, rng)[: ONE_EACH - 1])


def unplant_faults(archive: Path, altered: Iterable[str]) -> None:
    """Remove the folders of altered patients, and all else that `plant_faults` adds."""
    for folder in [*(archive / name for name in altered), *archive.glob(f"*{_TWIN}")]:
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("labels.csv", "labels.yaml"):
        (archive / name).unlink(missing_ok=True)


def _drawn_order(patients: Iterable[str], rng: np.random.Generator) -> list[str]:
    names = sorted(patients)
    if len(names) < ONE_EACH:
        raise ValueError(f"expected at least {ONE_EACH} patients, got {len(names)}")
    return [names[number] for number in rng.permutation(len(names)).tolist()]


def _several(archive: Path, series: list[Slices]) -> Iterator[PlantedFault]:
    """Plant what takes several series, or a table, to be seen."""
    first, second, third = series
    patient_id, seriesuid, _ = head_of(first[0])
    files = copy_series(first, archive / patient_id / "again")
    yield PlantedFault("a study stands there twice, under two UIDs", "duplicate", "check",
                       patient_id, seriesuid, _paths(files, archive))  # fmt: skip
    patient_id, seriesuid, _ = head_of(second[0])
    twin = f"{patient_id}{_TWIN}"
    files = copy_series(second, archive / twin / "series", patient_id=twin)
    yield PlantedFault("a study stands there under two patients", "same_pixels_two_patients",
                       "check", patient_id, seriesuid, _paths(files, archive))  # fmt: skip
    patient_id, seriesuid, _ = head_of(third[0])
    write_text(archive / "labels.csv", f"seriesuid,nodule\n{seriesuid},1\n{seriesuid},0\n")
    write_text(archive / "labels.yaml", _LABELS_YAML)
    yield PlantedFault("a table says of a study that it has a nodule, and that it has none",
                       "label_conflict", "check", patient_id, seriesuid,
                       ("labels.csv",))  # fmt: skip


def _paths(files: Slices, archive: Path) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(archive).as_posix() for path in files))
