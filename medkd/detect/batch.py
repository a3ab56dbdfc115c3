"""Run one model on many scans or radiographs; an input that cannot be read has a result too.

Scans can be searched in several processes or by any executor. Results come in the order of the
inputs, one per input, and the search continues after a faulty input (`one_case.py`).
`results.py` writes the results.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from medkd.detect.one_case import CaseTask, Given, ScanSearch, score_image
from medkd.detect.radiographs import check_image_model
from medkd.detect.view import DetectSettings, check_model
from medkd.errors import SeriesError, WorkerError, printable
from medkd.index.case_store import keeps_identity, locate_case
from medkd.index.image_inputs import ImageInput
from medkd.index.scan_inputs import ScanInput
from medkd.io.dicom.gate import GateSettings
from medkd.models.package import LoadedModel
from medkd.processes import Crashed, SafePool
from medkd.provenance import sha256_of_text
from medkd.types import CaseResult

Input = ScanInput | ImageInput

WORKER_KILLED = (
    "worker_killed: its process was killed twice, most likely for lack of memory: search it again "
    "with fewer --workers, or on a machine with more memory"
)
_AHEAD = 256
"""Most scans handed to an executor at a time; their results are small."""


def search_scans(
    inputs: Sequence[ScanInput],
    model: LoadedModel,
    settings: DetectSettings | None = None,
    *,
    gate: GateSettings | None = None,
    finished: Sequence[CaseResult] = (),
    workers: int | Executor = 1,
    thumbnails: Path | None = None,
) -> Generator[CaseResult, None, None]:
    """Search scans; an unreadable scan gives a result with reasons.

    Args:
        inputs: volumes, DICOM folders, or scans of an INDEX, whose results have its case ids.
        model: see `detect_nodules`. Other processes load a model of `load_model` from its
            directory, each once.
        settings: see `detect_nodules`.
        gate: conditions for a DICOM folder to be analysed; None: the defaults. For volume files
            only its `allow` is used. Scans of an INDEX were checked when the INDEX was made.
        finished: results of an earlier call. Their inputs are skipped, and these results are not
            yielded again.
        workers: number of processes (1: this one), or an executor that runs the searches. A scan
            whose process is killed is searched again alone; if that is killed too, it is not
            analysed.
        thumbnails: folder for the thumbnails of the marks; None: none are drawn.

    Yields:
        Results in the order of the inputs.

    Raises:
        CheckpointError: if the model cannot search scans.
        WorkerError: if processes cannot be started, or the executor breaks.
    """
    check_model(model)
    count = workers if isinstance(workers, int) else 1
    search = ScanSearch(
        model,
        settings or DetectSettings(),
        gate or GateSettings(),
        thumbnails,
        threads=max(torch.get_num_threads() // count, 1) if count > 1 else 0,
    )
    return _results(inputs, partial(_searched, search=search, workers=workers), finished)


def score_images(
    inputs: Sequence[ImageInput],
    model: LoadedModel,
    *,
    allow: Collection[str] = (),
    finished: Sequence[CaseResult] = (),
) -> Generator[CaseResult, None, None]:
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
    score = partial(score_image, model=model, allow=allow)
    return _results(inputs, lambda tasks: ((task, score(task)) for task in tasks), finished)


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


def _searched(
    tasks: Iterable[CaseTask[ScanInput]], *, search: ScanSearch, workers: int | Executor
) -> Generator[tuple[CaseTask[ScanInput], CaseResult | Crashed], None, None]:
    """Yield every task in order with its result; `Crashed` if its process was killed twice."""
    if isinstance(workers, Executor):
        yield from _on_executor(tasks, search, workers)
    elif workers > 1:
        yield from SafePool(search, workers).run(tasks)
    else:
        yield from ((task, search(task)) for task in tasks)


def _on_executor(
    tasks: Iterable[CaseTask[ScanInput]], search: ScanSearch, executor: Executor
) -> Iterator[tuple[CaseTask[ScanInput], CaseResult]]:
    queue: deque[tuple[CaseTask[ScanInput], Future[CaseResult]]] = deque()
    try:
        for task in tasks:
            queue.append((task, executor.submit(search, task)))
            if len(queue) >= _AHEAD:
                yield queue[0][0], queue.popleft()[1].result()
        while queue:
            yield queue[0][0], queue.popleft()[1].result()
    except BrokenExecutor as error:
        reason = "one of its workers was killed, most likely for lack of memory"
        remedy = "finished scans are kept: resume the search, with fewer workers"
        raise WorkerError("the executor of the search broke", [reason, remedy]) from error
    finally:
        for _, future in queue:
            future.cancel()


Searched = Callable[
    [Iterable[CaseTask[Given]]], Generator[tuple[CaseTask[Given], CaseResult | Crashed], None, None]
]


def _results(
    inputs: Sequence[Given], searched: Searched[Given], finished: Sequence[CaseResult]
) -> Generator[CaseResult, None, None]:
    """Analyse the inputs that are not finished, and give each result a name of its own."""
    taken = {result.seriesuid: Path(result.path).name for result in finished}
    ended = {result.input_key for result in finished}
    keyed = zip(inputs, input_keys(inputs), strict=True)
    tasks = [CaseTask(given, key) for given, key in keyed if key not in ended]
    with closing(searched(tasks)) as found:
        for task, result in found:
            named = _named(result, task.given, taken)
            taken[named.seriesuid] = task.given.path.name
            yield _completed(named, task.given, task.key)


def _named(result: CaseResult | Crashed, given: Input, taken: Mapping[str, str]) -> CaseResult:
    """Return the result with a free name; a UID that was already read is refused."""
    kind: Literal["scan", "image"] = "image" if isinstance(given, ImageInput) else "scan"
    if isinstance(result, Crashed):
        result = CaseResult("", (), "not_analysed", reasons=(WORKER_KILLED,), kind=kind)
    name = _new_name(result.seriesuid, given, taken) if result.seriesuid else None
    if isinstance(name, str):
        return replace(result, seriesuid=name)
    reasons = result.reasons if name is None else name.reasons
    free = _free(given.name, taken)
    return CaseResult(free, (), "not_analysed", reasons=reasons, kind=kind)


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


def _free(name: str, taken: Mapping[str, str]) -> str:
    """Return the name, with a number if another case has the same name."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free
