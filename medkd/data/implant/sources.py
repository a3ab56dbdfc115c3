"""The scans that nodules are put into: of an INDEX, DICOM folders, volumes; read by the gate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medkd.errors import SeriesError, SettingsError
from medkd.io.case_store import locate_case, read_case, unpacked
from medkd.io.dicom.gate import GateSettings, examine
from medkd.io.dicom.header import SliceHeader, read_headers
from medkd.io.dicom.series import read_series
from medkd.io.file_ref import FileRef
from medkd.io.index_table import IndexedCase, read_index, read_index_record
from medkd.io.scans import find_scans, read_scan
from medkd.types import Scan


@dataclass(frozen=True, slots=True)
class Source:
    """A scan: a path, or with `case` the scan of the INDEX at that path."""

    path: Path
    case: IndexedCase | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.case.case_id if self.case else self.path.name


@dataclass(frozen=True, slots=True, eq=False)
class OpenedScan:
    """A scan that was read, and the headers of its slices in order of k; none for a volume."""

    scan: Scan
    slices: tuple[SliceHeader, ...] = ()


def list_sources(inputs: Sequence[Path]) -> list[Source]:
    """List the scans at or below the inputs, each once; an INDEX gives those that are ready.

    Raises:
        SettingsError: with every input that is absent or holds no scan.
        SeriesError: if an INDEX cannot be read.
    """
    found: dict[tuple[Path, str], Source] = {}
    reasons = []
    for place in inputs:
        scans = _sources_at(place) if place.exists() else []
        if not scans:
            reasons.append(f"{place}: {'no scan in it' if place.exists() else 'no such place'}")
        found |= {(s.path, s.case.case_id if s.case else ""): s for s in scans}
    if reasons:
        raise SettingsError("there is nothing to put nodules into", reasons)
    return list(found.values())


def _sources_at(place: Path) -> list[Source]:
    if place.suffix != ".csv":
        return [Source(path) for path in find_scans(place)]
    ready = [c for c in read_index(place).cases if c.kind == "scan" and c.status == "ready"]
    return [Source(place, case) for case in ready]


@contextmanager
def opened(source: Source, gate: GateSettings) -> Iterator[OpenedScan]:
    """Read a scan; the files of its slices stay readable until the end of the block.

    Args:
        source: which one.
        gate: what a DICOM folder must be; a scan of an INDEX has passed that of the INDEX.

    Raises:
        SeriesError: with every reason why it cannot be read.
    """
    if source.case is None and not source.path.is_dir():
        yield OpenedScan(read_scan(source.path))
        return
    if source.case is None:
        files = sorted(p for p in source.path.iterdir() if not p.name.startswith("."))
        refs: tuple[FileRef, ...] = tuple(FileRef(path) for path in files if path.is_file())
    else:
        stored = locate_case(source.path, source.case.case_id)
        if stored.form != "dicom":
            yield OpenedScan(_indexed_volume(source))
            return
        refs = stored.refs
        record = read_index_record(source.path).get("settings", {})
        gate = GateSettings.model_validate(record.get("gate", {}))
    with unpacked(refs) as plain:
        headers = read_headers(plain)
        scan = read_series(headers, gate=gate)
        if source.case is not None:
            scan = Scan(source.case.case_id, scan.voxels_hu, scan.grid, source.case.patient_id,
                        scan.acquisition, scan.notes)  # fmt: skip
        yield OpenedScan(scan, examine(headers.headers, gate).ordered)


def _indexed_volume(source: Source) -> Scan:
    case = source.case
    found = read_case(source.path, case.case_id) if case else None
    if not isinstance(found, Scan):
        raise SeriesError(f"{source.name}: not a scan", ["the archive holds an image there"])
    return found
