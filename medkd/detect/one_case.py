"""Read and analyse one scan or radiograph; whatever happens to it becomes a result.

Any exception, even for lack of memory, becomes a `not_analysed` result with its reason; only a
fault of the model, and a disk that cannot be written, are raised. A `ScanSearch` can be sent to
another process, which loads the model once.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch

from medkd.detect.radiographs import score_radiograph
from medkd.detect.search import detect_nodules
from medkd.detect.thumbnails import draw_thumbnails, write_thumbnails
from medkd.detect.view import DetectSettings
from medkd.difficulty import difficulty_words
from medkd.errors import CheckpointError, SeriesError, WorkerError
from medkd.index.case_store import open_image, open_scan
from medkd.index.image_inputs import ImageInput, is_radiograph
from medkd.index.scan_inputs import ScanInput, refusal_of
from medkd.io.dicom.gate import GateSettings
from medkd.io.radiograph.read import read_radiograph
from medkd.io.remedies import with_option
from medkd.io.scans import ScanPlace, read_place
from medkd.io.synthetic_mark import is_synthetic_note, synthetic_note
from medkd.lungs import lungs_in_view
from medkd.models.package import LoadedModel
from medkd.types import CaseResult, Radiograph, Scan

T = TypeVar("T")
Given = TypeVar("Given", ScanInput, ImageInput)

NOT_WHOLE = (
    "not_whole_scan: a patch around a nodule; only whole scans are searched, because marks per "
    "scan are not defined for a patch"
)

OUT_OF_MEMORY = "out_of_memory: it does not fit into memory; try a machine with more memory"


@dataclass(frozen=True, slots=True)
class CaseTask(Generic[Given]):
    """An input to analyse, with its key (`batch.input_keys`)."""

    given: Given
    key: str


@dataclass(frozen=True, slots=True, eq=False)
class ScanSearch:
    """The search of one scan with a model; call it with a task.

    Args:
        model: see `detect_nodules`.
        settings: see `detect_nodules`.
        gate: conditions for a DICOM folder to be analysed.
        thumbnails: folder for the thumbnails of the marks; None: none are drawn.
        threads: threads of the arithmetic; 0: not changed.
    """

    model: LoadedModel
    settings: DetectSettings
    gate: GateSettings
    thumbnails: Path | None = None
    threads: int = 0

    def __call__(self, task: CaseTask[ScanInput]) -> CaseResult:
        """Return the result of a scan; its seriesuid is empty if the scan cannot be read."""
        if self.threads:
            torch.set_num_threads(self.threads)
        scan = attempt(partial(_read_scan, task.given, gate=self.gate))
        if isinstance(scan, SeriesError):
            return CaseResult("", (), "not_analysed", reasons=scan.reasons)
        result = attempt(partial(self._found, scan, task.given))
        if isinstance(result, SeriesError):
            return _not_analysed(scan.seriesuid, result, scan.notes)
        if self.thumbnails is not None and result.candidates:
            pictures = attempt(partial(draw_thumbnails, scan, result.candidates))
            if not isinstance(pictures, SeriesError):  # the marks count, with or without pictures
                write_thumbnails(self.thumbnails, task.key, pictures)
        return result

    def _found(self, scan: Scan, given: ScanInput) -> CaseResult:
        result = detect_nodules(scan, self.model, self.settings)
        if result.status == "analysed" or given.case is not None:
            return result
        refused = refusal_of(given, SeriesError("not analysed", result.reasons))
        return replace(result, reasons=refused.reasons)


def score_image(
    task: CaseTask[ImageInput], *, model: LoadedModel, allow: Collection[str]
) -> CaseResult:
    """Return the result of a radiograph; its seriesuid is empty if it cannot be read.

    Args:
        task: the radiograph.
        model: see `score_radiograph`.
        allow: codes of `io.radiograph.gate.CODES` to accept.
    """
    given = task.given
    radiograph = attempt(partial(_read_image, given, allow=allow))
    if isinstance(radiograph, SeriesError):
        return CaseResult("", (), "not_analysed", reasons=radiograph.reasons, kind="image")
    view = given.case.view if given.case else ""
    result = attempt(partial(score_radiograph, radiograph, model, view=view))
    if isinstance(result, SeriesError):
        result = _not_analysed(radiograph.imageuid, result)
    return replace(result, kind="image")


def attempt(step: Callable[[], T]) -> T | SeriesError:
    """Run a step for one input and return an error as a refusal with reasons.

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


def _not_analysed(uid: str, refused: SeriesError, notes: tuple[str, ...] = ()) -> CaseResult:
    return CaseResult(uid, (), "not_analysed", reasons=refused.reasons, notes=notes)


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
    if given.case.extent == "patch":
        raise SeriesError(f"{given.case.case_id}: not analysed", [NOT_WHOLE])
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
