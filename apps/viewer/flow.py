"""Going from case to case: the buttons above a case, and finishing a case.

A case is finished when the reader marks it as reviewed; then the next unread one opens. While marks
are undecided, the page asks first. The slice viewer presses these buttons when the reader presses
their keys (`component/js/page.js`), and Streamlit does so when the viewer does not have the focus.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import address
import deciding
import session
import streamlit as st
from callbacks import uninterrupted
from streamlit.delta_generator import DeltaGenerator

from medkd.review.cases import case_progress
from medkd.review.opened import Review
from medkd.review.store import Decision
from medkd.review.worklist import next_unread
from medkd.types import RunCase

ASKING = "asking"
"""Session key of a case id and the question while the page asks whether something is finished."""

FINISHED = "finished"
"""Session key of the case that was finished last (`Finished`)."""

ALL_READ = "No other case of this list is unread."
LONGEST_ID = 23
ID_PART = 8
DOUBLE_CLICK_S = 1.0
"""Within this time after a case was finished, the next one cannot be finished."""


@dataclass(slots=True)
class Finished:
    """What became of the case that was finished last, and when (`time.monotonic`)."""

    words: str = ""
    at: float = -DOUBLE_CLICK_S


def show_steps(bar: DeltaGenerator, review: Review, order: Sequence[str], case: RunCase) -> None:
    """Draw the buttons to other cases into a row.

    Args:
        bar: the row.
        review: the opened RUN, RESULTS or INDEX.
        order: the case ids in the order of the worklist, with the open case.
        case: the open case.
    """
    place = order.index(case.case_id)
    for label, step, key in (("Previous case", -1, "b"), ("Next case", 1, "f")):
        inside = 0 <= place + step < len(order)
        target = order[place + step] if inside else case.case_id
        bar.button(
            label,
            key=f"go_{key}",
            disabled=not inside,
            on_click=uninterrupted(go_to),
            args=(target,),
            shortcut=key,
        )
    bar.button(
        "Next unread",
        key="go_s",
        on_click=uninterrupted(go_to_unread),
        args=(review, case.case_id),
        shortcut="s",
    )
    if bar.button("Worklist", key="go_w", shortcut="w"):
        st.switch_page("worklist.py", query_params=address.parameters_besides_case())
    bar.caption(f"{place + 1} of {len(order)}")


def show_finished(bar: DeltaGenerator) -> None:
    """Draw what became of the case that was finished last."""
    finished: Finished = st.session_state.get(FINISHED, Finished())
    if finished.words:
        bar.text(finished.words)


def go_to(case_id: str) -> None:
    """Open a case when the page is drawn next."""
    st.session_state[FINISHED] = Finished()
    st.session_state[session.OPEN_CASE] = [case_id]


def go_to_unread(review: Review, case_id: str) -> None:
    """Open the next case of the worklist that the reader has not read, if there is one."""
    unread = _find_unread(review, case_id)
    go_to(unread or case_id)
    st.session_state[FINISHED] = Finished("" if unread else ALL_READ)


def show_finish(row: DeltaGenerator, review: Review, shown: Decision, undecided: int) -> None:
    """Draw the button that finishes a case; the arguments are those of `finish`."""
    words = "Mark the case as reviewed"
    _finish_button(row, words, f"reviewed:{shown.case_id}", "e", (review, shown, undecided))


def ask(row: DeltaGenerator, review: Review, shown: Decision, undecided: int) -> None:
    """Draw the question whether a case is finished; the arguments are those of `finish`."""
    show_no(row, shown.case_id)
    words = "Mark anyway"
    _finish_button(row, words, f"anyway:{shown.case_id}", "y", (review, shown, undecided))
    row.caption(question(shown.case_id))


def show_no(row: DeltaGenerator, case_id: str) -> None:
    """Draw the answer "no" to the question of a case.

    It comes before "yes", where the button was that asked: a double click must not answer "yes".
    """
    row.button(
        "Keep reading", key=f"keep:{case_id}", on_click=uninterrupted(keep_reading), shortcut="n"
    )


def _finish_button(
    row: DeltaGenerator, label: str, key: str, shortcut: str, args: tuple[Review, Decision, int]
) -> None:
    row.button(
        label, key=key, type="primary", on_click=uninterrupted(finish), args=args, shortcut=shortcut
    )


def finish(review: Review, shown: Decision, undecided: int) -> None:
    """Mark a scan as reviewed and open the next unread case; ask first while marks are undecided.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        shown: the decision on the whole scan as the page shows it.
        undecided: the number of undecided marks.
    """
    # Streamlit may stop a callback at any access to the session: all come before the saving.
    finished: Finished = st.session_state.setdefault(FINISHED, Finished())
    opening: list[str] = st.session_state.setdefault(session.OPEN_CASE, [])
    if time.monotonic() - finished.at < DOUBLE_CLICK_S:
        return  # the second click of a double click, on the next case
    if undecided and not question(shown.case_id):
        marks = "1 mark is" if undecided == 1 else f"{undecided} marks are"
        put_question(shown.case_id, f"{marks} undecided. Mark the case as reviewed?")
        return
    unread = _find_unread(review, shown.case_id)
    saved = deciding.save_change(review, shown, "verdict", "reviewed")
    if saved is None:
        return
    finished.at = time.monotonic()
    ending = "" if unread else f" {ALL_READ}"
    name = shorten(shown.case_id)
    finished.words = f"{name}: reviewed, {deciding.saved_words(saved)}.{ending}"
    opening[:] = [unread or shown.case_id]


def reopen(review: Review, shown: Decision) -> None:
    """Take back that a scan is reviewed."""
    st.session_state.pop(FINISHED, None)
    deciding.save_change(review, shown, "verdict", "undecided")


def shorten(case_id: str) -> str:
    """Return a case id that fits beside the buttons: a UID is as long as all of them."""
    short = len(case_id) <= LONGEST_ID
    return case_id if short else f"{case_id[:ID_PART]}...{case_id[-ID_PART:]}"


def put_question(case_id: str, words: str) -> None:
    """Ask a question about a case, until it is answered or another case is shown."""
    st.session_state[ASKING] = (case_id, words)


def question(case_id: str) -> str:
    """Return what the page asks before it finishes a case or a first read; empty: nothing."""
    asked, words = st.session_state.get(ASKING, ("", ""))
    return words if asked == case_id else ""


def keep_reading() -> None:
    """Ask no more whether a case is finished."""
    st.session_state.pop(ASKING, None)


def _find_unread(review: Review, case_id: str) -> str:
    listed = session.load_cases(review)
    cases = {case.case_id: case for case in listed}
    mine = session.load_mine(review)
    order = address.current_order(review, listed)

    def is_read(name: str) -> bool:
        return case_progress(cases[name], mine.get(name, {})) == "reviewed"

    return next_unread(order, case_id, is_read)
