"""Chest CT phantoms with known nodules, in LUNA16's layout or as a DICOM archive.

Synthetic from end to end: what is measured on them says how well a method finds these nodules in
these chests, and nothing of a clinical performance. The i-th scan depends only on site, seed, i,
size and the wanted number of nodules: not on the number of scans or workers. Site a has thin
slices, a sharp kernel and low noise; site b thick slices, a soft kernel and high noise.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from medkd.data.phantom.old.candidates import draw_candidates
from medkd.data.phantom.old.chest import build_chest
from medkd.data.phantom.old.draw import Canvas, Float64
from medkd.data.phantom.old.findings import Finding, Painter
from medkd.data.phantom.old.patient import draw_patient
from medkd.data.phantom.old.scanner import STYLES, draw_canvas, scan_volume
from medkd.errors import SettingsError
from medkd.files import replacing, write_text
from medkd.io.annotations import write_annotations, write_candidates, write_seriesuids
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER, write_dicom_series
from medkd.io.volume import write_mhd
from medkd.settings import Settings
from medkd.types import Acquisition, LabelledCandidate, Nodule, Point, Scan

GENERATOR_VERSION = "1"
"""Raised whenever the same settings give other bytes."""

SUBSETS = 10
Layout = Literal["luna16", "dicom"]
_EXCLUDED = frozenset({"small nodule", "scar", "plaque"})


class PhantomSettings(Settings):
    """Which phantoms to make."""

    site: Literal["a", "b"] = Field("a", description="a: thin, sharp slices; b: thick, noisy.")
    scans: int = Field(10, ge=1, le=10_000, description="Number of scans.")
    seed: int = Field(0, ge=0, description="Same seed, same bytes.")
    nodules_per_scan: str = Field("1-4", description='Fewest and most nodules a scan, "A-B".')
    size: Literal["small"] = Field("small", description="small: a whole chest, 2 mm voxels.")

    @field_validator("nodules_per_scan")
    @classmethod
    def _is_range(cls, text: str) -> str:
        found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", text)
        if not found or int(found[1]) > int(found[2]):
            raise ValueError(f'expected "A-B" with A <= B, for example "1-4", got {text!r}')
        return text

    @property
    def nodule_range(self) -> tuple[int, int]:
        """Fewest and most nodules a scan."""
        low, high = self.nodules_per_scan.split("-")
        return int(low), int(high)


@dataclass(frozen=True, slots=True, eq=False)
class PhantomScan:
    """One phantom: the scan, its reference standard, its candidates, and what was painted.

    `findings` are in chest mm; add `offset_mm` for LPS. `lung` [i, j, k] marks the true lungs with
    all that lies in them.
    """

    scan: Scan
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    candidates: tuple[LabelledCandidate, ...]
    findings: tuple[Finding, ...]
    offset_mm: Float64
    lung: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Row:
    """What is kept of a scan once its voxels are written."""

    seriesuid: str
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    candidates: tuple[LabelledCandidate, ...]
    findings: tuple[dict[str, object], ...]


def make_phantom(settings: PhantomSettings, index: int) -> PhantomScan:
    """Make the scan number `index` of a set.

    Args:
        settings: `scans` does not matter here.
        index: 0 or more.

    Example:
        >>> phantom = make_phantom(PhantomSettings(site="b", seed=1), 0)
        >>> str(phantom.scan.voxels_hu.dtype), phantom.scan.seriesuid[:5]
        ('int16', '2.25.')
    """
    streams = _streams(settings, index)
    style = STYLES[settings.site]
    canvas = draw_canvas(style, streams[0])
    patient = draw_patient(streams[1])
    chest = build_chest(canvas, patient, streams[2])
    low, high = settings.nodule_range
    painter = Painter(canvas, patient, chest, streams[3])
    findings = painter.paint_all(int(streams[3].integers(low, high + 1)))
    voxels = scan_volume(chest.volume_hu, canvas, style, streams[4])
    seriesuid = series_uid(settings, index)
    candidates = draw_candidates(canvas, chest, findings, streams[5])
    acquisition = Acquisition(
        slice_thickness_mm=style.slice_thickness_mm,
        kernel=style.kernel,
        manufacturer=SYNTHETIC_MANUFACTURER,
    )
    return PhantomScan(
        Scan(seriesuid, voxels, canvas.grid, seriesuid, acquisition),
        _spheres(canvas, seriesuid, findings, kinds=frozenset({"nodule"}), counts_as="included"),
        _spheres(canvas, seriesuid, findings, kinds=_EXCLUDED, counts_as="excluded"),
        tuple(
            LabelledCandidate(seriesuid, _to_lps(canvas, place), label)
            for place, label in candidates
        ),
        tuple(findings),
        canvas.offset_mm,
        chest.lung_mm < 0,
    )


def series_uid(settings: PhantomSettings, index: int) -> str:
    """Return a fictive UID under the root 2.25 (UUID-derived, DICOM PS3.5 B.2)."""
    digest = hashlib.sha256(_identity(settings, index).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def write_phantom_set(
    out: Path,
    settings: PhantomSettings,
    *,
    layout: Layout = "luna16",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a set, whole or not at all.

    Args:
        out: a folder that does not exist or is empty.
        settings: which phantoms.
        layout: luna16: subset0 to subset9 with volumes, and LUNA16's tables; dicom: a folder a
            patient, in it one a series with its slices, and the tables of nodules.
        workers: processes; the bytes do not depend on it.
        progress: called with (scans done, scans in all).

    Raises:
        SettingsError: if `out` is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(
            f"{out}: cannot write phantoms here",
            ["the folder is not empty: name a new folder, or remove this one first"],
        )
    with replacing(out) as folder:
        folder.mkdir(parents=True)
        for number in range(SUBSETS if layout == "luna16" else 0):
            (folder / f"subset{number}").mkdir()
        rows = []
        for row in _write_scans(folder, settings, layout, workers=workers):
            rows.append(row)
            if progress is not None:
                progress(len(rows), settings.scans)
        _write_tables(folder, settings, layout, rows=rows)


def _identity(settings: PhantomSettings, index: int) -> str:
    words = (GENERATOR_VERSION, settings.size, settings.site, settings.seed,
             settings.nodules_per_scan, index)  # fmt: skip
    return "medkd phantom " + " ".join(map(str, words))


def _streams(settings: PhantomSettings, index: int) -> list[np.random.Generator]:
    """Separate generators, so that a change in one part leaves the draws of the others."""
    digest = hashlib.sha256(_identity(settings, index).encode()).digest()
    root = np.random.SeedSequence(int.from_bytes(digest, "big"))
    return [np.random.Generator(np.random.PCG64(child)) for child in root.spawn(6)]


def _to_lps(canvas: Canvas, place_mm: Float64) -> Point:
    x, y, z = np.round(place_mm + canvas.offset_mm, 4).tolist()
    return x, y, z


def _spheres(
    canvas: Canvas,
    seriesuid: str,
    findings: list[Finding],
    *,
    kinds: frozenset[str],
    counts_as: Literal["included", "excluded"],
) -> tuple[Nodule, ...]:
    return tuple(
        Nodule(seriesuid, _to_lps(canvas, f.center_mm), round(f.diameter_mm, 4), counts_as)
        for f in findings
        if f.kind in kinds
    )


def _write_scans(
    folder: Path, settings: PhantomSettings, layout: Layout, *, workers: int
) -> Iterator[_Row]:
    numbers = range(settings.scans)
    if workers <= 1 or settings.scans == 1:
        for number in numbers:
            yield _write_scan(folder, settings, layout, index=number)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [
            pool.submit(_write_scan, folder, settings, layout, index=number) for number in numbers
        ]
        for done in waiting:
            yield done.result()


def _write_scan(folder: Path, settings: PhantomSettings, layout: Layout, *, index: int) -> _Row:
    made = make_phantom(settings, index)
    uid = made.scan.seriesuid
    if layout == "luna16":
        write_mhd(made.scan, folder / f"subset{index % SUBSETS}" / f"{uid}.mhd")
    else:
        _write_series(folder, settings, made.scan, index=index)
    findings: list[dict[str, object]] = [
        {
            "kind": f.kind, "texture": f.texture, "attachment": f.attachment,
            "center_mm": np.round(f.center_mm + made.offset_mm, 4).tolist(),
            "diameter_mm": round(f.diameter_mm, 4),
        }
        for f in made.findings
    ]  # fmt: skip
    return _Row(uid, made.nodules, made.excluded, made.candidates, tuple(findings))


def _write_series(folder: Path, settings: PhantomSettings, scan: Scan, *, index: int) -> None:
    """Write a scan as one series of a patient of its own, with a fictive name and study date."""
    patient_id = f"PHANTOM-{settings.site.upper()}{settings.seed:03d}-{index:04d}"
    write_dicom_series(
        scan,
        folder / patient_id / scan.seriesuid,
        patient_name=f"Phantom^{settings.site.upper()}{settings.seed:03d}^{index:04d}",
        patient_id=patient_id,
        extra={
            "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
            "StudyDate": (date(2020, 1, 1) + timedelta(days=index)).strftime("%Y%m%d"),
            "StudyDescription": "CT chest, synthetic",
            "InstitutionName": f"Phantom site {settings.site}",
        },
    )


def _write_tables(
    folder: Path, settings: PhantomSettings, layout: Layout, *, rows: list[_Row]
) -> None:
    write_annotations(folder / "annotations.csv", [n for row in rows for n in row.nodules])
    write_annotations(folder / "annotations_excluded.csv", [n for r in rows for n in r.excluded])
    if layout == "luna16":
        write_seriesuids(folder / "seriesuids.csv", [row.seriesuid for row in rows])
        candidates = [c for row in rows for c in row.candidates]
        write_candidates(folder / "candidates_V2.csv", candidates)
        # LUNA16's older file holds fewer of both classes.
        write_candidates(folder / "candidates.csv", candidates[::2])
    record = {
        "synthetic": True,
        "generator": "medkd phantom",
        "generator_version": GENERATOR_VERSION,
        "settings": settings.model_dump(mode="json"),
        "note": "synthetic scans: no clinical performance can be read from them",
        "scans": [{"seriesuid": row.seriesuid, "findings": row.findings} for row in rows],
    }
    write_text(folder / "phantom.json", json.dumps(record, indent=1) + "\n")
