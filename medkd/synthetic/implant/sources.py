"""The scans that nodules are put into: of an INDEX, DICOM folders, volumes; read by the gate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from medkd.index.case_store import locate_case, open_scan, unpacked
from medkd.index.scan_inputs import ScanInput
from medkd.index.table import read_index_record
from medkd.io.dicom.gate import GateSettings, examine
from medkd.io.dicom.header import SliceHeader, read_headers
from medkd.io.dicom.series import read_series
from medkd.io.scans import ScanPlace, headers_of, read_place
from medkd.types import Scan


@dataclass(frozen=True, slots=True, eq=False)
class OpenedScan:
    """A scan that was read, and the headers of its slices in order of k; none for a volume."""

    scan: Scan
    slices: tuple[SliceHeader, ...] = ()


@contextmanager
def opened(source: ScanInput, gate: GateSettings) -> Iterator[OpenedScan]:
    """Read a scan; the files of its slices stay readable until the end of the block.

    Args:
        source: which one.
        gate: what a DICOM folder must be, and which faults of a volume's header are accepted; a
            scan of an INDEX has passed that of the INDEX.

    Raises:
        SeriesError: with every reason why it cannot be read.
    """
    if source.case is None:
        yield _on_disk(source.place or ScanPlace(source.path, (source.path,)), gate)
        return
    stored = locate_case(source.path, source.case.case_id)
    if stored.form != "dicom":
        yield OpenedScan(open_scan(source.path, source.case.case_id))
        return
    record = read_index_record(source.path).get("settings", {})
    gate = GateSettings.model_validate(record.get("gate", {}))
    with unpacked(stored.refs) as plain:
        headers = read_headers(plain)
        scan = read_series(
            headers, gate=gate, seriesuid=source.case.case_id, patient_id=source.case.patient_id
        )
        yield OpenedScan(scan, examine(headers.headers, gate).ordered)


def _on_disk(place: ScanPlace, gate: GateSettings) -> OpenedScan:
    if not place.seriesuid:
        return OpenedScan(read_place(place, gate=gate))
    headers = headers_of(place)
    scan = read_series(headers, gate=gate, seriesuid=place.seriesuid)
    return OpenedScan(scan, examine(headers.headers, gate).ordered)
