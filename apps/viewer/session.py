"""What all pages share: the reviewed data, the reader, cached reading, and the notices on top.

`medkd review` passes data and reader in environment variables (`MEDKD_REVIEW_PATH`,
`MEDKD_REVIEW_INDEX`, `MEDKD_REVIEW_STORE`; the reader: `login.py`). Text from the data is shown
only by `st.text` and in tables, never as Markdown or HTML.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import login
import numpy as np
import streamlit as st
from display import AxialStack, build_picture, open_picture, open_stack
from numpy.typing import NDArray
from streamlit.runtime.scriptrunner import get_script_run_ctx

from medkd.errors import MedkdError
from medkd.formats import EVALUATION
from medkd.index.table import ArchiveIndex, read_index
from medkd.io.medmnist import read_medmnist
from medkd.jsonio import read_json
from medkd.provenance import NO_PERFORMANCE
from medkd.report.summary import NOT_A_DEVICE, synthetic_sentence
from medkd.review.cases import SPLITS, CaseMarks, MarkSource, arm_threshold, by_case
from medkd.review.finding import ARM as ARM
from medkd.review.finding import asked_finding
from medkd.review.index_cases import NoduleFact, index_cases, nodule_facts
from medkd.review.modes import (
    Sight,
    decisions_in_sight,
    list_cases,
    marks_in_sight,
    read_mode,
    reference_in_sight,
    sight_of,
)
from medkd.review.opened import (
    Review,
    open_review,
    pixels_path,
    read_case_image,
    read_case_scan,
    read_marks,
    read_probabilities,
    read_row,
    read_worklist,
)
from medkd.review.outcomes import read_findings
from medkd.review.store import Decision, ReviewStore, decisions_csv, open_store
from medkd.runs import ARMS, SearchRecord
from medkd.types import CaseResult, Evaluation, Nodule, RunCase

T = TypeVar("T")

OPEN_CASE = "open_case"
"""Session key of the case ids that were requested; the case page shows the case if it is one."""

NO_MODEL = "An index of an archive: no model has analysed these cases."

UNKNOWN_TRAINING = (
    "This run has no evaluation.json: the performance of its model is unknown, and so is whether "
    "it was trained on synthetic scans."
)

UNKNOWN_MODEL = "These results do not record whether the model was trained on synthetic scans."

SYNTHETIC_MODEL = f"The model was trained on synthetic scans: {NO_PERFORMANCE}."

NOT_COMPARED = "Results of `medkd detect`: they were not compared with a reference standard."


def case_keys() -> list[str]:
    """Return the address parameters that name a case, in upper or lower case."""
    return [key for key in st.query_params if key.casefold() == "case"]


def asked_in_address() -> list[str]:
    """Return the case ids in the address."""
    return [name for key in case_keys() for name in st.query_params.get_all(key)]


def current_review() -> Review:
    """Open the RUN, RESULTS or INDEX that is reviewed."""
    index = os.environ.get("MEDKD_REVIEW_INDEX", "")
    with stopping():
        path = Path(os.environ.get("MEDKD_REVIEW_PATH", ""))
        store = os.environ.get("MEDKD_REVIEW_STORE", "")
        review = open_review(path, index=Path(index) if index else None, store=store)
        return replace(review, mode=read_mode(os.environ.get("MEDKD_REVIEW_MODE", "")))


def reader_name() -> str:
    """Return the name of the reader; the page stops if that is not known."""
    with stopping():
        return login.current_reader().name


@contextmanager
def stopping() -> Iterator[None]:
    """Stop the page after a refusal, and show the refusal with all its reasons."""
    try:
        yield
    except MedkdError as error:
        if get_script_run_ctx(suppress_warning=True) is None:
            raise  # there is no page (`ahead.py`)
        st.error("This page cannot be shown.")
        st.text(str(error))
        st.stop()


def show_notices(review: Review) -> None:
    """Show that this is not a medical device, and what is known about the model's training."""
    if review.kind == "INDEX":
        st.caption(f"{NO_MODEL} {NOT_A_DEVICE}")
    elif review.kind == "RESULTS":
        _notice_of_results(load_record(review))
    else:
        _notice_of_run(load_evaluation(review))


def training_notice(review: Review) -> str:
    """Return what `show_notices` states about the model's training; empty for an INDEX."""
    if review.kind == "RESULTS":
        return "\n".join(load_record(review).notes or ())
    evaluation = load_evaluation(review)
    return synthetic_sentence(evaluation) if evaluation else ""


def _notice_of_run(evaluation: Evaluation | None) -> None:
    if evaluation is None:
        st.warning(f"{UNKNOWN_TRAINING} {NOT_A_DEVICE}")
    elif evaluation.trained_on_synthetic:
        st.warning(f"{synthetic_sentence(evaluation)} {NOT_A_DEVICE}")
    else:
        st.caption(NOT_A_DEVICE)


def _notice_of_results(record: SearchRecord) -> None:
    if record.notes is None:
        st.warning(f"{UNKNOWN_MODEL} {NOT_A_DEVICE}")
    elif record.notes:
        st.warning(f"{SYNTHETIC_MODEL} {NOT_A_DEVICE}")
        st.text("\n".join(record.notes))
    else:
        st.caption(f"{NOT_COMPARED} {NOT_A_DEVICE}")


def read_first_page() -> None:
    """Read what the worklist shows into the cache, without a page.

    Raises:
        MedkdError: if something cannot be read.
    """
    review = current_review()
    load_cases(review)
    if review.kind == "INDEX":
        load_nodule_facts(review)
    else:
        load_marks(review)


def load_cases(review: Review) -> list[RunCase]:
    """Return the cases in reading order, with what the reader may see of them."""
    finished = load_finished(review)
    with stopping():
        cases = _read_cases(review)
    return list_cases(cases, review.mode, finished=finished)


def _read_cases(review: Review) -> list[RunCase]:
    if review.kind == "INDEX":
        archive = load_archive(review)
        return _cached(_tables, "cases", _files(review), lambda: index_cases(archive))
    found = load_results(review)
    return _cached(_tables, "cases", _files(review), lambda: read_worklist(review, found))


def load_results(review: Review) -> list[CaseResult]:
    """Return the results of RESULTS; none for a RUN."""
    if review.kind != "RESULTS":
        return []
    with stopping():
        return _cached(_tables, "results", _files(review), review.results.read)


def load_finished(review: Review) -> frozenset[str]:
    """Return the cases whose first read this reader has finished; empty without a first read."""
    if not review.mode.two_reads:
        return frozenset()
    with stopping():
        return load_store(review).finished_cases(reader_name())


def load_sight(review: Review, case_id: str) -> Sight:
    """Return what the reader may see of a case."""
    return sight_of(review.mode, first_read_finished=case_id in load_finished(review))


def load_evaluation(review: Review) -> Evaluation | None:
    """Return the evaluation of a run; None if there is none."""
    path = review.run.evaluation
    if review.kind != "RUN" or not path.is_file():
        return None
    with stopping():
        return _cached(
            _tables, "evaluation", [path], lambda: read_json(path, Evaluation, form=EVALUATION)
        )


def load_record(review: Review) -> SearchRecord:
    """Return the record of the search that wrote RESULTS."""
    with stopping():
        return review.results.read_record()


def load_archive(review: Review) -> ArchiveIndex:
    """Return the INDEX that is reviewed."""
    with stopping():
        return load_index(review.path)


def load_index(index: Path) -> ArchiveIndex:
    """Return an INDEX.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """
    return _cached(_tables, "index", [index], lambda: read_index(index))


def load_nodule_facts(review: Review) -> dict[str, NoduleFact]:
    """Return what the reviewed INDEX records about the nodules of each scan."""
    archive = load_archive(review)
    return _cached(_tables, "nodules", [review.path], lambda: nodule_facts(archive))


def load_findings(review: Review) -> dict[str, tuple[Nodule, ...]]:
    """Return the complete reference standards by case id, of the cases where it may be seen."""
    files = [review.index] if review.index else []
    if review.kind == "RUN":
        files = list(review.run.reference_tables)
    with stopping():
        found = _cached(_tables, "findings", files, lambda: read_findings(review))
    return reference_in_sight(found, review.mode, finished=load_finished(review))


def load_marks(review: Review, arm: str = ARM) -> dict[str, CaseMarks]:
    """Return the marks by case id, as far as the reader may see them; of a RUN those of one arm."""
    files = _files(review)
    if review.kind == "RUN":
        files += [review.run.marks(arm), review.run.result(arm, "x").parent]
    with stopping():
        found = load_results(review)
        marks = _cached(_tables, f"marks {arm}", files, lambda: read_marks(review, arm, found))
    return marks_in_sight(
        marks,
        review.mode,
        finished=load_finished(review),
        threshold=lambda source: _threshold(review, source, arm),
    )


def load_probabilities(review: Review) -> dict[str, dict[str, float]]:
    """Return the probabilities that may be seen of each image by arm, or for RESULTS by label."""
    with stopping():
        results = load_results(review)
        found = _cached(
            _tables, "probabilities", _files(review), lambda: read_probabilities(review, results)
        )
    return reference_in_sight(found, review.mode, finished=load_finished(review))


def load_stack(review: Review, case: RunCase) -> AxialStack:
    """Read a scan as axial slices, with an id that is a hash of its voxels.

    Raises:
        MedkdError: if the scan cannot be read, with all reasons.
    """

    def read() -> AxialStack:
        return open_stack(read_case_scan(review, case))

    return _cached(_images, f"scan {case.case_id}", [pixels_path(review, case)], read)


def cached_heat(case_id: str, files: Sequence[Path], read: Callable[[], T]) -> T:
    """Return the heat maps of a case from the cache, unless a file was written since."""
    return _cached(_heat, f"heat {case_id}", files, read)


def cached_scores(what: str, files: Sequence[Path], read: Callable[[], T]) -> T:
    """Return what `read` computes from stored scores, cached until a file of them changes."""
    return _cached(_scores, what, files, read)


def cached_crops(what: str, files: Sequence[Path], read: Callable[[], T]) -> T:
    """Return the small pictures that `read` draws, cached until a file changes."""
    return _cached(_crops, what, files, read)


def load_picture(review: Review, case: RunCase) -> AxialStack:
    """Read a radiograph from its file, or the image that is a row of a MedMNIST file.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """

    def read() -> AxialStack:
        if case.row is not None:
            return build_picture(_read_row(review, case))
        return open_picture(read_case_image(review, case))

    name = f"image {case.case_id} {case.split} {case.row}"
    return _cached(_images, name, [pixels_path(review, case)], read)


def load_pixels(review: Review, case: RunCase) -> NDArray[np.float32]:
    """Read the pixels of an image without keeping them: [row, col, ...] in 0..1.

    Raises:
        MedkdError: if they cannot be read, with all reasons.
    """
    if case.row is not None:
        return _read_row(review, case)
    return read_case_image(review, case).pixels


def _read_row(review: Review, case: RunCase) -> NDArray[np.float32]:
    """Read the image of a case that is a row of a MedMNIST file: [row, col, ...] in 0..1."""
    path = pixels_path(review, case)
    images = _cached(_files_read, "medmnist", [path], lambda: read_medmnist(path))
    return read_row(images, path, case)


def mark_threshold(review: Review, source: MarkSource, arm: str = ARM) -> float | None:
    """Return the threshold chosen on validation for marks of a source; None if there is none.

    It is also None where scores are not shown: then the marks below it are left out already.
    """
    return _threshold(review, source, arm) if not review.mode.hides_scores else None


def _threshold(review: Review, source: MarkSource, arm: str) -> float | None:
    if review.kind == "RESULTS":
        return load_record(review).threshold
    return arm_threshold(load_evaluation(review), arm, source)


def image_threshold(review: Review, name: str) -> float | None:
    """Return the threshold chosen on validation for an arm or label; None if there is none."""
    if review.kind == "RESULTS":
        record = load_record(review)
        return record.threshold if len(record.labels) == 1 else None
    evaluation = load_evaluation(review)
    for result in evaluation.arms if evaluation else ():
        for scored in next(iter(result.classification.values()), ()):
            if name == (f"{result.name}, {scored.label}" if scored.label else result.name):
                return scored.operating_point.threshold
    return None


def finding_name(review: Review) -> str:
    """Return the label names of the model: what the probabilities refer to."""
    with stopping():
        return asked_finding(review) or "the finding"


def load_store(review: Review) -> ReviewStore:
    """Open the store of decisions; not cached, because the file may have been replaced.

    Raises:
        MedkdError: if it cannot be opened.
    """
    return open_store(review.decisions, two_reads=review.mode.two_reads)


def load_mine(review: Review) -> dict[str, dict[str, Decision]]:
    """Return this reader's latest decisions by case id and mark id."""
    with stopping():
        return by_case(load_store(review).latest(reader=reader_name()))


def load_case_mine(review: Review, case: RunCase) -> dict[str, Decision]:
    """Return this reader's latest decisions on a case by mark id."""
    with stopping():
        latest = load_store(review).latest(reader=reader_name(), case_id=case.case_id)
    seen = decisions_in_sight(latest, review.mode, finished=load_finished(review))
    return {decision.mark_id: decision for decision in seen}


def load_case_history(review: Review, case: RunCase) -> list[Decision]:
    """Return all decisions of this reader on a case, oldest first, but none on a hidden mark."""
    with stopping():
        history = load_store(review).history(case_id=case.case_id, reader=reader_name())
    return decisions_in_sight(history, review.mode, finished=load_finished(review))


def build_export(review: Review) -> Callable[[], str]:
    """Return a function that exports all decisions that the reader may see, as CSV.

    The function needs no session: Streamlit calls it in another thread when the reader asks for it.
    """
    with stopping():
        reader = login.current_reader()
        finished = load_finished(review)

    def export() -> str:
        rows = load_store(review).history()
        if review.mode.is_open:
            return decisions_csv(row for row in rows if reader.may_see(row))
        own = [row for row in rows if row.reader == reader.name]
        return decisions_csv(decisions_in_sight(own, review.mode, finished=finished))

    return export


def _files(review: Review) -> list[Path]:
    """Return all files that worklist, marks and probabilities are read from."""
    if review.kind == "INDEX":
        return [review.path]
    if review.kind == "RESULTS":
        return [review.results.record, review.results.table]  # the table is written last
    run = review.run
    return [
        run.cases, run.marks(ARM), run.result(ARM, "x").parent, run.reference,
        *(run.predictions(arm, split) for arm in ARMS for split in SPLITS),
    ]  # fmt: skip


def _cached(
    cache: Callable[..., object], what: str, files: Sequence[Path], read: Callable[[], T]
) -> T:
    """Return what `read` returns, from a cache unless a file was written or removed since.

    Args:
        cache: `_tables`, `_images` or `_files_read`.
        what: what is read; with the files it identifies the entry.
        files: all files that it is read from.
        read: reads it.
    """
    states = [path.stat() if path.exists() else None for path in files]
    stamps = [(s.st_mtime_ns, s.st_size) if s else (0, 0) for s in states]
    return cast("T", cache((what, [str(path) for path in files], stamps), read))


# Streamlit does not use arguments with an underscore as keys of a cache.
@st.cache_resource(max_entries=12, show_spinner="Reading ...")
def _tables(key: object, _read: Callable[[], object]) -> object:
    return _read()


@st.cache_resource(max_entries=1, show_spinner="Reading ...")
def _files_read(key: object, _read: Callable[[], object]) -> object:
    return _read()


@st.cache_resource(max_entries=4, show_spinner="Reading the image ...")
def _images(key: object, _read: Callable[[], object]) -> object:
    return _read()


@st.cache_resource(max_entries=4, show_spinner=False)
def _heat(key: object, _read: Callable[[], object]) -> object:
    return _read()


@st.cache_resource(max_entries=20, show_spinner="Reading scores ...")
def _scores(key: object, _read: Callable[[], object]) -> object:
    return _read()


@st.cache_resource(max_entries=500, show_spinner=False)
def _crops(key: object, _read: Callable[[], object]) -> object:
    return _read()
