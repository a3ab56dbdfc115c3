"""The widgets for a reader's decisions on marks, on a whole scan, and on an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import deciding
import flow
import session
import slice_viewer
import streamlit as st
from callbacks import uninterrupted
from display import AxialStack

from medkd.review.cases import CaseMarks, Mark, MarkSource, count_decided
from medkd.review.history import describe_history, describe_verdict, place_words
from medkd.review.opened import Review
from medkd.review.place_words import size_words
from medkd.review.store import WHOLE_CASE, Decision, Verdict
from medkd.types import Point, RunCase

SOURCE_WORDS: dict[MarkSource, str] = {
    "whole-scan": "Marks from the student's search of whole scans, {order}.",
    "candidates": "Candidates of a given list, scored by the student, {order}. "
    "Nodules that the list omits are not shown.",
    "detect": "Marks of `medkd detect`, {order}.",
    "none": "This run has no marks for this scan, because the scan was not searched.",
    "hidden": "The marks of the model are not shown.",
}
VERDICT_BUTTONS: tuple[tuple[Verdict, str, str], ...] = (
    ("accept", "Accept", "Accepted"),
    ("reject", "Reject", "Rejected"),
    ("undecided", "Clear", "Clear"),
)
ADDED_BUTTONS: tuple[tuple[Verdict, str, str], ...] = (("undecided", "Withdraw", "Withdrawn"),)
LEGEND = "Rings: yellow undecided, green accepted, grey rejected, orange added."
IMAGE_MEANING = "Accept: the finding is present. Reject: it is not."
LISTED_AT_ONCE = 60
HISTORY_LINES = 6


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of the list beside the image: a mark or an added nodule, and the latest decision.

    `place` names its lung in short, and `lines` are shown in the box of the chosen row. `locked`:
    it was added in a first read that is finished, and cannot be changed.
    """

    label: str
    shown: Decision
    place: str = ""
    lines: tuple[str, ...] = ()
    locked: bool = False


def source_words(found: CaseMarks, *, scored: bool) -> str:
    """Return where marks come from, and their order, as words."""
    order = "highest score first" if scored else "from the head downwards"
    return SOURCE_WORDS[found.source].format(order=order)


def mark_rows(marks: Sequence[Mark], shown: Mapping[str, Decision]) -> list[Listed]:
    """Build the rows of marks; `shown` are the latest decisions by mark id."""
    return [Listed(_mark_label(mark), shown[mark.mark_id]) for mark in marks]


def _mark_label(mark: Mark) -> str:
    return f"Mark {mark.number}" + ("" if mark.score is None else f": {mark.score:.3f}")


def show_list(
    review: Review,
    case: RunCase,
    rows: Sequence[Listed],
    *,
    stack: AxialStack | None,
    history: Sequence[Decision],
) -> None:
    """Draw one line per mark or added nodule; the chosen one opens its decision, note and history.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        case: the case.
        rows: the marks, then the added nodules.
        stack: the scan, if it can be shown.
        history: all decisions of the reader on the case, oldest first.
    """
    names = [row.shown.mark_id for row in rows]
    chosen = slice_viewer.chosen_ring(case)
    chosen = chosen if chosen in names else next(iter(names), "")
    key = f"listed:{case.case_id}"
    listed = int(st.session_state.get(key, LISTED_AT_ONCE))
    if chosen:
        listed = max(listed, names.index(chosen) + 1)
    with st.container(key="mark_list", gap=None):
        for row in rows[:listed]:
            _show_row(case, row, stack=stack, chosen=row.shown.mark_id == chosen)
            if row.shown.mark_id == chosen:
                _show_chosen(review, row, history)
        rest = len(rows) - listed
        if rest > 0:
            label = f"List {min(LISTED_AT_ONCE, rest)} more (not listed: {rest})"
            st.button(label, on_click=uninterrupted(_list_more), args=(key, listed))


def _show_row(case: RunCase, row: Listed, *, stack: AxialStack | None, chosen: bool) -> None:
    shown = row.shown
    size = size_words(shown.diameter_mm) if shown.diameter_mm else "no diameter"
    place = shown.center_mm or (0.0, 0.0, 0.0)
    jump_button(
        case,
        f"{row.label}, {size}",
        center_mm=place,
        name=shown.mark_id,
        stack=stack,
        chosen=chosen,
        ending=", ".join(["", *filter(None, [row.place]), describe_verdict(shown)]),
    )


def _show_chosen(review: Review, row: Listed, history: Sequence[Decision]) -> None:
    """Draw the buttons, note, place and history of the chosen mark or added nodule."""
    shown = row.shown
    with st.container(border=True, gap="xsmall", key="chosen_mark"):
        if row.locked:
            st.caption("Added in your first read: it cannot be changed any more.")
        else:
            buttons = ADDED_BUTTONS if shown.is_added else VERDICT_BUTTONS
            show_verdicts(review, shown, buttons, key=f"{shown.case_id}:{shown.mark_id}")
            show_note(review, shown)
        lines = describe_history([past for past in history if past.mark_id == shown.mark_id])
        left_out = len(lines) - HISTORY_LINES
        if left_out > 0:
            lines = [f"{left_out} earlier decisions", *lines[-HISTORY_LINES:]]
        st.text("\n".join([*row.lines, f"At {place_words(shown)}", *lines]))


def mark_decision(case: RunCase, mark: Mark, mine: Mapping[str, Decision]) -> Decision:
    """Return the latest decision on a mark, with what the reader sees of the mark.

    Place and diameter are those that the reader corrected, otherwise those of the model.
    """
    latest = _current(mine, case, mark.mark_id)
    return replace(
        latest,
        score=mark.score,
        center_mm=latest.center_mm or mark.candidate.center_mm,
        diameter_mm=latest.diameter_mm or mark.candidate.diameter_mm,
    )


def show_reviewed(
    review: Review, case: RunCase, mine: Mapping[str, Decision], marks: Sequence[Mark] = ()
) -> None:
    """Draw the button that marks a scan as reviewed, and how many marks are decided."""
    shown = _current(mine, case, WHOLE_CASE)
    undecided = len(marks) - count_decided(marks, mine)
    row = st.container(horizontal=True, vertical_alignment="center", gap="small", key="finish")
    if undecided and flow.question(case.case_id):
        flow.ask(row, review, shown, undecided)
        return
    flow.keep_reading()
    done = shown.verdict == "reviewed"
    if done:
        key = f"reopen:{case.case_id}"
        row.button(
            "Reopen the case", key=key, on_click=uninterrupted(flow.reopen), args=(review, shown)
        )
    else:
        flow.show_finish(row, review, shown, undecided)
    if marks:
        row.caption(f"{len(marks) - undecided} of {len(marks)} decided.")


def show_whole_scan(review: Review, case: RunCase, mine: Mapping[str, Decision]) -> None:
    """Draw the note field of a whole scan."""
    st.caption("Whole scan")
    show_note(review, _current(mine, case, WHOLE_CASE))


def image_decision(case: RunCase, mine: Mapping[str, Decision]) -> Decision:
    """Return the latest decision on an image, with the score that the reader sees."""
    return replace(_current(mine, case, WHOLE_CASE), score=case.score)


def show_image_decision(
    review: Review,
    case: RunCase,
    mine: Mapping[str, Decision],
    *,
    meaning: str = IMAGE_MEANING,
) -> None:
    """Draw the decision buttons and the note field of an image, and explain the buttons."""
    st.subheader("Your decision")
    st.caption(meaning)
    shown = image_decision(case, mine)
    show_verdicts(review, shown, VERDICT_BUTTONS, key=f"{case.case_id}:{WHOLE_CASE}")
    show_note(review, shown)


def _current(mine: Mapping[str, Decision], case: RunCase, mark_id: str) -> Decision:
    """Return the latest decision, or an undecided one."""
    fresh = Decision(case.case_id, mark_id, session.reader_name(), "undecided")
    return mine.get(mark_id, fresh)


def jump_button(
    case: RunCase,
    label: str,
    *,
    center_mm: Point,
    name: str,
    stack: AxialStack | None,
    chosen: bool,
    ending: str = "",
) -> None:
    """Draw a button that selects a mark or nodule and shows its slice."""
    target, image = stack.slice_at(center_mm) if stack else (0, "")
    number = f", slice {target} ({image})" if image else f", slice {target}"
    place = number if target else ", outside the scan" if stack else ""
    st.button(
        f"{label}{place}{ending}",
        key=f"show:{case.case_id}:{name}",
        on_click=uninterrupted(slice_viewer.jump_to),
        args=(case, name),
        width="stretch",
        type="primary" if chosen else "secondary",
    )


def show_verdicts(
    review: Review, shown: Decision, buttons: Sequence[tuple[Verdict, str, str]], *, key: str
) -> None:
    """Draw one button for each verdict: its value, its words, and its words when it is given."""
    row = st.container(horizontal=True)
    for verdict, wanted, given in buttons:
        is_current = shown.verdict == verdict
        row.button(
            given if is_current else wanted,
            key=f"{verdict}:{key}",
            type="primary" if is_current and verdict != "undecided" else "secondary",
            disabled=is_current and verdict == "undecided",
            on_click=uninterrupted(deciding.decide),
            args=(review, shown, "verdict", verdict),
        )


def show_note(review: Review, shown: Decision) -> None:
    """Draw the note, which is saved on Enter or on leaving the field, and what is saved."""
    field = deciding.note_field(shown)
    st.text_input(
        "Note",
        value=field.begins_with,
        key=field.key,
        placeholder="Note (Enter saves)",
        label_visibility="collapsed",
        max_chars=2000,
        on_change=uninterrupted(deciding.save_note),
        args=(review, shown, field.key),
    )
    # Always one line, because buttons below must not move while a reader presses one.
    when = deciding.saved_words(shown) if shown.decided_at else ""
    saved = f"{shown.verdict}, {when}" if when else "Nothing saved yet."
    unsaved = " Your change is NOT saved: see the top of the page."
    st.caption(f"{saved}{unsaved if deciding.is_unsaved(shown) else ''}")


def _list_more(key: str, listed: int) -> None:
    st.session_state[key] = listed + LISTED_AT_ONCE
