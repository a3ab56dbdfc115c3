"""Copies of DICOM images for sharing, without identity, and proof that none is left.

`dicognito` replaces UIDs and shifts dates, the same way in all of a patient's files; attributes
pass by `rules` only; every file written is read back and searched for what named
somebody in its original (`check`). One finding, and nothing at all is left behind.

Pixels are not changed and not read: text inside them is not found. Objects whose header speaks of
burned-in text are left out; pictures whose header says nothing are counted, to be looked at.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from medkd.errors import ExtraMissingError, SeriesError
from medkd.files import replacing, write_text
from medkd.io.deidentify.check import identity_of, leaks_in
from medkd.io.deidentify.rules import (
    IMAGE_CLASSES,
    LEFT_OUT,
    kept_of,
    mark_deidentified,
    reason_against,
)
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.tags import text_of
from medkd.io.identity import Pseudonyms
from medkd.io.radiograph.dicom import BROKEN

REPORT_FILE = "deidentification.json"
_MAX_FINDINGS = 20

Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An input that is not shared: its path (identity: stays on site) and a code of `LEFT_OUT`."""

    path: Path = field(repr=False)
    code: str


@dataclass(frozen=True, slots=True)
class SharingReport:
    """What was written and what was not; holds no identity but for `left_out`'s paths.

    Args:
        patients: pseudonyms of those who are in it.
        series: number of series.
        files: number of images.
        unstated_text: images whose header does not say whether text is burned in.
        left_out: inputs that are not shared.
    """

    patients: tuple[str, ...]
    series: int
    files: int
    unstated_text: int
    left_out: tuple[LeftOut, ...] = field(repr=False)

    def left_out_by_code(self) -> dict[str, int]:
        """Count the inputs left out by code."""
        return dict(sorted(Counter(item.code for item in self.left_out).items()))


def deidentify(
    source: Path,
    out: Path,
    *,
    names: Pseudonyms | None = None,
    progress: Progress | None = None,
) -> SharingReport:
    """Write copies of all DICOM images below a folder that name nobody.

    Args:
        source: a DICOM file, or a folder of any depth.
        out: a folder that is not there yet; it appears whole, checked, or not at all:
            OUT/<patient>/<series number>/<number>.dcm and a report.
        names: an index's pseudonyms, so that the site can lead back; without them a key is
            drawn and thrown away, and nobody can.
        progress: is told (what, done, in all, note).

    Raises:
        SeriesError: if nothing can be shared, if `out` is there, or if a trace of identity was
            found in what was written: then nothing is left behind.
        ExtraMissingError: if dicognito is not installed.
    """
    if out.exists():
        raise SeriesError(f"{out}: not written", ["something stands there: name a new place"])
    paths = _files_below(source)
    run = _Run(names or Pseudonyms("pseudonymise", secrets.token_bytes(32)))
    with replacing(out) as folder, quiet_dicom():
        folder.mkdir()
        for number, path in enumerate(paths, start=1):
            run.share(path, folder, number=number)
            if progress is not None:
                progress("de-identifying", number, len(paths), "")
        report = run.report()
        if not report.files:
            counts = report.left_out_by_code()
            told = [f"{code}: {n} files, {LEFT_OUT[code]}" for code, n in counts.items()]
            raise SeriesError(f"{source}: nothing to share", told or ["no file there"])
        if run.findings:
            told = run.findings[:_MAX_FINDINGS]
            more = len(run.findings) - len(told)
            told += [f"and {more} more"] if more else []
            raise SeriesError("identity is left in what was written: all of it was removed", told)
        _write_report(folder / REPORT_FILE, report)
    return report


class _Run:
    """One command's state: a de-identifier a patient, numbers of series, what happened."""

    def __init__(self, names: Pseudonyms) -> None:
        if names.mode == "keep":
            raise SeriesError(
                "not de-identified", ["the index keeps its identifiers: leave it out"]
            )
        self.names = names
        self.findings: list[str] = []
        self._anonymizers: dict[str, Any] = {}
        self._series: dict[str, str] = {}
        self._files: Counter[str] = Counter()
        self._unstated = 0
        self._left_out: list[LeftOut] = []

    def share(self, path: Path, folder: Path, *, number: int) -> None:
        """Write one file's copy and check it, or note why there is none."""
        try:
            original = pydicom.dcmread(path)
            code = reason_against(original)
            identity = identity_of(original) if not code else None
        except InvalidDicomError:
            self._left_out.append(LeftOut(path, "not_dicom"))
            return
        except BROKEN:
            self._left_out.append(LeftOut(path, "unreadable"))
            return
        if identity is None:
            self._left_out.append(LeftOut(path, code))
            return
        patient = self._patient(original)
        forbidden = frozenset([*identity.words, *identity.values])
        try:
            shared = kept_of(original, forbidden=forbidden)
            shared.file_meta = _file_meta(original)
            self._anonymizer(patient).anonymize(shared)
        except BROKEN as error:
            code = "bad_date" if type(error) is ValueError else "unreadable"
            self._left_out.append(LeftOut(path, code))
            return
        mark_deidentified(shared, pseudonym=patient, method=_method())
        place = self._place(folder, patient, series=str(shared.get("SeriesInstanceUID", "")))
        pydicom.dcmwrite(place, shared, enforce_file_format=True)
        self._unstated += _may_hold_text(original)
        where = place.relative_to(folder).as_posix()
        self.findings += [
            f"{where} (input {number} in order of names): {finding}"
            for finding in leaks_in(place, identity)
        ]

    def report(self) -> SharingReport:
        """Say what happened so far."""
        return SharingReport(
            patients=tuple(sorted({series.split("/")[0] for series in self._series.values()})),
            series=len(self._series),
            files=sum(self._files.values()),
            unstated_text=self._unstated,
            left_out=tuple(self._left_out),
        )

    def _patient(self, original: Dataset) -> str:
        """Return the pseudonym; a study without PatientID is a patient of its own."""
        patient = text_of(original, "PatientID")
        return self.names.patient(patient or text_of(original, "StudyInstanceUID"))

    def _anonymizer(self, patient: str) -> Any:  # noqa: ANN401  # dicognito's, imported late
        if patient not in self._anonymizers:
            try:
                from dicognito.anonymizer import Anonymizer
            except ImportError as error:
                raise ExtraMissingError("dicognito", "share") from error
            # One seed a patient: knowing one patient's true date tells nothing of another's.
            seed = hmac.new(self.names.key, b"share\0" + patient.encode(), hashlib.sha256)
            self._anonymizers[patient] = Anonymizer(seed=seed.hexdigest())
        return self._anonymizers[patient]

    def _place(self, folder: Path, patient: str, *, series: str) -> Path:
        """Return a new file's place; nothing of its old name or order is in it."""
        of_patient = sum(name.startswith(f"{patient}/") for name in self._series.values())
        name = self._series.setdefault(f"{patient}/{series}", f"{patient}/{of_patient + 1:03d}")
        self._files[name] += 1
        place = folder / name / f"{self._files[name]:05d}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


def write_left_out(path: Path, report: SharingReport) -> None:
    """Write which inputs were left out and why; for the site alone (mode 0600), it holds paths."""
    with replacing(path) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(f"{item.code}\t{item.path}\n" for item in report.left_out)


def _files_below(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise SeriesError(f"{source}: nothing to share", ["there is no such file or folder"])
    return sorted(path for path in source.rglob("*") if path.is_file())


def _file_meta(original: Dataset) -> FileMetaDataset:
    """Build a file meta group of the least content; deflated becomes plain, to be searched."""
    syntax = original.file_meta.TransferSyntaxUID
    meta = FileMetaDataset()
    deflated = syntax == DeflatedExplicitVRLittleEndian
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if deflated else syntax
    meta.MediaStorageSOPClassUID = original.SOPClassUID
    meta.MediaStorageSOPInstanceUID = original.SOPInstanceUID
    return meta


def _may_hold_text(original: Dataset) -> bool:
    """Tell whether a projection image does not say that no text is burned in."""
    kind = IMAGE_CLASSES.get(text_of(original, "SOPClassUID"), "")
    return "CT" not in kind and text_of(original, "BurnedInAnnotation").upper() != "NO"


def _method() -> str:
    return f"medkd, dicognito {version('dicognito')}: kept attributes listed, checked"


def _write_report(path: Path, report: SharingReport) -> None:
    counts = report.left_out_by_code()
    content = {
        "profile": "DICOM PS3.15 E.1 basic (113100), modified dates (113107), kept list",
        "method": _method(),
        "patients": list(report.patients),
        "series": report.series,
        "files": report.files,
        "checked": "every file read back and searched for its original's identity: none left",
        "pictures_that_do_not_say_if_text_is_burned_in": report.unstated_text,
        "left_out": {code: {"files": n, "why": LEFT_OUT[code]} for code, n in counts.items()},
    }
    write_text(path, json.dumps(content, indent=1) + "\n")
