"""Reading of DICOM annotation objects (SR, SEG, RTSTRUCT) from a path or from the archive.

A broken object is listed as unmatched and does not stop the others. Messages contain only labels
of files and coded terms: free text (region names, comments) may name a patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydantic import Field

from medkd.errors import SeriesError
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.file_ref import FileRef
from medkd.io.reference.places import ArchiveLookup
from medkd.io.reference.rows import ReferenceRows, RowCollector, joined
from medkd.io.reference.source import AnnotationSource, CountsAs

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
"""Public coding schemes (PS3.16 chapter 8): their meanings contain no free text."""

LUNG_NODULE_WORDS = ("nodule", "27925004", "786838002", "RID50149")
"""Words in a finding's name, or its codes (SNOMED CT, RadLex), that make it a lung nodule."""

OTHER_NODULE_WORDS = ("thyroid", "adrenal", "breast", "hepatic", "liver", "lymph", "renal", "skin")
"""Words in a finding's name that exclude it as a lung nodule, whatever else the name has."""


class ObjectSource(AnnotationSource):
    """DICOM objects whose items are not all lung nodules."""

    path: Path | None = Field(None, description="File or folder; none: objects in the archive.")
    findings: tuple[str, ...] = Field(
        LUNG_NODULE_WORDS,
        description="Words in an item's name, or its codes, that make it a nodule; [] accepts all "
        "items. Items with other names are listed as unmatched.",
    )
    not_findings: tuple[str, ...] = Field(
        OTHER_NODULE_WORDS,
        description="Words in an item's name that exclude it even if `findings` accepts it.",
    )
    counts_as: CountsAs = "included"

    def is_nodule(self, *texts: str) -> bool:
        """Return whether an item with these names and codes is a nodule."""
        return has_word(self.findings, *texts) and not (
            self.findings and self.not_findings and has_word(self.not_findings, *texts)
        )


def has_word(words: Sequence[str], *texts: str) -> bool:
    """Return whether a text contains one of the words, ignoring case; True without words."""
    lowered = [text.lower() for text in texts if text]
    return not words or any(word.lower() in text for word in words for text in lowered)


def read_objects(
    settings: ObjectSource,
    archive: ArchiveLookup,
    read: Callable[[Dataset, RowCollector], None],
) -> ReferenceRows:
    """Read all objects of one kind, each once; broken and duplicate objects are unmatched.

    A note counts the files of another kind.

    Args:
        settings: kind and path of the objects; without a path those of the archive are read.
        archive: the series that can be annotated.
        read: adds the content of one object to its collector.

    Raises:
        SeriesError: if the path does not exist.
    """
    kind = settings.kind
    parts: list[ReferenceRows] = []
    seen: set[str] = set()
    others = 0
    for ref in _refs(kind, settings.path) if settings.path else archive.objects.get(kind, ()):
        rows = RowCollector(ref.name, archive)
        with quiet_dicom():
            dataset = _opened(ref, kind)
            if dataset is None:
                others += 1
                continue
            uid = str(dataset.get("SOPInstanceUID", ""))
            if uid and uid in seen:
                rows.refuse("object", "the same object was read from another file", uid)
            else:
                try:
                    read(dataset, rows)
                except Exception as error:  # noqa: BLE001  # pydicom converts values late
                    reason = f"its content is damaged ({type(error).__name__})"
                    rows.refuse("object", reason, uid)
                else:
                    seen.add(uid)  # a copy of a damaged object may be intact
        parts.append(rows.collected())
    if others:
        parts.append(ReferenceRows(notes=(f"{others} files are not DICOM {kind.upper()}",)))
    return joined(parts)


def _refs(kind: str, path: Path) -> list[FileRef]:
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
        """The meaning of a public code; the meaning of a private code may be free text."""
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
    except Exception:  # noqa: BLE001  # pydicom raises many types
        return None
