"""How a reader's decisions are saved, and how changes that could not be saved are shown.

Each browser tab has its own session. A change is based on the latest row of the store. If another
tab has meanwhile changed the same field, the change is not saved until the reader chooses. A change
that was not saved is shown on top of every page until it is saved or discarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import session
import streamlit as st
from callbacks import uninterrupted

from medkd.errors import MedkdError
from medkd.review.decision import Value
from medkd.review.history import describe_verdict, place_words, time_words
from medkd.review.opened import Review
from medkd.review.store import WHOLE_CASE, Decision, Field

UNSAVED = "unsaved_changes"
WRITTEN = "written_here"
MERGED = "merged_changes"
NOTES = "note_fields"
NOTES_MADE = "note_fields_made"
NOT_UNDONE = "not_undone"
"""Session key of the decision of another tab that stopped an undo."""

DecisionKey = tuple[str, str, str]
"""Case, mark, reader."""
ChangeKey = tuple[str, str, str, Field]
"""Case, mark, reader, changed field."""
FIELDS: dict[Field, str] = {
    "verdict": "verdict",
    "note": "note",
    "center_mm": "place",
    "diameter_mm": "diameter",
}
"""The fields of a decision, and their names on the page."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A change that was not saved, and the decision that it would replace.

    `fault` is the store's refusal; it is empty if another tab changed the same field.
    """

    newest: Decision
    field: Field
    value: Value
    fault: str = ""


@dataclass(frozen=True, slots=True)
class NoteField:
    """The text field of a note: its key, its initial text, and the saved note when last drawn."""

    key: str
    begins_with: str
    saved: str


def decide(review: Review, shown: Decision, field: Field, value: Value) -> None:
    """Save a change of one field, as `save_change`; Streamlit's buttons want no result."""
    save_change(review, shown, field, value)


def save_change(review: Review, shown: Decision, field: Field, value: Value) -> Decision | None:
    """Save a change of one field; if that fails, keep it as unsaved.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        shown: the decision as shown in this tab.
        field: the field to change.
        value: its new value.

    Returns:
        The decision that was written; None if none was.
    """
    # Streamlit may stop a callback at any access to the session. All accesses come before the
    # change is written, so a change is never written without being noted as written.
    merged: list[str] = st.session_state.setdefault(MERGED, [])
    written: dict[ChangeKey, Decision] = st.session_state.setdefault(WRITTEN, {})
    unsaved: dict[ChangeKey, Unsaved] = st.session_state.setdefault(UNSAVED, {})
    merged.clear()
    name = (*key_of(shown), field)
    # A second click can arrive before the page is drawn again after the first one.
    own = written.get(name)
    seen = _with(shown, field, getattr(own, field)) if own and own.number > shown.number else shown
    if field == "note" and value == seen.note:
        return None  # a field that is removed from the page may report its unchanged text again
    try:
        change = session.load_store(review).change(seen, field, value)
    except MedkdError as error:
        unsaved[name] = Unsaved(seen, field, value, str(error))
        return None
    if not change.saved:
        unsaved[name] = Unsaved(change.newest, field, value)
        return None
    written[name] = change.newest
    unsaved.pop(name, None)
    merged += _merge_words(shown, change.newest, field, written)
    return change.newest


def add_nodule(review: Review, nodule: Decision) -> Decision | None:
    """Save a nodule that the reader added; if that fails, keep it as unsaved.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        nodule: an undecided decision with its id, place and diameter.

    Returns:
        The decision that was written; None if none was.
    """
    written: dict[ChangeKey, Decision] = st.session_state.setdefault(WRITTEN, {})
    unsaved: dict[ChangeKey, Unsaved] = st.session_state.setdefault(UNSAVED, {})
    name: ChangeKey = (*key_of(nodule), "verdict")
    try:
        saved = session.load_store(review).add_nodule(nodule)
    except MedkdError as error:
        unsaved[name] = Unsaved(nodule, "verdict", "added", str(error))
        return None
    written[name] = saved
    return saved


def undo(review: Review, case_id: str, row: int) -> Decision | None:
    """Take back this reader's latest decision on a case, if it is the one that the reader means.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        case_id: the case.
        row: the number of the decision that the reader wants to take back.

    Returns:
        The decision that was written; None if none was.
    """
    written: dict[ChangeKey, Decision] = st.session_state.setdefault(WRITTEN, {})
    refused: list[str] = st.session_state.setdefault(NOT_UNDONE, [])
    reader = session.reader_name()
    refused.clear()
    try:
        change = session.load_store(review).undo(case_id, reader, seen=row)
    except MedkdError as error:
        refused.append(str(error))
        return None
    if change is None:
        return None
    newest = change.newest
    if not change.saved:
        refused.append(
            f"{_place(newest)}\nThe latest decision was made in another tab: "
            f"{describe_verdict(newest)}, {saved_words(newest)}. To take that one back, undo again."
        )
        return None
    written.update({(*key_of(newest), field): newest for field in FIELDS})
    return newest


def unsaved_nodules(case_id: str) -> list[Decision]:
    """Return the nodules of a case that the reader added and that could not be saved."""
    changes: dict[ChangeKey, Unsaved] = st.session_state.get(UNSAVED, {})
    return [
        change.newest
        for name, change in changes.items()
        if name[0] == case_id and change.newest.is_added and not change.newest.number
    ]


def key_of(decision: Decision) -> DecisionKey:
    """Return the case, mark and reader of a decision."""
    return (decision.case_id, decision.mark_id, decision.reader)


def has_unsaved(case_id: str) -> bool:
    """Return whether any change of this reader on a case is not saved."""
    return any(name[0] == case_id for name in st.session_state.get(UNSAVED, {}))


def is_unsaved(shown: Decision) -> bool:
    """Return whether a change of this decision is not saved."""
    return any(name[:3] == key_of(shown) for name in st.session_state.get(UNSAVED, {}))


def show_unsaved(review: Review) -> None:
    """Draw every unsaved change with buttons to save or discard it."""
    for name, change in list(st.session_state.get(UNSAVED, {}).items()):
        with st.container(border=True):
            changed = " It was meanwhile changed in another tab."
            st.error(f"Your {FIELDS[change.field]} was NOT saved.{'' if change.fault else changed}")
            st.text(_describe(change))
            row = st.container(horizontal=True)
            key = ":".join(name)
            row.button(
                "Try again" if change.fault else "Save mine instead",
                key=f"save:{key}",
                type="primary",
                on_click=uninterrupted(decide),
                args=(review, change.newest, change.field, change.value),
            )
            row.button(
                "Discard it" if change.fault else "Keep the saved one",
                key=f"drop:{key}",
                on_click=uninterrupted(_drop),
                args=(name,),
            )
    if merged := st.session_state.get(MERGED):
        st.info("Your change was saved. Another tab also changed this decision:")
        st.text("\n".join(merged))
    if refused := st.session_state.get(NOT_UNDONE):
        st.warning("Nothing was undone.")
        st.text("\n".join(refused))


def note_field(shown: Decision) -> NoteField:
    """Return the text field of a note; a new field if another text must be shown.

    If the reader has typed nothing, the field shows what other tabs save. Typed text is kept.
    """
    fields: dict[DecisionKey, NoteField] = st.session_state.setdefault(NOTES, {})
    field = fields.get(key_of(shown))
    held = None if field is None else st.session_state.get(field.key)
    if field is None or held is None or held == field.saved != shown.note:
        number = st.session_state[NOTES_MADE] = st.session_state.get(NOTES_MADE, 0) + 1
        field = NoteField(f"note:{':'.join(key_of(shown))}:{number}", shown.note, shown.note)
    fields[key_of(shown)] = replace(field, saved=shown.note)
    return field


def save_note(review: Review, shown: Decision, key: str) -> None:
    """Save the note that was typed into the text field with the session key `key`."""
    save_change(review, shown, "note", str(st.session_state[key]))


def _drop(name: tuple[str, str, str, Field]) -> None:
    st.session_state.get(UNSAVED, {}).pop(name, None)
    if name[3] == "note":
        st.session_state.get(NOTES, {}).pop(name[:3], None)


def _with(decision: Decision, field: Field, value: Value) -> Decision:
    values: dict[str, Any] = {field: value}
    return replace(decision, **values)


def _merge_words(
    shown: Decision, newest: Decision, changed: Field, written: Mapping[ChangeKey, Decision]
) -> list[str]:
    """Return a message for each other field that another tab changed."""
    lines = []
    for other, name in FIELDS.items():
        own = written.get((*key_of(shown), other))
        known = own if own and own.number > shown.number else shown
        if other != changed and getattr(newest, other) != getattr(known, other):
            lines.append(f"{name}: {_words(newest, other)}")
    return [_place(newest), *lines] if lines else []


def _describe(change: Unsaved) -> str:
    mine = _words(_with(change.newest, change.field, change.value), change.field)
    lines = [_place(change.newest), f"Yours: {mine}"]
    if change.fault:
        return "\n".join([*lines, change.fault])
    saved = _words(change.newest, change.field)
    return "\n".join([*lines, f"Saved: {saved} ({saved_words(change.newest)})"])


def _words(decision: Decision, field: Field) -> str:
    if field == "verdict":
        return describe_verdict(decision)
    if field == "diameter_mm":
        return f"{decision.diameter_mm:.1f} mm" if decision.diameter_mm else "unknown"
    if field == "center_mm":
        return place_words(decision)
    return decision.note or "(empty)"


def _place(decision: Decision) -> str:
    where = ""
    if decision.mark_id != WHOLE_CASE:
        noun = "added nodule" if decision.is_added else "mark"
        place = place_words(decision)
        where = f", {noun} at {place}" if place else f", {noun} {decision.mark_id}"
    return f"Case {decision.case_id}{where}, reader {decision.reader}"


def saved_words(decision: Decision) -> str:
    """Return the time of a decision as text, such as "saved 2025-01-31 09:30:00 UTC"."""
    return f"saved {time_words(decision)}"
