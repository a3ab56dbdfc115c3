"""What the reading modes add to the pages: the name of the mode, and the end of a first read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import deciding
import flow
import panels
import session
import streamlit as st
from callbacks import uninterrupted
from streamlit.delta_generator import DeltaGenerator

from medkd.errors import MedkdError
from medkd.review.cases import Mark
from medkd.review.history import time_words
from medkd.review.opened import Review
from medkd.review.store import FIRST_READ, Decision
from medkd.types import RunCase

NOT_FINISHED = "first_read_not_finished"
"""Session key of the refusal to finish a first read; empty if there was none."""

QUESTION = "Finish the first read of this case and show the marks?"

EXPLANATION = (
    "After that, the marks of the model are shown. The nodules that you added until then can no "
    "longer be changed, undone or withdrawn."
)


def show_mode(review: Review) -> None:
    """Name the reading mode in the side bar, unless it is the usual one."""
    if review.mode.name != "concurrent":
        st.caption("Reading mode")
        st.text(review.mode.name)


def show_progress(
    review: Review, case: RunCase, mine: Mapping[str, Decision], marks: Sequence[Mark]
) -> None:
    """Draw the button that marks a scan as reviewed, in a first read the one that finishes it."""
    if not show_first_read(review, case, mine):
        panels.show_reviewed(review, case, mine, marks)


def show_first_read(review: Review, case: RunCase, mine: Mapping[str, Decision]) -> bool:
    """Draw the state of the first read, if there is one; return whether it goes on."""
    if not review.mode.two_reads:
        return False
    if lock := mine.get(FIRST_READ):
        if flow.question(case.case_id) == QUESTION:  # another tab has answered it
            flow.keep_reading()
        st.caption(f"Second read. The first one was finished on {time_words(lock)}.")
        return False
    if refusal := st.session_state.get(NOT_FINISHED):
        st.error("The first read was NOT finished.")
        st.text(refusal)
    row = st.container(horizontal=True, vertical_alignment="center", gap="small", key="finish")
    if flow.question(case.case_id):
        _ask(row, review, case)
    else:
        flow.keep_reading()
        row.button(
            "Finish the first read",
            key=f"first_read:{case.case_id}",
            type="primary",
            on_click=uninterrupted(flow.put_question),
            args=(case.case_id, QUESTION),
            shortcut="e",
        )
    return True


def first_read_goes_on(review: Review, mine: Mapping[str, Decision]) -> bool:
    """Return whether a case is read for the first time, without marks."""
    return review.mode.two_reads and FIRST_READ not in mine


def _ask(row: DeltaGenerator, review: Review, case: RunCase) -> None:
    """Draw the question whether the first read is finished, and what this means."""
    unsaved = deciding.has_unsaved(case.case_id)
    flow.show_no(row, case.case_id)
    row.button(
        "Finish it and show the marks",
        key=f"anyway:{case.case_id}",
        type="primary",
        disabled=unsaved,
        on_click=uninterrupted(_finish),
        args=(review, case.case_id),
        shortcut="y",
    )
    st.caption(EXPLANATION)
    if unsaved:
        st.warning("Save or discard your unsaved changes before: see the top of the page.")


def reads_column(
    review: Review, cases: Sequence[RunCase], decided: Mapping[str, Mapping[str, Decision]]
) -> dict[str, list[object]]:
    """Return the column of the worklist that says which read of a case comes next, if any."""
    if not review.mode.two_reads:
        return {}
    locked = (FIRST_READ in decided.get(case.case_id, {}) for case in cases)
    return {"Read": ["second" if done else "first" for done in locked]}


def _finish(review: Review, case_id: str) -> None:
    reader = session.reader_name()
    st.session_state[NOT_FINISHED] = ""
    flow.keep_reading()
    try:
        session.load_store(review).finish_first_read(case_id, reader)
    except MedkdError as error:
        st.session_state[NOT_FINISHED] = str(error)
