"""Finding and opening of DICOM annotation objects (SR, SEG, RTSTRUCT), one by one.

A broken object is listed as unmatched and does not stop the others. Messages contain only labels
of files and coded terms: free text (region names, comments) may name a patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pydicom

from medkd.errors import SeriesError
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.file_ref import FileRef
from medkd.io.reference.places import PlaceFinder
from medkd.io.reference.rows import ReferenceRows, RowCollector, joined

Dataset = Any  # pydicom has no types here

OBJECT_KINDS = {
    "1.2.840.10008.5.1.4.1.1.88.11": "sr",
    "1.2.840.10008.5.1.4.1.1.88.22": "sr",
    "1.2.840.10008.5.1.4.1.1.88.33": "sr",
    "1.2.840.10008.5.1.4.1.1.88.34": "sr",
    "1.2.840.10008.5.1.4.1.1.88.35": "sr",
    "1.2.840.10008.5.1.4.1.1.66.4": "seg",
    "1.2.840.10008.5.1.4.1.1.66.7": "seg",
    "1.2.840.10008.5.1.4.1.1.481.3": "rtstruct",
}
"""SOP class of an annotation object to its kind of annotation source: Basic Text, Enhanced,
Comprehensive, Comprehensive 3D and Extensible SR; Segmentation and Label Map Segmentation; RT
Structure Set."""

_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
"""First bytes of a little-endian data set without preamble: group 2 or 8."""

_PUBLIC_SCHEMES = ("DCM", "FMA", "LN", "NCIt", "RADLEX", "SCT", "SNM3", "SRT", "UMLS")
"""Public coding schemes (PS3.16 chapter 8), whose meanings contain no free text."""


def read_objects(
    kind: str,
    refs: Iterable[FileRef],
    finder: PlaceFinder,
    *,
    read: Callable[[Dataset, RowCollector], None],
) -> ReferenceRows:
    """Read all objects of one kind, each once; broken and duplicate objects are unmatched.

    Args:
        kind: "sr", "seg" or "rtstruct".
        refs: files to examine; a note counts those of another kind.
        finder: the archive's series.
        read: adds the content of one object to its collector.
    """
    parts: list[ReferenceRows] = []
    seen: set[str] = set()
    strangers = 0
    for ref in refs:
        rows = RowCollector(ref.name, finder)
        with quiet_dicom():
            dataset = _opened(ref, kind)
            if dataset is None:
                strangers += 1
                continue
            uid = str(dataset.get("SOPInstanceUID", ""))
            if uid and uid in seen:
                rows.refuse("object", "the same object was read from another file", uid)
            elif _read_one(dataset, rows, read):
                seen.add(uid)
        parts.append(rows.collected())
    if strangers:
        parts.append(ReferenceRows(notes=(f"{strangers} files are not DICOM {kind.upper()}",)))
    return joined(parts)


def object_refs(kind: str, path: Path | None, found: Sequence[FileRef]) -> list[FileRef]:
    """Return the files to read: those of the user's path, or else those found in the archive.

    Raises:
        SeriesError: if the path does not exist.
    """
    if path is None:
        return list(found)
    if not path.exists():
        raise SeriesError(f"{path}: not DICOM {kind.upper()}", ["there is no such file or folder"])
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [FileRef(file, label=f"{kind} file {n}") for n, file in enumerate(files, start=1)]


def sequence(dataset: Dataset, name: str) -> Iterator[Dataset]:
    """Yield the items of a sequence; nothing if it is absent or empty."""
    yield from dataset.get(name) or ()


class Code(NamedTuple):
    """A coded term; its texts are empty if there is none."""

    value: str = ""
    meaning: str = ""
    scheme: str = ""

    @property
    def public_meaning(self) -> str:
        """The meaning if its scheme is public; the meaning of a private code may be free text."""
        return self.meaning if self.scheme in _PUBLIC_SCHEMES else "not coded"


def first_code(dataset: Dataset, name: str) -> Code:
    """Return the first item of a code sequence; an empty `Code` if there is none."""
    for item in sequence(dataset, name):
        value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
        meaning, scheme = item.get("CodeMeaning", ""), item.get("CodingSchemeDesignator", "")
        return Code(str(value or ""), str(meaning), str(scheme))
    return Code()


def _opened(ref: FileRef, kind: str) -> Dataset | None:
    """Read an object of a kind; None if it is of another kind. The preamble may be missing."""
    try:
        with ref.open() as stream:
            forced = stream.read(2) in _FIRST_GROUPS
            stream.seek(0)
            head = pydicom.dcmread(
                stream, force=forced, stop_before_pixels=True, specific_tags=["SOPClassUID"]
            )
            if OBJECT_KINDS.get(str(head.get("SOPClassUID"))) != kind:
                return None
            stream.seek(0)
            return pydicom.dcmread(stream, force=forced)
    except Exception:  # noqa: BLE001  # pydicom raises whatever it likes
        return None


def _read_one(
    dataset: Dataset, rows: RowCollector, read: Callable[[Dataset, RowCollector], None]
) -> bool:
    """Add the content of an object to `rows`; return False if it is broken (a copy may not be)."""
    try:
        read(dataset, rows)
    except Exception as error:  # noqa: BLE001  # pydicom converts values late
        uid = str(dataset.get("SOPInstanceUID", ""))
        rows.refuse("object", f"its content is damaged ({type(error).__name__})", uid)
        return False
    return True
