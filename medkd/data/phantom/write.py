"""Writes a set of phantoms: in LUNA16's layout, or as a DICOM archive; whole or not at all.

OUT/subset0 ... subset9/<seriesuid>.mhd and .raw, with LUNA16's five tables; or OUT/<patient>/
<series>/ with its slices under shuffled names, and the tables of nodules. Both get phantom.json,
the record: generator, settings, and all that was painted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

from medkd.data.phantom.difficulty import DIFFICULTY, GENERATOR_VERSION, generator_stamp
from medkd.data.phantom.faults import ONE_EACH, PlantedFault, plant_faults
from medkd.data.phantom.make import PhantomScan, PhantomSettings, make_phantom, to_lps
from medkd.data.phantom.styles import Size
from medkd.errors import SettingsError
from medkd.files import replacing, write_text
from medkd.io.annotations import write_annotations, write_candidates, write_seriesuids
from medkd.io.dicom.write import write_dicom_series
from medkd.io.synthetic_mark import PHANTOM
from medkd.io.volume import write_mhd
from medkd.types import LabelledCandidate, Nodule, Scan

SUBSETS = 10
Layout = Literal["luna16", "dicom"]
Row = dict[str, object]

_SCAN_MIB: dict[Size, int] = {"small": 8, "region": 2, "full": 190}
"""Most space that one scan takes on disk."""


@dataclass(frozen=True, slots=True)
class PhantomRow:
    """What is kept of a scan once its voxels are written."""

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
    """
    _check(out, settings, layout, faults=faults)
    with replacing(out) as folder:
        folder.mkdir(parents=True)
        for number in range(SUBSETS if layout == "luna16" else 0):
            (folder / f"subset{number}").mkdir()
        rows = []
        with closing(_write_scans(folder, settings, layout, workers=workers)) as written:
            for row in written:
                rows.append(row)
                if progress is not None:
                    progress(len(rows), settings.scans)
        planted = plant_faults(folder, seed=settings.seed) if faults else ()
        _write_tables(folder, layout, rows=rows)
        _write_record(folder, settings, rows=rows, planted=planted)


def _check(out: Path, settings: PhantomSettings, layout: Layout, *, faults: bool) -> None:
    reasons = []
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        reasons.append("the folder is not empty: name a new folder, or remove this one first")
    if faults and layout != "dicom":
        reasons.append("faults are planted in DICOM series: use the format dicom")
    if faults and settings.scans < ONE_EACH:
        reasons.append(f"to plant each fault once takes {ONE_EACH} scans or more")
    standing = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(standing).free / 2**20
    need = settings.scans * _SCAN_MIB[settings.size]
    if need > free:
        reasons.append(
            f"{settings.scans} scans of size {settings.size} take up to {need / 1024:.1f} GiB, "
            f"{free / 1024:.1f} GiB are free there: make fewer, or name a folder elsewhere"
        )
    if reasons:
        raise SettingsError(f"{out}: cannot write phantoms here", reasons)


def _write_scans(
    folder: Path, settings: PhantomSettings, layout: Layout, *, workers: int
) -> Generator[PhantomRow, None, None]:
    write = partial(_write_scan, folder, settings, layout)
    if workers <= 1 or settings.scans == 1:
        yield from map(write, range(settings.scans))
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        waiting: list[Future[PhantomRow]] = [pool.submit(write, n) for n in range(settings.scans)]
        for done in waiting:
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_scan(folder: Path, settings: PhantomSettings, layout: Layout, index: int) -> PhantomRow:
    made = make_phantom(settings, index)
    uid = made.scan.seriesuid
    if layout == "luna16":
        write_mhd(made.scan, folder / f"subset{index % SUBSETS}" / f"{uid}.mhd")
    else:
        _write_series(folder, settings, made.scan, index=index)
    return PhantomRow(uid, made.nodules, made.excluded, made.candidates, _findings_of(made))


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
    patient_id = f"PHANTOM-{site.upper()}{settings.seed:03d}-{index:04d}"
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
    told: Row = settings.model_dump(mode="json")
    return told | {"lidc": Path(settings.lidc).name if settings.lidc else None}


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
