"""Where the files of each indexed case are, and the one way to its pixels.

The store is `files.sqlite` in the private folder of an INDEX (mode 0600). Paths of an archive often
contain names, so the store never leaves the site. Training, detection and the viewer read pixels
through `open_scan` and `open_image`. Their messages name the case, and files by their label; they
never contain a path.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from medkd.errors import SeriesError, printable
from medkd.files import replacing
from medkd.index.case import Case
from medkd.index.pseudonyms import private_folder_of
from medkd.index.table import read_index_record
from medkd.io.dicom.gate import GateSettings, scan_reasons
from medkd.io.dicom.series import read_series
from medkd.io.file_ref import FileRef
from medkd.io.radiograph.read import read_radiograph
from medkd.io.volume import read_volume, volume_suffix
from medkd.types import Radiograph, Scan

STORE_FILE = "files.sqlite"

CaseForm = Literal["dicom", "volume", "image"]

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
    """The files of one case.

    Args:
        form: which reader takes them: a DICOM series, a volume in one file (the file with the
            voxels of an .mhd follows it), or one radiograph.
        refs: the files.
    """

    form: CaseForm
    refs: tuple[FileRef, ...]


def write_case_store(
    index: Path, cases: Iterable[tuple[Case, CaseFiles]], *, settings: str = "{}"
) -> None:
    """Write the store of an INDEX, whole or not at all.

    Args:
        index: index.csv; its private folder must exist.
        cases: every case with its files, refused cases too.
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
        case_id: as the INDEX names it.

    Raises:
        SeriesError: if the store is missing or does not hold the case.
    """
    return _stored(index, case_id).files


def open_scan(index: Path, case_id: str) -> Scan:
    """Read a scan of an INDEX.

    Args:
        index: index.csv, its private folder beside it.
        case_id: as the INDEX names it.

    Returns:
        The scan under its case_id and the patient's pseudonym. The UIDs of its slices are kept
        under `identity: keep` alone. Faults that were accepted are in its notes.

    Raises:
        SeriesError: if there is no such case, if it is not analysed (with its reasons) or no scan,
            or if its files are gone or cannot be read any more.
    """
    found = _read(index, case_id)
    if not isinstance(found, Scan):
        raise SeriesError(f"{case_id}: not a scan", ["the archive holds an image there"])
    return found if keeps_identity(index) else _nameless(found)


def open_image(index: Path, case_id: str) -> Radiograph:
    """Read a radiograph of an INDEX; arguments and refusals as those of `open_scan`."""
    found = _read(index, case_id)
    if not isinstance(found, Radiograph):
        raise SeriesError(f"{case_id}: not an image", ["the archive holds a scan there"])
    return found


class _Stored(NamedTuple):
    """A row of the store."""

    case_id: str
    patient_id: str
    reasons: tuple[str, ...]
    files: CaseFiles


def _stored(index: Path, case_id: str) -> _Stored:
    with _opened(index) as connection:
        found = connection.execute(
            "SELECT patient_id, form, reasons FROM cases WHERE case_id = ?", (case_id,)
        ).fetchone()
        if found is None:
            raise SeriesError(f"{case_id}: no such case", [f"{index} does not hold it"])
        rows = connection.execute(
            "SELECT path, member, label FROM files WHERE case_id = ? ORDER BY place", (case_id,)
        )
        refs = tuple(FileRef(Path(os.fsdecode(path)), *rest) for path, *rest in rows)
    patient_id, form, reasons = found
    return _Stored(case_id, patient_id, tuple(json.loads(reasons)), CaseFiles(form, refs))


def _read(index: Path, case_id: str) -> Scan | Radiograph:
    case, settings = _stored(index, case_id), _settings_of(index)
    if case.reasons:
        raise SeriesError(f"{case_id}: not analysed", case.reasons)
    refs = case.files.refs
    missing = [ref.name for ref in refs if not ref.path.exists()]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        reasons = [f"{shown}: no longer where it was: run medkd index again, it resumes"]
        raise SeriesError(f"{case_id}: its files are gone", reasons)
    try:
        return _READERS[case.files.form](case, settings)
    except SeriesError as error:
        reasons = [without_paths(reason, refs) for reason in error.reasons]
        raise SeriesError(f"{case_id}: cannot be read", reasons) from None


def keeps_identity(index: Path) -> bool:
    """Say whether an INDEX keeps identifiers; False also if its record cannot be read."""
    try:
        return bool(read_index_record(index)["identity"] == "keep")
    except SeriesError:
        return False


def gate_of(index: Path) -> GateSettings:
    """Return the gate that the series of an INDEX had to pass."""
    return GateSettings.model_validate(_settings_of(index).get("gate", {}))


def _nameless(scan: Scan) -> Scan:
    """Remove the UIDs of the slices of a scan; their numbers are kept."""
    return replace(scan, slices=tuple(replace(s, sop_instance_uid="") for s in scan.slices))


def without_paths(text: str, refs: Iterable[FileRef], hidden: Iterable[str] = ()) -> str:
    """Replace every path and name of labelled files in a text by their label.

    Args:
        text: a reason or note from a reader that names files by their path.
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
    """Yield the same files on disk under the same labels; members of a zip are unpacked."""
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
    """Yield the path of the first file, the others beside it; members of a zip are unpacked.

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


def _read_dicom(case: _Stored, settings: Mapping[str, Any]) -> Scan:
    gate = GateSettings.model_validate(settings.get("gate", {}))
    with unpacked(case.files.refs) as refs:
        return read_series(refs, gate=gate, seriesuid=case.case_id, patient_id=case.patient_id)


def _read_volume(case: _Stored, settings: Mapping[str, Any]) -> Scan:
    gate = GateSettings.model_validate(settings.get("gate", {}))
    with on_disk(case.files.refs) as path:
        scan = read_volume(
            path, seriesuid=case.case_id, patient_id=case.patient_id, allow=gate.allow
        )
    allowed = tuple(f"allowed: {reason}" for reason in scan_reasons(scan, gate).allowed)
    return replace(scan, notes=(*scan.notes, *allowed))


def _read_image(case: _Stored, settings: Mapping[str, Any]) -> Radiograph:
    return read_radiograph(
        case.files.refs[0],
        imageuid=case.case_id,
        patient_id=case.patient_id,
        allow=settings.get("allow_images", ()),
    )


Reader = Callable[[_Stored, Mapping[str, Any]], Scan | Radiograph]

_READERS: dict[CaseForm, Reader] = {
    "dicom": _read_dicom,
    "volume": _read_volume,
    "image": _read_image,
}


def _settings_of(index: Path) -> dict[str, Any]:
    with _opened(index) as connection:
        row = connection.execute("SELECT value FROM settings WHERE name = 'read'").fetchone()
    values: dict[str, Any] = json.loads(row[0]) if row else {}
    return values


@contextmanager
def _opened(index: Path) -> Iterator[sqlite3.Connection]:
    place = private_folder_of(index) / STORE_FILE
    if not place.is_file():
        raise SeriesError(
            f"{index}: its files cannot be found",
            [f"{place.parent.name}/{STORE_FILE} is missing: it never leaves the site of the index"],
        )
    try:
        uri = f"{place.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=60.0)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise SeriesError(
            f"{index}: its files cannot be found", [f"{STORE_FILE}: {type(error).__name__}"]
        ) from None
