"""Writes a set of phantoms in LUNA16's layout or as a DICOM archive, completely or not at all.

A stopped set is continued with the missing scans; its bytes are those of an uninterrupted run.

LUNA16: OUT/subset0 ... subset9/<seriesuid>.mhd and .raw, and LUNA16's five tables. DICOM:
OUT/<patient>/<series>/ with the slices under shuffled names, and the tables of nodules. Both get
phantom.json, which records the generator, the settings and everything that was painted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from medkd.errors import SettingsError, WorkerError
from medkd.files import write_text
from medkd.io.dicom.write import write_dicom_series
from medkd.io.luna16_tables import write_annotations, write_candidates, write_seriesuids
from medkd.io.synthetic_mark import PHANTOM
from medkd.io.volume import write_mhd
from medkd.jsonio import read_json, write_json
from medkd.processes import Crashed, SafePool
from medkd.synthetic.phantom.faults import (
    ONE_EACH,
    PlantedFault,
    altered_patients,
    plant_faults,
    unplant_faults,
)
from medkd.synthetic.phantom.make import PhantomScan, PhantomSettings, make_phantom, to_lps
from medkd.synthetic.phantom.stamp import DIFFICULTY, GENERATOR_VERSION, generator_stamp
from medkd.synthetic.phantom.styles import Size
from medkd.types import LabelledCandidate, Nodule, Scan
from medkd.unfinished import Unfinished, remove_unfinished, unfinished, unfinished_home

SUBSETS = 10
Layout = Literal["luna16", "dicom"]
Row = dict[str, object]

_PLANTING = "planting"
"""A file that is kept while faults are planted, because scans are then altered in place."""

_SCAN_MIB: dict[Size, int] = {"small": 8, "region": 2, "full": 190}
"""Most space that one scan takes on disk."""


@dataclass(frozen=True, slots=True)
class PhantomRow:
    """The record of a scan whose voxels are written."""

    seriesuid: str
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    candidates: tuple[LabelledCandidate, ...]
    findings: tuple[Row, ...]


def write_phantom_set(
    out: Path,
    settings: PhantomSettings,
    *,
    layout: Layout = "luna16",
    faults: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a set, whole or not at all; each worker holds one scan at a time.

    If it is stopped or killed, the same call continues after the last finished scan.

    Args:
        out: a folder that does not exist or is empty.
        settings: which phantoms.
        layout: luna16: subset0 to subset9 with volumes, and LUNA16's tables; dicom: a folder a
            patient, in it one a series with its slices, and the tables of nodules.
        faults: dicom only: plant the faults of `faults.py`, named in phantom.json.
        workers: processes; the bytes do not depend on it.
        progress: called with (scans done, scans in all).

    Raises:
        SettingsError: if `out` is not empty, the disk has not the space, or faults cannot be
            planted in this set.
        WorkerError: if the process that writes a scan is killed again and again.
    """
    _check(out, settings, layout, faults=faults)
    purpose = [generator_stamp(), settings.model_dump_json(), layout, str(faults)]
    with unfinished(out, "\n".join(purpose)) as made:
        _undo_planting(made, settings)
        for number in range(SUBSETS if layout == "luna16" else 0):
            (made.folder / f"subset{number}").mkdir(exist_ok=True)
        rows = _write_scans(made, settings, layout, workers=workers, progress=progress)
        planted: tuple[PlantedFault, ...] = ()
        if faults:
            made.kept(_PLANTING).touch()
            planted = plant_faults(made.folder, seed=settings.seed)
        _write_tables(made.folder, layout, rows=rows)
        _write_record(made.folder, settings, rows=rows, planted=planted)


def _undo_planting(made: Unfinished, settings: PhantomSettings) -> None:
    """Drop the scans that were being altered when the process was killed."""
    if not made.kept(_PLANTING).exists():
        return
    patients = [_patient_of(settings, number) for number in range(settings.scans)]
    altered = altered_patients(patients, seed=settings.seed)
    for number, patient in enumerate(patients):
        if patient in altered:
            made.kept(f"{number:05d}.json").unlink(missing_ok=True)
    unplant_faults(made.folder, altered)
    made.kept(_PLANTING).unlink()


def _check(out: Path, settings: PhantomSettings, layout: Layout, *, faults: bool) -> None:
    reasons = []
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        reasons.append("the folder is not empty: name a new folder, or remove this one first")
        remove_unfinished(out)
    if faults and layout != "dicom":
        reasons.append("faults are planted in DICOM series: use the format dicom")
    if faults and settings.scans < ONE_EACH:
        reasons.append(f"to plant each fault once takes {ONE_EACH} scans or more")
    standing = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(standing).free / 2**20
    missing = settings.scans - len(list((unfinished_home(out) / "kept").glob("*.json")))
    need = max(missing, 0) * _SCAN_MIB[settings.size]
    if need > free:
        reasons.append(
            f"{settings.scans} scans of size {settings.size} take up to {_size(need)}, "
            f"{_size(free)} are free there: make fewer, or name a folder elsewhere"
        )
    if reasons:
        raise SettingsError(f"{out}: cannot write phantoms here", reasons)


def _size(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


@dataclass(frozen=True, slots=True)
class _ScanTask:
    """The task of a process: which scan to write, and where."""

    made: Unfinished
    settings: PhantomSettings
    layout: Layout
    number: int

    @property
    def kept(self) -> Path:
        """File of the scan's row, written last."""
        return self.made.kept(f"{self.number:05d}.json")


def _write_scans(
    made: Unfinished,
    settings: PhantomSettings,
    layout: Layout,
    *,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> list[PhantomRow]:
    """Write the scans that are missing, and return the rows of all."""
    tasks = [_ScanTask(made, settings, layout, number) for number in range(settings.scans)]
    missing = [task for task in tasks if not task.kept.is_file()]
    done = len(tasks) - len(missing)
    with closing(_written(missing, workers)) as written:
        for count, _ in enumerate(written, start=done + 1):
            if progress is not None:
                progress(count, len(tasks))
    return [read_json(task.kept, PhantomRow) for task in tasks]


def _written(tasks: Sequence[_ScanTask], workers: int) -> Generator[None, None, None]:
    if workers <= 1 or len(tasks) < 2:
        yield from map(_write_scan, tasks)
        return
    for task, result in SafePool(_write_scan, workers).run(tasks):
        if isinstance(result, Crashed):
            raise WorkerError(
                f"{task.made.home}: scan {task.number} was not written",
                ["its process was killed twice: most likely there was not enough memory",
                 "run the same command again (it continues there), with fewer --workers where it "
                 "takes them, or where there is more memory"],
            )  # fmt: skip
        yield


def _write_scan(task: _ScanTask) -> None:
    folder, settings = task.made.folder, task.settings
    made = make_phantom(settings, task.number)
    uid = made.scan.seriesuid
    if task.layout == "luna16":
        write_mhd(made.scan, folder / f"subset{task.number % SUBSETS}" / f"{uid}.mhd")
    else:
        _write_series(folder, settings, made.scan, index=task.number)
    row = PhantomRow(uid, made.nodules, made.excluded, made.candidates, _findings_of(made))
    write_json(task.kept, row)


def _findings_of(made: PhantomScan) -> tuple[Row, ...]:
    """State all that was painted, mimics too, in LPS mm."""
    return tuple(
        {
            "kind": f.kind, "texture": f.texture, "outline": f.outline,
            "attachment": f.attachment,
            "center_mm": list(to_lps(made.canvas, f.center_mm)),
            "diameter_mm": round(f.diameter_mm, 4),
        }
        for f in made.findings
    )  # fmt: skip


def _write_series(folder: Path, settings: PhantomSettings, scan: Scan, *, index: int) -> None:
    """Write a scan as one series of a patient of its own, with a fictive name and study date."""
    site = settings.site_of(index)
    patient_id = _patient_of(settings, index)
    shutil.rmtree(folder / patient_id, ignore_errors=True)  # slices that a kill has left
    write_dicom_series(
        scan,
        folder / patient_id / scan.seriesuid,
        patient_name=f"Testperson^{site.upper()}{settings.seed:03d}^{index:04d}",
        patient_id=patient_id,
        extra={
            "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
            "SoftwareVersions": generator_stamp(),
            "StudyDate": (date(2020, 1, 1) + timedelta(days=index)).strftime("%Y%m%d"),
            "StudyDescription": "CT chest, synthetic",
            "InstitutionName": f"Phantom site {site}",
        },
    )


def _patient_of(settings: PhantomSettings, index: int) -> str:
    return f"PHANTOM-{settings.site_of(index).upper()}{settings.seed:03d}-{index:04d}"


def _write_tables(folder: Path, layout: Layout, *, rows: list[PhantomRow]) -> None:
    write_annotations(folder / "annotations.csv", [n for row in rows for n in row.nodules])
    write_annotations(folder / "annotations_excluded.csv", [n for r in rows for n in r.excluded])
    if layout == "luna16":
        write_seriesuids(folder / "seriesuids.csv", [row.seriesuid for row in rows])
        candidates = [c for row in rows for c in row.candidates]
        write_candidates(folder / "candidates_V2.csv", candidates)
        # LUNA16's older file holds fewer of both classes.
        write_candidates(folder / "candidates.csv", candidates[::2])


def _told_settings(settings: PhantomSettings) -> Row:
    """Return the settings without where a file lay on this machine."""
    values: Row = settings.model_dump(mode="json")
    return values | {"lidc": Path(settings.lidc).name if settings.lidc else None}


def _write_record(
    folder: Path,
    settings: PhantomSettings,
    *,
    rows: list[PhantomRow],
    planted: tuple[PlantedFault, ...],
) -> None:
    record = {
        "synthetic": True,
        "generator": PHANTOM,
        "generator_version": GENERATOR_VERSION,
        "difficulty": DIFFICULTY,
        "settings": _told_settings(settings),
        "note": "synthetic scans: no clinical performance can be read from them",
        "scans": [{"seriesuid": row.seriesuid, "findings": row.findings} for row in rows],
    }
    if planted:
        record["planted_faults"] = [fault.as_row() for fault in planted]
    write_text(folder / "phantom.json", json.dumps(record, indent=1) + "\n")
