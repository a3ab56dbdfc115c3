"""From a case of an INDEX back to its files, and to the DICOM image of one slice.

The caller has recorded the look-up in the audit before (`pseudonyms.LinkTable.look_up`); the
functions here only read.
"""

from __future__ import annotations

from pathlib import Path

from medkd.errors import SeriesError
from medkd.index.case_store import CaseFiles, gate_of, locate_case, unpacked
from medkd.index.pseudonyms import Link
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.series import read_series, slice_fact
from medkd.io.file_ref import FileRef


def look_up_files(index: Path, case_id: str) -> tuple[Link, ...]:
    """Name every file of a case.

    Raises:
        SeriesError: if the INDEX does not hold the case.
    """
    return tuple(Link("file", _place_of(ref)) for ref in locate_case(index, case_id).refs)


def look_up_slice(index: Path, case_id: str, number: int) -> tuple[Link, ...]:
    """Name the DICOM image of a slice of a case.

    Args:
        index: index.csv, its private folder beside it.
        case_id: of a scan.
        number: of the slice, counted from 1 along k as in `results.csv`.

    Returns:
        SOPInstanceUID, InstanceNumber and file, as far as they are known.

    Raises:
        SeriesError: if the case is not a DICOM series, cannot be read, or has no such slice.
    """
    case = locate_case(index, case_id)
    if case.form != "dicom":
        reason = f"it is stored as one {case.form}: its slices are no DICOM images of their own"
        raise SeriesError(f"{case_id}: no slice to look up", [reason])
    with unpacked(case.refs) as refs:
        facts = read_series(refs, gate=gate_of(index), seriesuid=case_id).slices
        if not 1 <= number <= len(facts):
            reason = f"expected a slice from 1 to {len(facts)}, got {number}"
            raise SeriesError(f"{case_id}: no slice to look up", [reason])
        wanted = facts[number - 1]
        # Unpacked copies are in another place, so files are identified by their position.
        headers = read_headers(refs).headers
        files = [refs.index(h.ref) for h in headers if slice_fact(h) == wanted]
    known = {
        "sop_instance_uid": wanted.sop_instance_uid,
        "instance_number": wanted.instance_number,
        "frame_number": wanted.frame_number,
    }
    named = [Link(kind, str(value)) for kind, value in known.items() if value not in (None, "")]
    return (*named, *_files(case, files))


def _files(case: CaseFiles, numbers: list[int]) -> tuple[Link, ...]:
    return tuple(Link("file", _place_of(case.refs[number])) for number in numbers)


def _place_of(ref: FileRef) -> str:
    place = str(ref.path) if ref.member is None else f"{ref.path}: {ref.member}"
    return place.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
