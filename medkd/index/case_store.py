"""The files of each indexed case, and the only way to read its pixels.

The store is `files.sqlite` in the private folder of an INDEX (mode 0600). Paths of an archive often
contain names, so the store never leaves the hospital. Training, detection and the viewer read
pixels through `open_scan` and `open_image`. Their messages name cases, and files by their label;
they never contain a path. `look_up_files` and `look_up_slice` return real paths and UIDs: the
caller must have recorded the look-up in the audit (`pseudonyms.LinkTable.look_up`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from medkd.errors import SeriesError, printable
from medkd.files import replacing
from medkd.index.case import Case
from medkd.index.pseudonyms import Link, private_folder_of
from medkd.index.table import read_index_record
from medkd.io.dicom.gate import GateSettings, scan_reasons
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.series import read_series, slice_fact
from medkd.io.file_ref import FileRef
from medkd.io.patch_files import pair_files
from medkd.io.radiograph.gate import VIEWABLE
from medkd.io.radiograph.read import read_radiograph
from medkd.io.volume import read_volume, volume_suffix
from medkd.types import Radiograph, Scan

STORE_FILE = "files.sqlite"

CaseForm = Literal["dicom", "volume", "patch", "image"]

_SCHEMA = """
CREATE TABLE cases (
    case_id TEXT PRIMARY KEY, patient_id TEXT NOT NULL, form TEXT NOT NULL, reasons TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE files (
    case_id TEXT NOT NULL, place INTEGER NOT NULL, path BLOB NOT NULL, member TEXT,
    label TEXT NOT NULL, PRIMARY KEY (case_id, place)
) WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """The files of one case: a DICOM series, a volume, a patch, or one radiograph.

    A volume is one file, followed by the file with its voxels if they are separate (.mhd). A patch
    is an image and its segmentation, in any order.
    """

    form: CaseForm
    refs: tuple[FileRef, ...]


def write_case_store(
    index: Path, cases: Iterable[tuple[Case, CaseFiles]], *, settings: str = "{}"
) -> None:
    """Write the store of an INDEX atomically.

    Args:
        index: index.csv; its private folder must exist.
        cases: every case with its files, including refused cases.
        settings: JSON of what was accepted when the cases were checked: `gate` (`GateSettings`)
            for series, `allow_images` for radiographs.
    """
    place = private_folder_of(index) / STORE_FILE
    with replacing(place) as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(temporary)) as connection, connection:
            connection.executescript(_SCHEMA)
            connection.execute("INSERT INTO settings VALUES ('read', ?)", (settings,))
            for case, files in cases:
                connection.execute(
                    "INSERT INTO cases VALUES (?, ?, ?, ?)",
                    (case.case_id, case.patient_id, files.form, json.dumps(case.reasons)),
                )
                connection.executemany(
                    "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
                    [
                        (case.case_id, number, os.fsencode(ref.path), ref.member, ref.label)
                        for number, ref in enumerate(files.refs)
                    ],
                )


def locate_case(index: Path, case_id: str) -> CaseFiles:
    """Find the files of a case.

    Args:
        index: index.csv, its private folder beside it.
        case_id: as in the INDEX.

    Raises:
        SeriesError: if the store is missing or does not contain the case.
    """
    return _stored(index, case_id).files


def open_scan(index: Path, case_id: str, *, refused: bool = False) -> Scan:
    """Read a scan of an INDEX.

    Args:
        index: index.csv, its private folder beside it.
        case_id: as in the INDEX.
        refused: also read a refused case, for a reader to see, as far as it can be decoded.

    Returns:
        The scan with its case_id and the patient's pseudonym. It has the UIDs of its slices only
        under `identity: keep`. Its notes list the faults that were accepted.

    Raises:
        SeriesError: if there is no such case, if it is not analysed (with its reasons) or no scan,
            or if its files are missing or unreadable.
    """
    found = _read(index, case_id, refused=refused)
    if not isinstance(found, Scan):
        raise SeriesError(f"{case_id}: not a scan", ["the case is an image"])
    if keeps_identity(index):
        return found
    return replace(found, slices=tuple(replace(s, sop_instance_uid="") for s in found.slices))


def open_image(index: Path, case_id: str, *, refused: bool = False) -> Radiograph:
    """Read a radiograph of an INDEX; the arguments are those of `open_scan`.

    A refused picture whose pixels may name the patient is never read (`gate.VIEWABLE`).

    Raises:
        SeriesError: if the case is a scan; otherwise for the reasons of `open_scan`.
    """
    found = _read(index, case_id, refused=refused)
    if not isinstance(found, Radiograph):
        raise SeriesError(f"{case_id}: not an image", ["the case is a scan"])
    return found


def look_up_files(index: Path, case_id: str) -> tuple[Link, ...]:
    """Return every file of a case.

    Raises:
        SeriesError: if the INDEX does not contain the case.
    """
    return tuple(map(_link_to, locate_case(index, case_id).refs))


def look_up_slice(index: Path, case_id: str, number: int) -> tuple[Link, ...]:
    """Return the DICOM image of a slice of a case.

    Args:
        index: index.csv, its private folder beside it.
        case_id: of a scan.
        number: of the slice, counted from 1 along k as in `results.csv`.

    Returns:
        SOPInstanceUID, InstanceNumber, frame number and file, as far as they are known.

    Raises:
        SeriesError: if the case is not a DICOM series, cannot be read, or has no such slice.
    """
    case = _stored(index, case_id)
    if case.files.form != "dicom":
        reason = f"it is stored as one {case.files.form}: its slices are not separate DICOM images"
        raise SeriesError(f"{case_id}: no slice to look up", [reason])
    with unpacked(case.files.refs) as refs:
        facts = read_series(refs, gate=case.gate, seriesuid=case_id).slices
        if not 1 <= number <= len(facts):
            reason = f"expected a slice from 1 to {len(facts)}, got {number}"
            raise SeriesError(f"{case_id}: no slice to look up", [reason])
        wanted = facts[number - 1]
        # Unpacked copies have other paths, so files are identified by their position.
        headers = read_headers(refs).headers
        numbers = [refs.index(h.ref) for h in headers if slice_fact(h) == wanted]
    known = {
        "sop_instance_uid": wanted.sop_instance_uid,
        "instance_number": wanted.instance_number,
        "frame_number": wanted.frame_number,
    }
    named = [Link(kind, str(value)) for kind, value in known.items() if value not in (None, "")]
    return (*named, *(_link_to(case.files.refs[number]) for number in numbers))


def _link_to(ref: FileRef) -> Link:
    place = str(ref.path) if ref.member is None else f"{ref.path}: {ref.member}"
    raw = place.encode("utf-8", "surrogateescape")
    return Link("file", raw.decode("utf-8", "backslashreplace"))


class _Stored(NamedTuple):
    """A case of the store, and the settings with which `medkd index` checked all cases.

    `settings` says which faults were accepted (`write_case_store`); `reasons` is empty unless the
    case was refused.
    """

    patient_id: str
    reasons: tuple[str, ...]
    files: CaseFiles
    settings: Mapping[str, Any]

    @property
    def gate(self) -> GateSettings:
        gate = GateSettings.model_validate(self.settings.get("gate", {}))
        return gate.for_viewing() if self.reasons else gate

    @property
    def allow_images(self) -> tuple[str, ...]:
        return (*self.settings.get("allow_images", ()), *(VIEWABLE if self.reasons else ()))


def _stored(index: Path, case_id: str) -> _Stored:
    with _opened(index) as connection:
        found = connection.execute(
            "SELECT patient_id, form, reasons FROM cases WHERE case_id = ?", (case_id,)
        ).fetchone()
        if found is None:
            raise SeriesError(f"{case_id}: no such case", [f"{index} does not contain it"])
        rows = connection.execute(
            "SELECT path, member, label FROM files WHERE case_id = ? ORDER BY place", (case_id,)
        )
        refs = tuple(FileRef(Path(os.fsdecode(path)), *rest) for path, *rest in rows)
        (settings,) = connection.execute(
            "SELECT value FROM settings WHERE name = 'read'"
        ).fetchone()
    patient_id, form, reasons = found
    files = CaseFiles(form, refs)
    return _Stored(patient_id, tuple(json.loads(reasons)), files, json.loads(settings))


def _read(index: Path, case_id: str, *, refused: bool) -> Scan | Radiograph:
    case = _stored(index, case_id)
    if case.reasons and not refused:
        raise SeriesError(f"{case_id}: not analysed", case.reasons)
    refs = case.files.refs
    missing = [ref.name for ref in refs if not ref.path.exists()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        reasons = [f"{shown}: no longer where it was: run medkd index again, it resumes"]
        raise SeriesError(f"{case_id}: its files are missing", reasons)
    try:
        return _read_files(case_id, case)
    except SeriesError as error:
        reasons = [without_paths(reason, refs) for reason in error.reasons]
        raise SeriesError(f"{case_id}: cannot be read", reasons) from None


def _read_files(case_id: str, case: _Stored) -> Scan | Radiograph:
    refs, patient_id, gate = case.files.refs, case.patient_id, case.gate
    if case.files.form == "image":
        allow = case.allow_images
        return read_radiograph(refs[0], imageuid=case_id, patient_id=patient_id, allow=allow)
    if case.files.form == "dicom":
        with unpacked(refs) as plain:
            return read_series(plain, gate=gate, seriesuid=case_id, patient_id=patient_id)
    if case.files.form == "patch":
        refs, gate = (pair_files(refs).image,), gate.for_patch()
    with on_disk(refs) as path:
        scan = read_volume(path, seriesuid=case_id, patient_id=patient_id, allow=gate.allow)
    allowed = tuple(f"allowed: {reason}" for reason in scan_reasons(scan, gate).allowed)
    return replace(scan, notes=(*scan.notes, *allowed))


def keeps_identity(index: Path) -> bool:
    """Return whether an INDEX keeps identifiers; False if its record cannot be read."""
    try:
        return bool(read_index_record(index)["identity"] == "keep")
    except SeriesError:
        return False


def without_paths(text: str, refs: Iterable[FileRef], hidden: Iterable[str] = ()) -> str:
    """Replace every path and name of labelled files in a text by their label.

    Args:
        text: a reason or note of a reader that names files by their path.
        refs: the files.
        hidden: other names to remove, for example the name of a missing file.
    """
    text = printable(text)  # refusals are escaped like this, so names are searched in this form
    for name in hidden:
        for spelled in _spellings(name):
            text = text.replace(spelled, "[removed]")
    for ref in refs:
        name = PurePosixPath(ref.member or ref.path.as_posix()).name
        if ref.label and not ref.label.endswith(printable(name)):
            text = _labelled(text, ref, name)
    return text


def _labelled(text: str, ref: FileRef, name: str) -> str:
    """Replace path, name and stem of a file in a text by its label."""
    for known in filter(None, (str(ref.path), ref.member, name)):
        for spelled in _spellings(known):
            text = text.replace(spelled, ref.name)
    shown = printable(name)
    stem = re.escape(shown[: -len(volume_suffix(Path(shown))) or None])
    return re.sub(rf"(?<![\w.-]){stem}(?=\.\w)", lambda _: ref.name, text)


def _spellings(name: str) -> tuple[str, ...]:
    """Return the ways in which a message may spell a name: as shown, or as Python quotes it."""
    quoted = {repr(name)[1:-1], repr(printable(name))[1:-1]}
    return tuple(dict.fromkeys((printable(name), *map(printable, sorted(quoted)))))


@contextmanager
def unpacked(refs: tuple[FileRef, ...]) -> Iterator[tuple[FileRef, ...]]:
    """Yield the files as files on disk, with unchanged names in messages (`FileRef.name`).

    Members of a zip archive are unpacked into a temporary folder, which is removed afterwards.
    """
    if all(ref.member is None for ref in refs):
        yield refs
        return
    with tempfile.TemporaryDirectory(prefix="medkd-") as folder, ExitStack() as stack:
        zips = {ref.path for ref in refs if ref.member is not None}
        archives = {path: stack.enter_context(zipfile.ZipFile(path)) for path in zips}
        plain = []
        for number, ref in enumerate(refs):
            if ref.member is None:
                plain.append(ref)
                continue
            # Each gets its own folder, because members of different folders may share a name.
            place = Path(folder) / str(number) / PurePosixPath(ref.member).name
            place.parent.mkdir()
            with archives[ref.path].open(ref.member) as source, place.open("wb") as target:
                shutil.copyfileobj(source, target)
            plain.append(FileRef(place, None, ref.name))
        yield tuple(plain)


@contextmanager
def on_disk(refs: tuple[FileRef, ...]) -> Iterator[Path]:
    """Yield the path of the first file; all members of a zip are unpacked into the same folder.

    Args:
        refs: files of one case, all on disk or all in zip archives.
    """
    first = refs[0]
    if first.member is None:
        yield first.path
        return
    with tempfile.TemporaryDirectory(prefix="medkd-") as folder:
        for ref in refs:
            with ref.open() as stream:
                (Path(folder) / PurePosixPath(ref.member or "").name).write_bytes(stream.read())
        yield Path(folder) / PurePosixPath(first.member).name


@contextmanager
def _opened(index: Path) -> Iterator[sqlite3.Connection]:
    place = private_folder_of(index) / STORE_FILE
    if not place.is_file():
        raise SeriesError(
            f"{index}: its files cannot be found",
            [f"{place.parent.name}/{STORE_FILE} is missing: it never leaves the hospital"],
        )
    try:
        uri = f"{place.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=60.0)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise SeriesError(
            f"{index}: its files cannot be found", [f"{STORE_FILE}: {type(error).__name__}"]
        ) from None
