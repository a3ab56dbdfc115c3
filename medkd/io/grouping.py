"""Grouping of files into cases: the same rules for `medkd index` and for paths on a command line.

A DICOM series consists of all files with its SeriesInstanceUID, whatever their names and folders.
An unreadable file may be a slice of a series in the same folder: that series is then refused,
since a series without its first or last slice would look complete.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from medkd.io.dicom.kind import CT_CLASSES
from medkd.io.file_kind import FOREIGN, PACKED_DICOM, UNKNOWN, UNREADABLE, FileKind, kind_of_file
from medkd.io.file_ref import FileRef
from medkd.io.patch_files import read_patch_name
from medkd.io.walk import inaccessible_reason

_SHOWN = 3
_NAMELESS = "nameless-"
_PACKED_SUFFIXES = (".gz", ".gzip", ".bz2", ".xz", ".zst", ".z", ".7z", ".rar", ".zip")
NAMELESS_REASON = "damaged_dicom: a DICOM image without SeriesInstanceUID"

FOLDER_CODE = "unreadable_folder"
"""Reason code of a folder that cannot be entered."""


def group_key(place: str, kind: FileKind) -> str:
    """Return the key of the case that a file belongs to: a series, a patch, or the file itself.

    Args:
        place: the file's path below the root of the archive. Slices without SeriesInstanceUID
            form a series with those of the same folder and study.
        kind: type of the file.

    Returns:
        "series:UID" for CT, "series:UID:CLASS" for other images of a series, "image:UID",
        "picture:PLACE", "volume:PLACE", or "patch:FOLDER/UID_N" for the two files of a patch
        (`patch_files.py`); empty for a file that is not part of a case.
    """
    head = kind.head
    if kind.form == "series" and head is not None:
        folder = place.rpartition("/")[0]
        series = f"series:{_uid(head.seriesuid) or _nameless(folder, head.study_uid)}"
        return series if head.sop_class in CT_CLASSES else f"{series}:{_uid(head.sop_class)}"
    if kind.form == "image":
        uid = _uid(head.sop_uid) if head is not None else ""
        return f"image:{uid}" if uid else f"picture:{place}"
    if kind.form != "volume":
        return ""
    folder, slash, name = place.rpartition("/")
    if patch := read_patch_name(name):
        return f"patch:{folder}{slash}{patch.seriesuid}_{patch.number}"
    return f"volume:{place}"


class SliceNames:
    """Decides which files beside the slices of a series may be damaged slices of it.

    Args:
        names: file names of the series' slices in one folder.

    Example:
        >>> beside = SliceNames(["IM0001", "IM0002"])
        >>> beside.may_be_slice("IM0003", "other", "a text")
        True
        >>> beside.may_be_slice("IM0003.gz", "other", "a gzip file: unpack it")
        True
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._shapes: set[str] = set()
        self._suffixes: set[str] = set()
        for name in names:
            self._shapes.add(_shape(name))
            self._suffixes.add(_suffix(name))

    def may_be_slice(self, name: str, form: str, reason: str) -> bool:
        """Return whether a file that is not readable DICOM may be one of the slices.

        Args:
            name: the file's name without its folder.
            form: `FileKind.form` of the file.
            reason: `FileKind.reason` of the file.
        """
        if name.startswith("."):
            return False
        is_dicom = reason.startswith("damaged_dicom") or reason == PACKED_DICOM
        if is_dicom or _shape(name) in self._shapes or self._is_packed_slice(name):
            return True
        unknown = form == "unreadable" or reason == UNKNOWN
        return unknown and _suffix(name) in self._suffixes

    def _is_packed_slice(self, name: str) -> bool:
        """Return whether a name is that of a slice with a compression suffix (IM0001.gz)."""
        plain, dot, packed = name.lower().rpartition(".")
        if dot + packed not in _PACKED_SUFFIXES:
            return False
        suffix = _suffix(plain)
        return _shape(plain) in self._shapes or bool(suffix and suffix in self._suffixes)


def is_suspect(form: str, reason: str) -> bool:
    """Return whether a file may be a damaged slice at all: it is not readable DICOM."""
    return reason in FOREIGN or (form == "unreadable" and not reason.startswith(FOLDER_CODE))


def unread_reasons(unread: Iterable[FileRef]) -> tuple[str, ...]:
    """Return the reason to refuse a series that has unreadable files; empty if it has none.

    Args:
        unread: files that belong to the series by their header, but which its reader could not
            read as DICOM.
    """
    names = [ref.name for ref in unread]
    return (f"unreadable: {_listed(names)}: cannot be read as a slice",) if names else ()


def neighbour_reasons(slices: Iterable[FileRef], unread: Iterable[FileRef]) -> tuple[str, ...]:
    """Return the reasons to refuse a series because of other files in its folder.

    Args:
        slices: files of the series.
        unread: files beside them that are not readable DICOM, and links to missing files.
    """
    names = SliceNames(ref.path.name for ref in slices)
    kinds = [(ref, _kind_on_disk(ref)) for ref in unread]
    return suspect_reasons(
        (ref.name, kind.reason)
        for ref, kind in kinds
        if (is_suspect(kind.form, kind.reason) or is_zip_archive(kind))
        and names.may_be_slice(ref.path.name, kind.form, kind.reason)
    )


def _kind_on_disk(ref: FileRef) -> FileKind:
    try:
        size = ref.path.stat().st_size
    except OSError as error:
        return FileKind("unreadable", inaccessible_reason(error))
    return kind_of_file(ref, size)


def is_zip_archive(kind: FileKind) -> bool:
    """Return whether a file is a zip archive, which may contain slices that are not read."""
    return kind.form == "container" and not kind.names


def is_nameless(key: str) -> bool:
    """Return whether a group key is that of slices without SeriesInstanceUID."""
    return key.startswith(f"series:{_NAMELESS}")


def suspect_reasons(found: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return the reasons to refuse a series because of unreadable files beside its slices.

    Args:
        found: for each file its name in messages and the reason of its `FileKind`.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for name, reason in found:
        code, _, text = reason.partition(": ")
        names[text if code in UNREADABLE else reason].append(name)
    return tuple(
        f"unreadable: {_listed(files)}: this file beside the slices may be one of them, but it "
        f"cannot be read as a slice ({text}): restore it, or move it out of the folder"
        for text, files in names.items()
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _nameless(folder: str, study_uid: str) -> str:
    return _NAMELESS + hashlib.sha256(f"{folder}\0{study_uid}".encode()).hexdigest()[:12]


def _shape(name: str) -> str:
    return re.sub(r"\d+", "#", name.lower())


def _suffix(name: str) -> str:
    """Return the suffix of a format; digits after a dot belong to the name (as in UIDs)."""
    suffix = PurePosixPath(name.lower()).suffix
    return "" if suffix[1:].isdigit() else suffix


def _uid(text: str) -> str:
    """Replace characters that a UID cannot contain; damaged headers may have them."""
    return re.sub(r"[^\w.-]", "_", text)
