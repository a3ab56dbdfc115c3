"""What every page shares: what is reviewed, the reader, cached reading, the notices on top.

What is reviewed and by whom comes from the environment (`MEDKD_REVIEW_PATH`, `MEDKD_REVIEW_INDEX`,
`MEDKD_REVIEW_READER`), as `medkd review` sets it. Text that comes from data is shown by `st.text`
and tables alone, never as markdown or HTML.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import streamlit as st
from display import AxialStack, build_axial_stack
from numpy.typing import NDArray

from medkd.errors import MedkdError, SeriesError
from medkd.formats import EVALUATION
from medkd.index.table import ArchiveIndex, read_index
from medkd.io.medmnist import MedMnistSet, read_medmnist
from medkd.jsonio import read_json
from medkd.models.package import read_info
from medkd.provenance import NO_PERFORMANCE
from medkd.report.summary import NOT_A_DEVICE, synthetic_sentence
from medkd.review.cases import SPLITS, CaseMarks, MarkSource, by_case, student_threshold
from medkd.review.index_cases import NoduleFact, nodule_facts
from medkd.review.opened import (
    Review,
    open_review,
    pixels_path,
    read_case_image,
    read_case_scan,
    read_marks,
    read_probabilities,
    read_worklist,
)
from medkd.review.store import Decision, ReviewStore, open_store
from medkd.runs import ARMS, SearchRecord
from medkd.types import Evaluation, Radiograph, RunCase

ARM = "student"
"""Whose marks and scores the reader sees."""

OPEN_CASE = "open_case"
"""Session key of the case ids that somebody asked for: the case page shows the only one."""

CASE_ORDER = "case_order"
"""Session key of the case ids as the worklist last listed them."""

NO_MODEL = "An index of an archive: no model has looked at these cases."

UNKNOWN_TRAINING = (
    "This run has no evaluation.json: how well its model works, and whether it was trained on "
    "synthetic scans, is not known."
)

UNKNOWN_MODEL = (
    "These results do not say whether synthetic scans were used to train the model: that is not "
    "known."
)

SYNTHETIC_MODEL = f"The model was trained on synthetic scans: {NO_PERFORMANCE}."

NOT_COMPARED = "Results of `medkd detect`: they were not compared with a reference standard."


def case_keys() -> list[str]:
    """Return the parts of the address that name a case, in whatever letters."""
    return [key for key in st.query_params if key.casefold() == "case"]


def asked_in_address() -> list[str]:
    """Return the case ids that the address asks for."""
    return [name for key in case_keys() for name in st.query_params.get_all(key)]


def current_review() -> Review:
    """Return what is reviewed."""
    index = os.environ.get("MEDKD_REVIEW_INDEX", "")
    with stopping():
        path = Path(os.environ.get("MEDKD_REVIEW_PATH", ""))
        return open_review(path, index=Path(index) if index else None)


def reader_name() -> str:
    """Return who decides."""
    return os.environ.get("MEDKD_REVIEW_READER", "").strip() or "reader"


@contextmanager
def stopping() -> Iterator[None]:
    """End the page if something is refused, and show the refusal with all its reasons."""
    try:
        yield
    except MedkdError as error:
        st.error("This page cannot be shown.")
        st.text(str(error))
        st.stop()


def show_notices(review: Review) -> None:
    """Show what stands on top of every page."""
    if review.kind == "INDEX":
        st.caption(f"{NO_MODEL} {NOT_A_DEVICE}")
    elif review.kind == "RESULTS":
        _notice_of_results(load_record(review))
    else:
        _notice_of_run(load_evaluation(review))


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


def load_cases(review: Review) -> list[RunCase]:
    """Return the cases in reading order."""
    with stopping():
        return _cases(review, str(review.path), _stamps(review))


def load_evaluation(review: Review) -> Evaluation | None:
    """Return the evaluation of a run, None if there is none."""
    path = review.run.evaluation
    if review.kind != "RUN" or not path.is_file():
        return None
    with stopping():
        return _evaluation(str(path), _stamp(path))


def load_record(review: Review) -> SearchRecord:
    """Return what RESULTS were made with."""
    with stopping():
        return review.results.read_record()


def load_archive(review: Review) -> ArchiveIndex:
    """Return the INDEX that is reviewed."""
    with stopping():
        return _archive(str(review.path), _stamp(review.path))


def load_nodule_facts(review: Review) -> dict[str, NoduleFact]:
    """Return what the INDEX that is reviewed knows of each scan's nodules."""
    return _nodule_facts(load_archive(review), str(review.path), _stamp(review.path))


def load_marks(review: Review) -> dict[str, CaseMarks]:
    """Return the model's marks by case id."""
    with stopping():
        return _marks(review, str(review.path), _stamps(review))


def load_probabilities(review: Review) -> dict[str, dict[str, float]]:
    """Return the probability of each image by arm, of RESULTS by label."""
    with stopping():
        return _probabilities(review, str(review.path), _stamps(review))


def load_stack(review: Review, case: RunCase) -> AxialStack:
    """Read a scan turned for reading.

    Raises:
        MedkdError: if the scan cannot be read, with all reasons.
    """
    path = pixels_path(review, case)
    return _stack(review, case, str(path), case.case_id, _stamp(path))


def load_radiograph(review: Review, case: RunCase) -> Radiograph:
    """Read a radiograph from its file.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """
    path = pixels_path(review, case)
    return _radiograph(review, case, str(path), case.case_id, _stamp(path))


def load_row(review: Review, case: RunCase) -> NDArray[np.float32]:
    """Read the row of a MedMNIST file that a case is.

    Returns:
        [row, col] or [i, j, k] in 0..1.

    Raises:
        MedkdError: if the file cannot be read or has no such row.
    """
    path = pixels_path(review, case)
    splits = _medmnist(str(path), _stamp(path)).splits
    images = next((part.images for name, part in splits.items() if name == case.split), ())
    if case.row is None or not 0 <= case.row < len(images):
        reason = f"expected a row below {len(images)}, got {case.row!r}"
        raise SeriesError(f"{path}: no such row of {case.split}", [reason])
    return np.asarray(images[case.row], dtype=np.float32) / 255.0


def mark_threshold(review: Review, source: MarkSource) -> float | None:
    """Return the frozen threshold for marks of that source; None where there is none."""
    if review.kind == "RESULTS":
        return load_record(review).threshold
    return student_threshold(load_evaluation(review), source)


def image_threshold(review: Review, name: str) -> float | None:
    """Return the threshold on the probability of that name; None where there is none."""
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
    """Name what the probabilities are of, as the model says."""
    if review.kind == "RESULTS":
        return " or ".join(load_record(review).labels) or "the finding"
    try:
        return " or ".join(read_info(review.run.model(ARM)).label_names) or "the finding"
    except MedkdError:
        return "the finding"


def load_store(review: Review) -> ReviewStore:
    """Open the readers' decisions anew each time: the file may have been replaced meanwhile.

    Raises:
        MedkdError: if they cannot be kept there.
    """
    return open_store(review.decisions)


def load_mine(review: Review) -> dict[str, dict[str, Decision]]:
    """Return this reader's decisions that count: case id to mark id to decision."""
    with stopping():
        return by_case(load_store(review).latest(reader=reader_name()))


def load_history(review: Review) -> list[Decision]:
    """Return every decision of every reader, oldest first."""
    with stopping():
        return load_store(review).history()


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written anew, so that caches never show an old one."""
    if not path.exists():
        return (0, 0)
    status = path.stat()
    return (status.st_mtime_ns, status.st_size)


def _stamps(review: Review) -> tuple[tuple[int, int], ...]:
    """Return the stamps of all files that worklist, marks and probabilities are read from."""
    if review.kind == "INDEX":
        return (_stamp(review.path),)
    if review.kind == "RESULTS":  # the table is written last
        return (_stamp(review.results.record), _stamp(review.results.table))
    run = review.run
    files = [run.cases, run.marks(ARM), run.result(ARM, "x").parent, run.reference]
    files += [run.predictions(arm, split) for arm in ARMS for split in SPLITS]
    return tuple(_stamp(path) for path in files)


# Arguments with an underscore are no keys of a cache: path and stamps stand for them.
@st.cache_data(max_entries=4, show_spinner=False)
def _cases(_review: Review, path: str, stamps: tuple[tuple[int, int], ...]) -> list[RunCase]:
    return read_worklist(_review)


@st.cache_resource(max_entries=4, show_spinner=False)
def _evaluation(path: str, stamp: tuple[int, int]) -> Evaluation:
    return read_json(Path(path), Evaluation, form=EVALUATION)


@st.cache_resource(max_entries=2, show_spinner="Reading marks ...")
def _marks(_review: Review, path: str, stamps: tuple[tuple[int, int], ...]) -> dict[str, CaseMarks]:
    return read_marks(_review, ARM)


@st.cache_resource(max_entries=2, show_spinner="Reading probabilities ...")
def _probabilities(
    _review: Review, path: str, stamps: tuple[tuple[int, int], ...]
) -> dict[str, dict[str, float]]:
    return read_probabilities(_review)


@st.cache_resource(max_entries=2, show_spinner="Reading the scan ...")
def _stack(
    _review: Review, _case: RunCase, path: str, case_id: str, stamp: tuple[int, int]
) -> AxialStack:
    scan = read_case_scan(_review, _case)
    return build_axial_stack(scan.voxels_hu, scan.grid)


@st.cache_resource(max_entries=4, show_spinner=False)
def _radiograph(
    _review: Review, _case: RunCase, path: str, case_id: str, stamp: tuple[int, int]
) -> Radiograph:
    return read_case_image(_review, _case)


@st.cache_resource(max_entries=1, show_spinner="Reading the index ...")
def _archive(path: str, stamp: tuple[int, int]) -> ArchiveIndex:
    return read_index(Path(path))


@st.cache_resource(max_entries=1, show_spinner=False)
def _nodule_facts(
    _archive: ArchiveIndex, path: str, stamp: tuple[int, int]
) -> dict[str, NoduleFact]:
    return nodule_facts(_archive)


@st.cache_resource(max_entries=1, show_spinner="Reading the images ...")
def _medmnist(path: str, stamp: tuple[int, int]) -> MedMnistSet:
    return read_medmnist(Path(path))
