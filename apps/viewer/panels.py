"""The widgets for a reader's decisions on marks, on a whole scan, and on an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import deciding
import session
import slice_viewer
import streamlit as st
from display import AxialStack
from scene import Jump

from medkd.review.cases import Mark, MarkSource, count_decided
from medkd.review.opened import Review
from medkd.review.store import WHOLE_CASE, Decision, Verdict
from medkd.types import Point, RunCase

SOURCE_WORDS: dict[MarkSource, str] = {
    "whole-scan": "Marks from the student's search of whole scans, highest score first.",
    "candidates": "Candidates of a given list, scored by the student, highest score first. "
    "Nodules that the list omits are not shown.",
    "detect": "Marks of `medkd detect`, highest score first.",
    "none": "This run has no marks for this scan, because the scan was not searched.",
}
VERDICT_BUTTONS: tuple[tuple[Verdict, str, str], ...] = (
    ("accept", "Accept", "Accepted"),
    ("reject", "Reject", "Rejected"),
    ("undecided", "Clear", "Clear"),
)
LEGEND = "Rings: yellow undecided, green accepted, grey rejected."
LISTED_AT_ONCE = 12


def show_marks(
    review: Review,
    case: RunCase,
    marks: Sequence[Mark],
    *,
    mine: Mapping[str, Decision],
    stack: AxialStack | None,
) -> None:
    """Draw one box per mark with the buttons jump, accept, reject and clear, and a note."""
    done = f"{count_decided(marks, mine)} of {len(marks)} decided. {LEGEND}"
    st.caption(done if marks else "No mark.")
    key = f"listed:{case.case_id}"
    listed = int(st.session_state.get(key, LISTED_AT_ONCE))
    for mark in marks[:listed]:
        shown = mark_decision(case, mark, mine)
        with st.container(border=True, gap="xsmall"):
            label = f"Mark {mark.number}: score {mark.candidate.score:.3f}"
            place = mark.candidate.center_mm
            jump_button(case, label, center_mm=place, name=mark.mark_id, stack=stack)
            _show_verdicts(review, shown, key=f"{case.case_id}:{mark.number}")
            _show_note(review, shown)
    rest = len(marks) - listed
    if rest > 0:
        label = f"List {min(LISTED_AT_ONCE, rest)} more (not listed: {rest})"
        st.button(label, on_click=_list_more, args=(key, listed))


def mark_decision(case: RunCase, mark: Mark, mine: Mapping[str, Decision]) -> Decision:
    """Return the latest decision on a mark, with the score and place that the reader sees."""
    shown = _current(mine, case, mark.mark_id)
    return replace(shown, score=mark.candidate.score, center_mm=mark.candidate.center_mm)


def show_whole_scan(review: Review, case: RunCase, mine: Mapping[str, Decision]) -> None:
    """Draw the button that marks a scan as reviewed, and the note field of the scan."""
    st.subheader("Whole scan")
    shown = _current(mine, case, WHOLE_CASE)
    done = shown.verdict == "reviewed"
    st.button(
        "Reopen the case" if done else "Mark the case as reviewed",
        key=f"reviewed:{case.case_id}",
        type="secondary" if done else "primary",
        on_click=deciding.decide,
        args=(review, shown, "verdict", "undecided" if done else "reviewed"),
    )
    _show_note(review, shown)


def show_image_decision(
    review: Review,
    case: RunCase,
    mine: Mapping[str, Decision],
    *,
    meaning: str = "Accept: the finding is present. Reject: it is not.",
) -> None:
    """Draw the decision buttons and the note field of an image, and explain the buttons."""
    st.subheader("Decision")
    st.caption(meaning)
    shown = replace(_current(mine, case, WHOLE_CASE), score=case.score)
    _show_verdicts(review, shown, key=f"{case.case_id}:{WHOLE_CASE}")
    _show_note(review, shown)


def _current(mine: Mapping[str, Decision], case: RunCase, mark_id: str) -> Decision:
    """Return the latest decision, or an undecided one."""
    fresh = Decision(case.case_id, mark_id, session.reader_name(), "undecided")
    return mine.get(mark_id, fresh)


def jump_button(
    case: RunCase, label: str, *, center_mm: Point, name: str, stack: AxialStack | None
) -> None:
    """Draw a button that selects a mark or nodule and shows its slice."""
    inside = stack is not None and bool(stack.grid.contains_world(center_mm))
    target = stack.nearest_slice(center_mm) + 1 if stack and inside else 0
    place = f", slice {target}" if target else ", outside the scan" if stack else ""
    jumped: Jump = st.session_state.get(slice_viewer.jump_key(case), Jump())
    st.button(
        f"{label}{place}",
        key=f"show:{case.case_id}:{name}",
        on_click=slice_viewer.jump_to,
        args=(case, name),
        disabled=not target,
        width="stretch",
        type="primary" if jumped.ring_id == name else "secondary",
    )


def _show_verdicts(review: Review, shown: Decision, *, key: str) -> None:
    row = st.container(horizontal=True)
    for verdict, wanted, given in VERDICT_BUTTONS:
        is_current = shown.verdict == verdict
        row.button(
            given if is_current else wanted,
            key=f"{verdict}:{key}",
            type="primary" if is_current and verdict != "undecided" else "secondary",
            disabled=is_current and verdict == "undecided",
            on_click=deciding.decide,
            args=(review, shown, "verdict", verdict),
        )


def _show_note(review: Review, shown: Decision) -> None:
    """Draw the note, which is saved on Enter or on leaving the field, and what is saved."""
    field = deciding.note_field(shown)
    st.text_input(
        "Note",
        value=field.begins_with,
        key=field.key,
        placeholder="Note (Enter saves)",
        label_visibility="collapsed",
        max_chars=2000,
        on_change=deciding.save_note,
        args=(review, shown, field.key),
    )
    # Always one line, because buttons below must not move while a reader presses one.
    when = deciding.saved_words(shown) if shown.decided_at else ""
    saved = f"{shown.verdict}, {when}" if when else "Nothing saved yet."
    unsaved = " Your change is NOT saved: see the top of the page."
    st.caption(f"{saved}{unsaved if deciding.is_unsaved(shown) else ''}")


def _list_more(key: str, listed: int) -> None:
    st.session_state[key] = listed + LISTED_AT_ONCE
