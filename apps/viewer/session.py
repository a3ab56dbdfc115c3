"""What every page shares: the run, the reader, cached reading, the notices on top.

The run and the reader come from the environment (`MEDKD_REVIEW_RUN`, `MEDKD_REVIEW_READER`), as
`medkd review` sets them. Text that comes from data is shown by `st.text` and tables alone, never
as markdown or HTML.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import streamlit as st
from display import AxialStack, build_axial_stack
from numpy.typing import NDArray

from medkd.errors import MedkdError, SeriesError
from medkd.index.case_store import open_image, open_scan
from medkd.index.table import ArchiveIndex, is_index, read_index
from medkd.io.medmnist import MedMnistSet, read_medmnist
from medkd.io.radiograph.read import read_radiograph
from medkd.io.scans import read_scan
from medkd.jsonio import read_json
from medkd.models.package import read_info
from medkd.report.summary import NOT_A_DEVICE, synthetic_sentence
from medkd.review.cases import (
    SPLITS,
    CaseMarks,
    by_case,
    case_path,
    check_run,
    read_case_marks,
    read_image_probabilities,
    read_worklist,
)
from medkd.review.index_cases import NoduleFact, index_of, is_index, nodule_facts
from medkd.review.store import Decision, ReviewStore, open_store
from medkd.runs import ARMS, RunFolder
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


def case_keys() -> list[str]:
    """Return the parts of the address that name a case, in whatever letters."""
    return [key for key in st.query_params if key.casefold() == "case"]


def asked_in_address() -> list[str]:
    """Return the case ids that the address asks for."""
    return [name for key in case_keys() for name in st.query_params.get_all(key)]


def current_run() -> RunFolder:
    """Return the run that is reviewed; stop the page, saying why, where there is none."""
    try:
        return check_run(Path(os.environ.get("MEDKD_REVIEW_RUN", "")))
    except MedkdError as error:
        stop_with(error)


def reader_name() -> str:
    """Return who decides."""
    return os.environ.get("MEDKD_REVIEW_READER", "").strip() or "reader"


def stop_with(error: MedkdError) -> NoReturn:
    """Show a refusal with all its reasons and end the page."""
    st.error("This page cannot be shown.")
    st.text(str(error))
    st.stop()


def show_notices(run: RunFolder) -> None:
    """Show what stands on top of every page."""
    evaluation = load_evaluation(run)
    if is_index(run):
        st.caption(f"{NO_MODEL} {NOT_A_DEVICE}")
    elif evaluation is None:
        st.warning(f"{UNKNOWN_TRAINING} {NOT_A_DEVICE}")
    elif evaluation.trained_on_synthetic:
        st.warning(f"{synthetic_sentence(evaluation)} {NOT_A_DEVICE}")
    else:
        st.caption(NOT_A_DEVICE)


def load_cases(run: RunFolder) -> list[RunCase]:
    """Return the cases in reading order; stop the page, saying why, where they cannot be read."""
    try:
        return _cases(str(run.cases), _stamp(run.cases))
    except MedkdError as error:
        stop_with(error)


def load_evaluation(run: RunFolder) -> Evaluation | None:
    """Return the run's evaluation, None where it has none yet; stop where it cannot be read."""
    if not run.evaluation.is_file():
        return None
    try:
        return _evaluation(str(run.evaluation), _stamp(run.evaluation))
    except MedkdError as error:
        stop_with(error)


def load_archive(run: RunFolder) -> ArchiveIndex:
    """Return the INDEX that is reviewed; stop the page, saying why, where it cannot be read."""
    path = index_of(run)
    try:
        return _archive(str(path), _stamp(path))
    except MedkdError as error:
        stop_with(error)


def load_nodule_facts(run: RunFolder) -> dict[str, NoduleFact]:
    """Return what the INDEX that is reviewed knows of each scan's nodules."""
    path = index_of(run)
    return _nodule_facts(load_archive(run), str(path), _stamp(path))


def load_marks(run: RunFolder) -> dict[str, CaseMarks]:
    """Return the student's marks by case id; stop the page, saying why, where that fails."""
    files = [run.marks(ARM), run.result(ARM, "x").parent, run.reference]
    files += [run.predictions(ARM, split) for split in SPLITS]
    try:
        return _marks(str(run.path), tuple(_stamp(path) for path in files))
    except MedkdError as error:
        stop_with(error)


def load_image_probabilities(run: RunFolder) -> dict[str, dict[str, float]]:
    """Return each arm's probability of each image; stop, saying why, where that fails."""
    files = [run.predictions(arm, split) for arm in ARMS for split in SPLITS]
    try:
        return _probabilities(str(run.path), tuple(_stamp(path) for path in files))
    except MedkdError as error:
        stop_with(error)


def load_stack(run: RunFolder, case: RunCase) -> AxialStack:
    """Read a scan turned for reading.

    Raises:
        MedkdError: if the scan cannot be read, with all reasons.
    """
    path = case_path(run, case)
    return _stack(str(path), case.case_id, _stamp(path))


def load_radiograph(run: RunFolder, case: RunCase) -> Radiograph:
    """Read a radiograph from its file.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """
    path = case_path(run, case)
    return _radiograph(str(path), case.case_id, _stamp(path))


def load_row(run: RunFolder, case: RunCase) -> NDArray[np.float32]:
    """Read the row of a MedMNIST file that a case is.

    Returns:
        [row, col] or [i, j, k] in 0..1.

    Raises:
        MedkdError: if the file cannot be read or has no such row.
    """
    path = case_path(run, case)
    splits = _medmnist(str(path), _stamp(path)).splits
    images = next((part.images for name, part in splits.items() if name == case.split), ())
    if case.row is None or not 0 <= case.row < len(images):
        reason = f"expected a row below {len(images)}, got {case.row!r}"
        raise SeriesError(f"{path}: no such row of {case.split}", [reason])
    return np.asarray(images[case.row], dtype=np.float32) / 255.0


def frozen_threshold(evaluation: Evaluation | None, arm: str) -> float | None:
    """Return an arm's threshold that was frozen on validation, None where there is none."""
    for result in evaluation.arms if evaluation else ():
        if result.name == arm and result.classification:
            return next(iter(result.classification.values())).operating_point.threshold
    return None


def finding_name(run: RunFolder) -> str:
    """Name what the student's probability is of, as its model directory says."""
    try:
        return " or ".join(read_info(run.model(ARM)).label_names) or "the finding"
    except MedkdError:
        return "the finding"


def load_store(run: RunFolder) -> ReviewStore:
    """Open the readers' decisions anew each time: the file may have been replaced meanwhile.

    Raises:
        MedkdError: if they cannot be kept there.
    """
    return open_store(run.review)


def load_mine(run: RunFolder) -> dict[str, dict[str, Decision]]:
    """Return this reader's decisions that count: case id to mark id to decision."""
    try:
        return by_case(load_store(run).latest(reader=reader_name()))
    except MedkdError as error:
        stop_with(error)


def load_history(run: RunFolder) -> list[Decision]:
    """Return every decision of every reader, oldest first."""
    try:
        return load_store(run).history()
    except MedkdError as error:
        stop_with(error)


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written anew, so that caches never show an old one."""
    if not path.exists():
        return (0, 0)
    status = path.stat()
    return (status.st_mtime_ns, status.st_size)


@st.cache_data(max_entries=4, show_spinner=False)
def _cases(path: str, stamp: tuple[int, int]) -> list[RunCase]:
    return read_worklist(Path(path))


@st.cache_resource(max_entries=4, show_spinner=False)
def _evaluation(path: str, stamp: tuple[int, int]) -> Evaluation:
    return read_json(Path(path), Evaluation)


@st.cache_resource(max_entries=2, show_spinner="Reading marks ...")
def _marks(run: str, stamps: tuple[tuple[int, int], ...]) -> dict[str, CaseMarks]:
    return read_case_marks(RunFolder(Path(run)), ARM)


@st.cache_resource(max_entries=2, show_spinner="Reading probabilities ...")
def _probabilities(run: str, stamps: tuple[tuple[int, int], ...]) -> dict[str, dict[str, float]]:
    return read_image_probabilities(RunFolder(Path(run)))


@st.cache_resource(max_entries=2, show_spinner="Reading the scan ...")
def _stack(path: str, case_id: str, stamp: tuple[int, int]) -> AxialStack:
    place = Path(path)
    archived = is_index(place)
    scan = open_scan(place, case_id) if archived else read_scan(place, seriesuid=case_id)
    return build_axial_stack(scan.voxels_hu, scan.grid)


@st.cache_resource(max_entries=4, show_spinner=False)
def _radiograph(path: str, case_id: str, stamp: tuple[int, int]) -> Radiograph:
    place = Path(path)
    return open_image(place, case_id) if is_index(place) else read_radiograph(place)


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
