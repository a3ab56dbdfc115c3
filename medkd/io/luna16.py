"""Reader of LUNA16 in its official layout, and of any data set in the same layout.

    ROOT/subset0 ... subset9/<seriesuid>.mhd with its .raw
    annotations.csv, annotations_excluded.csv, candidates.csv, candidates_V2.csv, seriesuids.csv
        at ROOT, or in ROOT/CSVFILES or ROOT/evaluationScript/annotations

Reads tables and headers, never voxels. An inconsistent set is refused with all reasons. A copy
with only some subsets is read with `allow_partial`, which is recorded in the notes. A root with
a file `phantom.json` is synthetic; the file states which generator made it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from medkd.errors import SeriesError
from medkd.files import sha256_of
from medkd.geometry import VoxelGrid
from medkd.io.luna16_tables import (
    read_annotations,
    read_candidates,
    read_excluded,
    read_seriesuids,
)
from medkd.io.metaimage import data_reasons
from medkd.io.synthetic_mark import stamp_of
from medkd.io.tables import shortened
from medkd.types import LabelledCandidate, Nodule, Point

T = TypeVar("T")
Row = TypeVar("Row", Nodule, LabelledCandidate)

SUBSETS = range(10)
TABLE_FOLDERS = (".", "CSVFILES", "evaluationScript/annotations")
"""Folders below the root in which the official downloads have their tables."""
MAX_NAMED = 10
"""Most scans or points named in one kind of reason; the others are only counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Luna16Set:
    """A set in LUNA16's layout: its scans and all rows that belong to them.

    `subset` is the fold (0..9) of each scan; `seriesuids` lists the present scans in the order of
    the official list. `generator` is the stamp of the generator of a synthetic set, empty for a
    real set. `fingerprint` covers tables, headers and the sizes of the voxel files, not the
    voxels.
    """

    root: Path
    scan_paths: dict[str, Path]
    subset: dict[str, int]
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    candidates: tuple[LabelledCandidate, ...]
    seriesuids: tuple[str, ...]
    fingerprint: str
    generator: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """The four tables and their paths."""

    nodules: list[Nodule]
    excluded: list[Nodule]
    candidates: list[LabelledCandidate]
    seriesuids: list[str]
    paths: tuple[Path, ...]


def read_luna16(
    root: Path,
    *,
    candidates: Literal["candidates_V2", "candidates"] = "candidates_V2",
    allow_partial: bool = False,
) -> Luna16Set:
    """Read tables and scan headers of a LUNA16 root, without voxels.

    Args:
        root: folder that contains the subsets.
        candidates: name of the table of candidates to use.
        allow_partial: leave out the rows of series without a scan, and note how many.

    Raises:
        SeriesError: with all reasons: no subset folder, a missing or faulty table, a header
            whose voxel file is missing or has another size, a scan in two subsets, a scan or a
            row whose series is not in seriesuids.csv, a listed series without a scan.
    """
    reasons: list[str] = []
    found = _find_scans(root, reasons)
    tables = _read_tables(root, candidates, reasons)
    scan_paths = {uid: paths[0] for uid, paths in found.items()}
    absent = [uid for uid in tables.seriesuids if uid not in scan_paths]
    if tables.seriesuids:
        reasons += _compare_names(tables, scan_paths, absent=() if allow_partial else absent)
    reasons += shortened(
        [
            f"{path.parent.name}/{path.name}: {reason}"
            for path in scan_paths.values()
            for reason in data_reasons(path)
        ],
        MAX_NAMED,
    )
    if reasons:
        raise SeriesError(f"{root}: not a usable set in LUNA16's layout", reasons)
    kept = set(scan_paths)
    return Luna16Set(
        root=root,
        scan_paths=scan_paths,
        subset={uid: int(path.parent.name[-1]) for uid, path in scan_paths.items()},
        nodules=_rows_of(tables.nodules, kept),
        excluded=_rows_of(tables.excluded, kept),
        candidates=_rows_of(tables.candidates, kept),
        seriesuids=tuple(uid for uid in tables.seriesuids if uid in kept),
        fingerprint=_fingerprint(root, scan_paths.values(), tables.paths),
        generator=stamp_of(root, levels=0),
        notes=(_partial_note(tables, kept, absent),) if absent else (),
    )


def check_coordinates(luna: Luna16Set, headers: Mapping[str, VoxelGrid]) -> list[str]:
    """Return a reason for each nodule and candidate that lies outside the volume of its scan.

    Irrelevant findings (annotations_excluded.csv) are not checked: outside a volume they have no
    effect.

    Args:
        luna: the set to check.
        headers: the grid of each scan, by seriesuid.

    Returns:
        At most `MAX_NAMED` reasons, followed by the number of further ones ("and 3 more"); empty
        if all points lie inside.
    """
    reasons = []
    for kind, rows in (("nodule", luna.nodules), ("candidate", luna.candidates)):
        points: dict[str, list[Point]] = defaultdict(list)
        for row in rows:
            points[row.seriesuid].append(row.center_mm)
        for uid, places in sorted(points.items()):
            inside = headers[uid].contains_world(np.asarray(places))
            reasons += [
                f"{uid}: {kind} at ({x:g}, {y:g}, {z:g}) mm lies outside the volume"
                for (x, y, z), within in zip(places, inside.tolist(), strict=True)
                if not within
            ]
    return shortened(reasons, MAX_NAMED)


def _find_scans(root: Path, reasons: list[str]) -> dict[str, list[Path]]:
    """Return the header files of all subsets by seriesuid; add faults to `reasons`."""
    folders = [root / f"subset{number}" for number in SUBSETS]
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        reasons.append(f"expected folders subset0 to subset9 in {root}, found none")
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in present:
        for path in sorted(folder.glob("*.mhd")):
            found[path.stem].append(path)
    if present and not found:
        reasons.append("the subset folders contain no .mhd file")
    reasons += shortened(
        [
            f"series {uid} is in {' and '.join(path.parent.name for path in paths)}"
            for uid, paths in found.items()
            if len(paths) > 1
        ],
        MAX_NAMED,
    )
    return dict(found)


def _read_tables(root: Path, candidates: str, reasons: list[str]) -> _Tables:
    paths: list[Path] = []

    def read(name: str, reader: Callable[[Path], list[T]]) -> list[T]:
        places = [root / folder / f"{name}.csv" for folder in TABLE_FOLDERS]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            reasons.append(f"{name}.csv is missing: expected in {', '.join(TABLE_FOLDERS)}")
            return []
        paths.append(path)
        try:
            return reader(path)
        except SeriesError as error:
            reasons.extend(f"{path.name}: {reason}" for reason in error.reasons)
            return []

    return _Tables(
        nodules=read("annotations", read_annotations),
        excluded=read("annotations_excluded", read_excluded),
        candidates=read(candidates, read_candidates),
        seriesuids=read("seriesuids", read_seriesuids),
        paths=tuple(paths),
    )


def _compare_names(
    tables: _Tables, scan_paths: Mapping[str, Path], *, absent: Sequence[str]
) -> list[str]:
    """Return the reasons why scans and rows do not match the list of series."""
    listed = set(tables.seriesuids)
    reasons = shortened(
        [f"scan {uid} is not in seriesuids.csv" for uid in scan_paths if uid not in listed],
        MAX_NAMED,
    )
    if absent:
        reasons.append(
            f"{len(absent)} series of seriesuids.csv have no scan, the first is {absent[0]}; "
            "set allow_partial to read a partial copy without their rows"
        )
    rows_of: dict[str, Sequence[Nodule] | Sequence[LabelledCandidate]] = {
        "annotations": tables.nodules,
        "annotations_excluded": tables.excluded,
        "candidates": tables.candidates,
    }
    for table, rows in rows_of.items():
        unknown = sorted({row.seriesuid for row in rows} - listed)
        texts = [f"{table}: series {uid} is not in seriesuids.csv" for uid in unknown]
        reasons += shortened(texts, MAX_NAMED)
    return reasons


def _partial_note(tables: _Tables, kept: set[str], absent: Sequence[str]) -> str:
    counts = {
        "nodules": sum(row.seriesuid not in kept for row in tables.nodules),
        "excluded findings": sum(row.seriesuid not in kept for row in tables.excluded),
        "candidates": sum(row.seriesuid not in kept for row in tables.candidates),
    }
    left_out = ", ".join(f"{count} {name}" for name, count in counts.items())
    return (
        f"partial copy: {len(absent)} of {len(tables.seriesuids)} series have no scan here; "
        f"left out with them: {left_out}"
    )


def _rows_of(rows: Sequence[Row], kept: set[str]) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.seriesuid in kept)


def _fingerprint(root: Path, headers: Iterable[Path], tables: Sequence[Path]) -> str:
    """Hash tables, headers and sizes of voxel files, independently of the folder of the set."""
    digest = hashlib.sha256()
    for path in sorted(tables):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    for path in sorted(headers):
        raw = path.with_suffix(".raw")
        size = raw.stat().st_size if raw.is_file() else 0
        digest.update(f"{path.relative_to(root).as_posix()} {sha256_of(path)} {size}\n".encode())
    return digest.hexdigest()
