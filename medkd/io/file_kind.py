"""Classification of one file by its content: a CT slice, a radiograph, a volume, or something else.

Names are not trusted: DICOM is detected by its bytes (`dicom/dataset.py`), and pictures, volumes
and zip archives by their first bytes. Only the beginning of a file is read, never pixels. A
`DicomHead` contains identities: it belongs to the private side of an INDEX and is never shown.
Files whose names begin with a dot are system files and are ignored, unless they are DICOM.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

import pydicom
from pydicom.uid import UID

from medkd.io import metaimage, nrrd
from medkd.io.data_files import find_data_files
from medkd.io.dicom.codes import Fault
from medkd.io.dicom.dataset import HEAD_BYTES, looks_like_damaged_dicom, looks_like_dicom
from medkd.io.dicom.kind import CT_CLASSES
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.tags import text_of
from medkd.io.file_ref import FileRef
from medkd.io.reference import OBJECT_KINDS
from medkd.io.voxel_data import GZIP_BITS

FileForm = Literal[
    "series", "image", "volume", "annotation", "table", "container", "other", "unreadable"
]


@dataclass(frozen=True, slots=True, repr=False)
class DicomHead:
    """Header values that identify the series, study and patient of a DICOM file.

    These values are never shown. `identity` has the texts of the header that name the patient or
    the examination.
    """

    sop_class: str
    sop_uid: str
    seriesuid: str
    study_uid: str = ""
    patient_id: str = ""
    study_date: str = ""
    institution: str = ""
    station: str = ""
    manufacturer: str = ""
    identity: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileKind:
    """The type of a file.

    Args:
        form: "series" is one image of a DICOM series, "image" one radiograph, "volume" a CT in
            one file, "annotation" a DICOM object of `OBJECT_KINDS`, "table" may contain
            annotations, "container" lists (DICOMDIR) or contains (zip) other files.
        reason: why the file is not a case; empty for series, image, volume. For an unreadable
            file it is "code: text", with a code of `UNREADABLE`.
        head: header values of a DICOM file; else None.
        companion: voxel files that it needs (of an .mhd, or of a .nrrd with a data file), one per
            line.
        names: files that a DICOMDIR lists, as paths relative to its folder.
    """

    form: FileForm
    reason: str = ""
    head: DicomHead | None = field(default=None, repr=False)
    companion: str = field(default="", repr=False)
    names: tuple[str, ...] = field(default=(), repr=False)


UNREADABLE = {
    "unreadable_folder": "folders that cannot be entered",
    "no_permission": "files without permission to read them",
    "missing_file": "links to files that do not exist",
    "empty_file": "empty files",
    "damaged_dicom": "DICOM files that are truncated or damaged",
    "damaged_file": "files that are truncated, damaged or of another type than their names state",
    "damaged_zip": "zip archives that are damaged or encrypted",
}
"""Code of an unreadable file to the words for such files."""

_HEAD_BYTES = 4096

_TAGS = [
    "TransferSyntaxUID", "MediaStorageSOPClassUID", "SOPClassUID", "SOPInstanceUID", "Modality",
    "SeriesInstanceUID", "StudyInstanceUID", "StudyDate", "PatientID", "PatientName",
    "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "AccessionNumber",
    "InstitutionName", "StationName", "Manufacturer", "Rows", "ImagePositionPatient",
]  # fmt: skip

_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "OtherPatientIDs",
             "OtherPatientNames", "AccessionNumber")  # fmt: skip

_DIRECTORY = "1.2.840.10008.1.3.10"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CT = _STORAGE + "2"
_CAPTURE = _STORAGE + "7"
_RADIOGRAPHS = tuple(_STORAGE + kind for kind in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3",
                                                  "1.3.1"))  # fmt: skip
"""CR, DX, mammography and intra-oral images: each file is one case, which the gate may refuse."""

_CAPTURED_XRAYS = ("CR", "DX", "DR", "RG", "MG", "PX", "IO")
_NO_IMAGE = ("88", "11", "104", "9", "66", "67", "68", "481.2", "481.3", "481.4", "481.5", "481.6",
             "481.7", "481.8", "481.9")  # fmt: skip
"""Storage classes without images: reports, presentation states, documents, waveforms, raw data,
registrations, RT objects (RT images, 481.1, are images)."""

_PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_NOT_READ = {
    b"II*\0": "a TIFF picture", b"MM\0*": "a TIFF picture", b"GIF8": "a GIF picture",
    b"BM": "a BMP picture", b"\0\0\0\x0cjP  ": "a JPEG 2000 picture", b"%PDF": "a PDF document",
    b"7z\xbc\xaf": "a 7z archive: unpack it", b"Rar!": "a RAR archive: unpack it",
    b"\x1f\x8b": "a gzip file: unpack it", b"BZh": "a bzip2 file: unpack it",
    b"\xfd7zXZ": "an xz file: unpack it", b"\x28\xb5\x2f\xfd": "a zstd file: unpack it",
    b"\x1f\x9d": "a compress file: unpack it",
    b"\x93NUMPY": "a NumPy array: it has no geometry", b"\x89HDF": "an HDF5 file",
    b"\x80\x02": "a pickle", b"\x80\x04": "a pickle", b"MZ": "a program", b"\x7fELF": "a program",
}  # fmt: skip
"""First bytes of a file to its type, for types that medkd does not read."""

UNKNOWN = "not a picture, volume or table of a known format"
TEXT = f"{UNKNOWN}: a text"
PACKED_DICOM = "a gzip file that contains DICOM: unpack it"
FOREIGN = frozenset((TEXT, UNKNOWN, PACKED_DICOM, *_NOT_READ.values()))
"""Reasons of files that are not DICOM."""

_HIDDEN = FileKind("other", "a hidden file: its name begins with a dot")
_TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".xlsx", ".json")
_NRRD = b"NRRD000"
_SQLITE = b"SQLite format 3"
_NRRD_SUFFIXES = (".nrrd", ".nhdr")


def is_sqlite(path: Path) -> bool:
    """Return whether a file is an SQLite database; only its beginning is read."""
    with path.open("rb") as stream:
        return stream.read(len(_SQLITE)) == _SQLITE


def kind_of_file(ref: FileRef, size: int) -> FileKind:
    """Classify a file by its content.

    Args:
        ref: the file, or a member of a zip archive.
        size: its size in bytes.
    """
    is_hidden = PurePosixPath(ref.member or ref.path.name).name.startswith(".")
    if size == 0:
        empty = FileKind("unreadable", "empty_file: the file is empty")
        return _HIDDEN if is_hidden else empty
    is_dicom = False
    try:
        with _opened(ref) as stream:
            head = stream.read(_HEAD_BYTES)
            is_dicom = looks_like_dicom(head)
            if is_dicom:
                stream.seek(0)
                return _dicom_kind(stream)
            return _HIDDEN if is_hidden else _plain_kind(ref, head)
    except Exception as error:  # noqa: BLE001  # pydicom, gzip and zipfile raise whatever they like
        code = _code_of(error, is_dicom=is_dicom)
        return FileKind("unreadable", f"{code}: its beginning cannot be read ({_worded(error)})")


def _code_of(error: Exception, *, is_dicom: bool) -> str:
    if isinstance(error, PermissionError):
        return "no_permission"
    if isinstance(error, FileNotFoundError):
        return "missing_file"
    if isinstance(error, zipfile.BadZipFile | RuntimeError) and not is_dicom:
        return "damaged_zip"
    return "damaged_dicom" if is_dicom else "damaged_file"


def _dicom_kind(stream: BinaryIO) -> FileKind:
    with quiet_dicom():
        dataset: Any = pydicom.dcmread(
            stream, stop_before_pixels=True, specific_tags=_TAGS, force=True
        )
        stated = text_of(dataset.file_meta, "MediaStorageSOPClassUID")
        modality = text_of(dataset, "Modality").upper()
        head = _head_of(dataset, stated)
        is_slice = modality == "CT" and text_of(dataset, "ImagePositionPatient")
        if is_slice and head.sop_class not in CT_CLASSES and not _is_capture(head):
            # It counts as a CT slice in spite of its class; the reader then refuses the series.
            head = replace(head, sop_class=_CT)
        if _DIRECTORY in (head.sop_class, stated):
            stream.seek(0)
            names = _names_in_directory(pydicom.dcmread(stream, force=True))
            return FileKind("container", "the directory of a DICOM medium", names=names)
        if not head.sop_class:
            return _damaged("a DICOM header without SOPClassUID: truncated or damaged", head)
        if not head.seriesuid and not text_of(dataset, "Rows"):
            return _damaged("a DICOM header that ends before its SeriesInstanceUID", head)
        return _kind_of_class(head, modality)


def _head_of(dataset: Any, stated_class: str) -> DicomHead:  # noqa: ANN401  # pydicom's Dataset
    values = {text_of(dataset, name) for name in _IDENTITY} - {""}
    return DicomHead(
        sop_class=text_of(dataset, "SOPClassUID") or stated_class,
        sop_uid=text_of(dataset, "SOPInstanceUID"),
        seriesuid=text_of(dataset, "SeriesInstanceUID"),
        study_uid=text_of(dataset, "StudyInstanceUID"),
        patient_id=text_of(dataset, "PatientID"),
        study_date=text_of(dataset, "StudyDate"),
        institution=text_of(dataset, "InstitutionName"),
        station=text_of(dataset, "StationName"),
        manufacturer=text_of(dataset, "Manufacturer"),
        identity=tuple(sorted(values)),
    )


def _is_capture(head: DicomHead) -> bool:
    return head.sop_class.startswith(_CAPTURE)


def _kind_of_class(head: DicomHead, modality: str) -> FileKind:
    kind = head.sop_class
    if kind in OBJECT_KINDS:
        return FileKind("annotation", f"a DICOM {OBJECT_KINDS[kind].upper()} object", head)
    if not kind.startswith(_STORAGE):
        return FileKind("other", f"not of a DICOM storage class: {_class_name(kind)}", head)
    branch = kind.removeprefix(_STORAGE)
    if any(branch == part or branch.startswith(f"{part}.") for part in _NO_IMAGE):
        prefix = "dose_report: " if branch in ("88.67", "88.73") else ""
        return FileKind("other", f"{prefix}not an image: {_class_name(kind)}", head)
    captured = _is_capture(head) and modality in _CAPTURED_XRAYS
    if kind in _RADIOGRAPHS or captured:
        return FileKind("image", head=head)
    return FileKind("series", head=head)


def _damaged(text: str, head: DicomHead | None = None) -> FileKind:
    return FileKind("unreadable", f"damaged_dicom: {text}", head)


def _names_in_directory(dataset: Any) -> tuple[str, ...]:  # noqa: ANN401  # pydicom's Dataset
    """Return the paths that a DICOMDIR lists, relative to its folder (PS3.3 F.3.2.2)."""
    names = []
    for record in dataset.get("DirectoryRecordSequence") or []:
        parts = record.get("ReferencedFileID")
        if parts:
            names.append("/".join([parts] if isinstance(parts, str) else map(str, parts)))
    return tuple(names)


def _plain_kind(ref: FileRef, head: bytes) -> FileKind:
    """Classify a file that is not DICOM."""
    name = (ref.member or ref.path.name).lower()
    if any(head.startswith(magic) for magic in _PICTURES):
        return FileKind("image")
    if head.startswith(b"PK\x03\x04"):
        return FileKind("container", "a zip archive")
    volume = _volume_kind(ref, name, head)
    if volume:
        return volume
    if head.startswith(_SQLITE) or name.endswith(_TABLE_SUFFIXES):
        return FileKind("table", "a table: it is read if it is named as a source of annotations")
    return _foreign_kind(name, head)


def _foreign_kind(name: str, head: bytes) -> FileKind:
    """Classify a file that medkd does not read, or that is damaged."""
    if looks_like_damaged_dicom(head):
        return _damaged("its beginning is damaged or truncated")
    meaning = next((text for magic, text in _NOT_READ.items() if head.startswith(magic)), "")
    if _contains_packed_dicom(head):
        meaning = PACKED_DICOM
    if not meaning and name.endswith((".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg")):
        return _wrong_content("its content does not match its name")
    return FileKind("other", meaning or (TEXT if _is_text(head) else UNKNOWN))


def _contains_packed_dicom(head: bytes) -> bool:
    try:
        begin = zlib.decompressobj(GZIP_BITS).decompress(head, HEAD_BYTES)
    except zlib.error:
        return False
    return looks_like_dicom(begin) or looks_like_damaged_dicom(begin)


def _wrong_content(text: str) -> FileKind:
    return FileKind("unreadable", f"damaged_file: {text}")


def _is_text(head: bytes) -> bool:
    """Return whether bytes are text: no control characters except line breaks, tabs and escape."""
    return not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)


def _volume_kind(ref: FileRef, name: str, head: bytes) -> FileKind | None:
    if name.endswith((".mhd", ".mha")):
        return _metaimage_kind(ref, head)
    if head.startswith(_NRRD):
        if name.endswith(_NRRD_SUFFIXES):
            return FileKind("volume", companion=_nrrd_companions(ref, head))
        return FileKind("other", "an NRRD volume with another suffix: rename it to .nrrd or .nhdr")
    if name.endswith(".nii.gz"):
        with ref.open() as stream, gzip.GzipFile(fileobj=stream) as unpacked:
            head = unpacked.read(352)
    if name.endswith((".nii", ".nii.gz")):
        known = head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0"
        return FileKind("volume") if known else _wrong_content("it has no NIfTI header")
    if name.endswith(_NRRD_SUFFIXES):
        return _wrong_content("it has no NRRD header")
    return None


def _metaimage_kind(ref: FileRef, head: bytes) -> FileKind:
    header = metaimage.read_metaimage_header(io.BytesIO(head))
    if header.is_list or "elementdatafile" not in header.values:  # `head` may be cut off
        with ref.open() as stream:
            header = metaimage.read_metaimage_header(stream)
    if "ndims" not in header.values and "elementdatafile" not in header.values:
        return _wrong_content("it has no MetaImage header")
    stated = header.listed or (header.values.get("elementdatafile", ""),)
    return FileKind("volume", companion=_companions(ref, metaimage.data_names(header), stated))


def _nrrd_companions(ref: FileRef, head: bytes) -> str:
    text, end, _ = head.partition(b"\n\n")
    if end and b"data" not in text.lower():
        return ""
    with ref.open() as stream:
        header = nrrd.read_nrrd_header(stream)
    stated = header.listed or (header.fields.get("data file", ""),)
    return _companions(ref, nrrd.data_names(header), stated)


def _companions(ref: FileRef, names: list[str] | Fault, stated: Iterable[str]) -> str:
    """Return the voxel files of a header, one per line, spelled as on the disk.

    The paths are relative to the header's folder; the files need not exist. If the header names
    its files in an unsupported way, its own text `stated` is returned.
    """
    if isinstance(names, Fault):
        names = [name for name in dict.fromkeys(stated) if name]
    folder = ref.path.parent
    files = find_data_files(folder, names)
    if ref.member is not None or isinstance(files, Fault):
        return "\n".join(names)
    return "\n".join(file.relative_to(folder).as_posix() for file in files)


@contextmanager
def _opened(ref: FileRef) -> Iterator[BinaryIO]:
    """Open a file to read its beginning; a zip archive stays open for its next member."""
    if ref.member is None:
        with ref.path.open("rb") as stream:
            yield stream
        return
    changed = ref.path.stat().st_mtime_ns
    with _zip_archive(ref.path, changed).open(ref.member) as member:
        yield cast("BinaryIO", member)


@lru_cache(maxsize=1)
def _zip_archive(path: Path, _changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _class_name(sop_class: str) -> str:
    name = UID(sop_class).name
    return "an unknown SOP class" if name == sop_class else name.removesuffix(" Storage")


def _worded(error: Exception) -> str:
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return "the zip archive is encrypted"
    return type(error).__name__
