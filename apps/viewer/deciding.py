"""How a reader's decision is saved, and what the reader sees of one that was not.

Each browser tab is a session of its own. A change is made on top of the latest row; where that
row holds a value which this tab never showed, the change waits until the reader chose. Nothing
that was typed is dropped without a message: a change that was not saved stays on top of every
page, with the way to save it, until it is saved or given up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import session
import streamlit as st

from medkd.errors import MedkdError
from medkd.review.opened import Review
from medkd.review.store import WHOLE_CASE, Decision, Field, Verdict

UNSAVED = "unsaved_changes"
WRITTEN = "written_here"
MERGED = "merged_changes"
NOTES = "note_fields"

About = tuple[str, str, str]
WORDS: dict[Verdict, str] = {
    "accept": "accepted",
    "reject": "rejected",
    "undecided": "undecided",
    "reviewed": "case reviewed",
}


@dataclass(frozen=True, slots=True)
class Unsaved:
    """A change that was not saved, and the decision that it can be saved on top of.

    `fault` is the store's refusal; it is empty where another tab changed the same field.
    """

    newest: Decision
    field: Field
    value: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class NoteField:
    """The text field of a note: its key, the text it began with, the note saved when last drawn."""

    key: str
    begins_with: str
    saved: str


def decide(review: Review, shown: Decision, field: Field, value: str) -> None:
    """Save a change of one field; keep it as unsaved where that cannot be done.

    Args:
        review: what is reviewed.
        shown: the decision as this tab drew it.
        field: what changes.
        value: what it changes to.
    """
    st.session_state.pop(MERGED, None)
    name = (*about(shown), field)
    # A second click can come before the page was drawn again after the first one.
    written = st.session_state.setdefault(WRITTEN, {})
    own: Decision | None = written.get(name)
    seen = _with(shown, field, getattr(own, field)) if own and own.number > shown.number else shown
    if field == "note" and value == seen.note:
        return  # a field that leaves the page can report its unchanged text once more
    unsaved = st.session_state.setdefault(UNSAVED, {})
    try:
        change = session.load_store(review).change(seen, field, value)
    except MedkdError as error:
        unsaved[name] = Unsaved(seen, field, value, str(error))
        return
    if not change.saved:
        unsaved[name] = Unsaved(change.newest, field, value)
        return
    written[name] = change.newest
    unsaved.pop(name, None)
    _note_merge(shown, change.newest, field)


def about(decision: Decision) -> About:
    """Name what a decision is about: case, mark, reader."""
    return (decision.case_id, decision.mark_id, decision.reader)


def is_unsaved(shown: Decision) -> bool:
    """Whether a change of this decision waits for the reader."""
    waiting = st.session_state.get(UNSAVED, {})
    return any(name[:3] == about(shown) for name in waiting)


def show_unsaved(review: Review) -> None:
    """Draw every change that was not saved, with what can be done about it."""
    for name, change in list(st.session_state.get(UNSAVED, {}).items()):
        with st.container(border=True):
            st.error(f"Your {change.field} was NOT saved.{'' if change.fault else CHANGED}")
            st.text(_describe(change))
            row = st.container(horizontal=True)
            key = ":".join(name)
            row.button(
                "Try again" if change.fault else "Save mine instead",
                key=f"save:{key}",
                type="primary",
                on_click=decide,
                args=(review, change.newest, change.field, change.value),
            )
            row.button(
                "Give it up" if change.fault else "Keep the saved one",
                key=f"drop:{key}",
                on_click=_drop,
                args=(name,),
            )
    if merged := st.session_state.get(MERGED):
        st.info("Your change was saved. Another tab had changed this decision meanwhile:")
        st.text(merged)


CHANGED = " It was changed in another tab since this one showed it."


def note_field(shown: Decision) -> NoteField:
    """Return the text field of a note; a new one where it must show another text than it holds.

    A field that the reader did not touch follows what other tabs save; a typed text stays.
    """
    fields: dict[About, NoteField] = st.session_state.setdefault(NOTES, {})
    field = fields.get(about(shown))
    held = None if field is None else st.session_state.get(field.key)
    if field is None or held is None or held == field.saved != shown.note:
        number = st.session_state[NOTES_MADE] = st.session_state.get(NOTES_MADE, 0) + 1
        field = NoteField(f"note:{':'.join(about(shown))}:{number}", shown.note, shown.note)
    fields[about(shown)] = replace(field, saved=shown.note)
    return field


NOTES_MADE = "note_fields_made"


def save_note(review: Review, shown: Decision, key: str) -> None:
    """Save what a note's text field holds."""
    decide(review, shown, "note", str(st.session_state[key]))


def _drop(name: tuple[str, str, str, Field]) -> None:
    st.session_state.get(UNSAVED, {}).pop(name, None)
    if name[3] == "note":
        st.session_state.get(NOTES, {}).pop(name[:3], None)


def _with(decision: Decision, field: Field, value: str) -> Decision:
    return replace(decision, **{field: value})  # type: ignore[arg-type]  # both are texts


def _note_merge(shown: Decision, newest: Decision, changed: Field) -> None:
    """Remember to say that the other field is not as this tab showed it."""
    other: Field = "note" if changed == "verdict" else "verdict"
    own: Decision | None = st.session_state[WRITTEN].get((*about(shown), other))
    known = own if own and own.number > shown.number else shown
    if getattr(newest, other) != getattr(known, other):
        st.session_state[MERGED] = f"{_place(newest)}\n{other}: {_words(newest, other)}"


def _describe(change: Unsaved) -> str:
    mine = _words(_with(change.newest, change.field, change.value), change.field)
    lines = [_place(change.newest), f"Yours: {mine}"]
    if change.fault:
        return "\n".join([*lines, change.fault])
    when = say_when(change.newest)
    return "\n".join([*lines, f"Saved: {_words(change.newest, change.field)} ({when})"])


def _words(decision: Decision, field: Field) -> str:
    if field == "verdict":
        return WORDS[decision.verdict]
    return decision.note or "(empty)"


def _place(decision: Decision) -> str:
    where = ""
    if decision.mark_id != WHOLE_CASE:
        place = ", ".join(f"{mm:.1f}" for mm in decision.center_mm or ())
        where = f", mark at {place} mm (LPS)" if place else f", mark {decision.mark_id}"
    return f"Case {decision.case_id}{where}, reader {decision.reader}"


def say_when(decision: Decision) -> str:
    """Say when a decision was saved."""
    return f"saved {decision.decided_at[:19].replace('T', ' ')} UTC"
