"""Run one model on many scans or radiographs; an input that cannot be read has a result too.

The search continues after a faulty input: any unexpected exception, even for lack of memory,
becomes a `not_analysed` result with its reason. `results.py` writes the results.
"""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from medkd.detect.radiographs import check_image_model, score_radiograph
from medkd.detect.search import detect_nodules
from medkd.detect.view import DetectSettings, check_model
from medkd.difficulty import difficulty_words
from medkd.errors import CheckpointError, SeriesError, WorkerError, printable
from medkd.index.case_store import keeps_identity, locate_case, open_image, open_scan
from medkd.index.image_inputs import ImageInput, is_radiograph
from medkd.index.scan_inputs import ScanInput, refusal_of
from medkd.io.dicom.gate import GateSettings
from medkd.io.radiograph.read import read_radiograph
from medkd.io.remedies import with_option
from medkd.io.scans import ScanPlace, read_place
from medkd.io.synthetic_mark import is_synthetic_note, synthetic_note
from medkd.lungs import lungs_in_view
from medkd.models.package import LoadedModel
from medkd.provenance import sha256_of_text
from medkd.types import CaseResult, Radiograph, Scan

Input = ScanInput | ImageInput
T = TypeVar("T")

OUT_OF_MEMORY = "out_of_memory: it does not fit into memory; try a machine with more memory"


def search_scans(
    inputs: Sequence[ScanInput],
    model: LoadedModel,
    settings: DetectSettings | None = None,
    *,
    gate: GateSettings | None = None,
    finished: Sequence[CaseResult] = (),
) -> Iterator[CaseResult]:
    """Search scans one after another; an unreadable scan gives a result with reasons.

    Args:
        inputs: volumes, DICOM folders, or scans of an INDEX, whose results have its case ids.
        model: see `detect_nodules`.
        settings: see `detect_nodules`.
        gate: conditions for a DICOM folder to be analysed; None: the defaults. For volume files
            only its `allow` is used. Scans of an INDEX were checked when the INDEX was made.
        finished: results of an earlier call. Their inputs are skipped, and these results are not
            yielded again.

    Raises:
        CheckpointError: if the model cannot search scans.
    """
    check_model(model)
    read = partial(_read_scan, gate=gate or GateSettings())

    def analyse(scan: Scan, given: ScanInput) -> CaseResult:
        result = detect_nodules(scan, model, settings)
        if result.status == "analysed" or given.case is not None:
            return result
        refused = refusal_of(given, SeriesError("not analysed", result.reasons))
        return replace(result, reasons=refused.reasons)

    return _results(inputs, read, analyse, finished=finished)


def score_images(
    inputs: Sequence[ImageInput],
    model: LoadedModel,
    *,
    allow: Collection[str] = (),
    finished: Sequence[CaseResult] = (),
) -> Iterator[CaseResult]:
    """Score radiographs one after another; an unreadable one gives a result with reasons.

    Args:
        inputs: files, or images of an INDEX, whose results have its case ids.
        model: see `score_radiograph`.
        allow: codes of `io.radiograph.gate.CODES` to accept. Images of an INDEX were checked when
            the INDEX was made.
        finished: results of an earlier call. Their inputs are skipped, and these results are not
            yielded again.

    Raises:
        CheckpointError: if the model cannot score radiographs.
    """
    check_image_model(model)
    read = partial(_read_image, allow=allow)

    def analyse(radiograph: Radiograph, given: ImageInput) -> CaseResult:
        view = given.case.view if given.case else ""
        return score_radiograph(radiograph, model, view=view)

    for result in _results(inputs, read, analyse, finished=finished):
        yield replace(result, kind="image")


def input_keys(inputs: Sequence[Input]) -> list[str]:
    """Return a key of each input, a hash of its path and state, to recognise it later."""
    keys: list[str] = []
    seen: Counter[str] = Counter()
    for given in inputs:
        case = given.case
        known = [case.case_id, case.content, case.status] if case else _state_of(given.files)
        text = json.dumps([str(given.path.absolute()), given.name, *known])
        seen[text] += 1  # two refusals in one folder
        keys.append(sha256_of_text(f"{seen[text]} {text}"))
    return keys


Image = TypeVar("Image", Scan, Radiograph)
Given = TypeVar("Given", ScanInput, ImageInput)


def _results(
    inputs: Sequence[Given],
    read: Callable[[Given], Image],
    analyse: Callable[[Image, Given], CaseResult],
    *,
    finished: Sequence[CaseResult],
) -> Iterator[CaseResult]:
    """Read and analyse the inputs that are not finished, one after another."""
    taken = {result.seriesuid: Path(result.path).name for result in finished}
    ended = {result.input_key for result in finished}
    for key, given in zip(input_keys(inputs), inputs, strict=True):
        if key in ended:
            continue
        case = attempt(partial(read, given))
        if isinstance(case, SeriesError):
            result = _unread(case, given, taken)
        elif isinstance(name := _new_name(_uid_of(case), given, taken), SeriesError):
            result = _unread(name, given, taken)
        else:
            found = attempt(partial(analyse, case, given))
            result = _not_analysed(case, found) if isinstance(found, SeriesError) else found
            result = replace(result, seriesuid=name)
        taken[result.seriesuid] = given.path.name
        yield _completed(result, given, key)


def attempt(step: Callable[[], T]) -> T | SeriesError:
    """Run a step for one input and return any error as a refusal with reasons.

    A fault of the model is raised, and so is a failure to start helper processes.
    """
    try:
        return step()
    except SeriesError as error:
        return SeriesError(error.headline, error.reasons or (error.headline,))
    except (CheckpointError, WorkerError):
        raise
    except (MemoryError, torch.OutOfMemoryError):
        return SeriesError("out of memory", [OUT_OF_MEMORY])
    except Exception as error:  # noqa: BLE001  # one bad file never ends the search
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name} line {last.lineno}"
        # The text of the error is omitted, because it may contain a value of a header.
        reason = f"unexpected: {type(error).__name__} in {place}; please report it"
        return SeriesError("unexpected error", [reason])


def _new_name(uid: str, given: Input, taken: Mapping[str, str]) -> str | SeriesError:
    """Return the name of a result; refuse a UID that was already read.

    Pictures without a UID may have the same file name, so they get a number instead.
    """
    if uid not in taken:
        return uid
    of_image = isinstance(given, ImageInput)
    if of_image and uid == given.path.stem:
        return _free(uid, taken)
    what = "image" if of_image else "series"
    reason = f"{what} {uid} was already read from {taken[uid] or 'another input'}"
    return SeriesError("read twice", [reason])


def _unread(refused: SeriesError, given: Input, taken: Mapping[str, str]) -> CaseResult:
    """Return the result of an unreadable input, with the free name of its case or file."""
    name = _free(given.name, taken)
    return CaseResult(name, (), "not_analysed", reasons=refused.reasons)


def _uid_of(case: Scan | Radiograph) -> str:
    return case.seriesuid if isinstance(case, Scan) else case.imageuid


def _not_analysed(case: Scan | Radiograph, refused: SeriesError) -> CaseResult:
    notes = case.notes if isinstance(case, Scan) else ()
    return CaseResult(_uid_of(case), (), "not_analysed", reasons=refused.reasons, notes=notes)


def _completed(result: CaseResult, given: Input, key: str) -> CaseResult:
    """Add the path, unless it may name a patient; make all text valid UTF-8."""
    name = printable(result.seriesuid)
    return replace(
        result,
        seriesuid=name,
        candidates=tuple(replace(mark, seriesuid=name) for mark in result.candidates),
        reasons=tuple(map(printable, result.reasons)),
        notes=tuple(map(printable, result.notes)),
        path=printable(_path_of(given)),
        input_key=key,
    )


def _path_of(given: Input) -> str:
    """Return the path of an input; empty for a pseudonymised INDEX."""
    if given.case is None:
        return str(given.path.absolute())
    if not keeps_identity(given.path):
        return ""
    files = locate_case(given.path, given.case.case_id)
    first = files.refs[0]
    is_folder = files.form == "dicom" and first.member is None
    return str(first.path.parent if is_folder else first.path)


def _state_of(files: Sequence[Path]) -> list[int]:
    """Return number, total size and last modification of the files of an input."""
    try:
        states = [file.stat() for file in files]
    except OSError:
        return []
    newest = max((state.st_mtime_ns for state in states), default=0)
    return [len(states), sum(state.st_size for state in states), newest]


def _read_scan(given: ScanInput, *, gate: GateSettings) -> Scan:
    """Read a scan; if it is synthetic, a note names its generator."""
    if given.case is None and given.path.is_file() and is_radiograph(given.path):
        reason = "not_scan: a radiograph or picture; this model searches CT scans"
        raise SeriesError(f"{given.path}: not a scan", [reason])
    scan = _read(given, gate)
    if not (stamp := given.generator):
        return scan
    others = (note for note in scan.notes if not is_synthetic_note(note))
    return replace(scan, notes=(*others, synthetic_note(stamp, difficulty_words(stamp))))


def _read(given: ScanInput, gate: GateSettings) -> Scan:
    if given.case is None:
        return _read_series(given, gate)
    if given.case.status == "not_analysed":
        reasons = with_option(given.case.reasons, command="medkd index")
        raise SeriesError(f"{given.case.case_id}: not analysed", reasons)
    return open_scan(given.path, given.case.case_id)


def _read_series(given: ScanInput, gate: GateSettings) -> Scan:
    """Read a scan on disk; a refusal names its path and the option that accepts the fault."""
    try:
        return _read_chest(given.place or ScanPlace(given.path, (given.path,)), gate)
    except SeriesError as error:
        raise refusal_of(given, error) from error


def _read_chest(place: ScanPlace, gate: GateSettings) -> Scan:
    """Read a scan; a DICOM series must pass the gate and show the lungs."""
    scan = read_place(place, gate=gate)
    hidden = lungs_in_view(scan) if place.seriesuid else ()
    if hidden and "lungs_not_in_view" not in gate.allow:
        raise SeriesError(f"{place.path}: not analysed", hidden)
    return replace(scan, notes=(*scan.notes, *(f"allowed: {reason}" for reason in hidden)))


def _read_image(given: ImageInput, *, allow: Collection[str]) -> Radiograph:
    where = f"in {given.path}"
    if given.reason:
        raise SeriesError(f"{given.path}: not a radiograph", [given.reason, where])
    if given.case is None:
        try:
            return read_radiograph(given.path, allow=allow)
        except SeriesError as error:
            reasons = (*(error.reasons or (error.headline,)), where)
            raise SeriesError(error.headline, reasons) from error
    if given.case.status == "not_analysed":
        raise SeriesError(f"{given.case.case_id}: not analysed", given.case.reasons)
    return open_image(given.path, given.case.case_id)


def _free(name: str, taken: Mapping[str, str]) -> str:
    """Return the name, with a number if another case has the same name."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
