"""Page of the mode "adjudication": the cases in which readers differ, and a decision on each place.

Only the adjudicator opens it. The decision is saved like that of any reader, and replaces the vote
of the readers wherever decisions are joined (`medkd/review/consensus.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import added
import deciding
import login
import pandas as pd
import panels
import session
import slice_viewer
import streamlit as st
from actions import Action, Saver
from callbacks import uninterrupted
from display import AxialStack
from heat import load_heat
from indexed import COLUMNS
from pictures import show_picture, try_stack
from scene import Answered, Reading, Ring

from medkd.errors import MedkdError
from medkd.review.adjudication import (
    Difference,
    describe_opinion,
    find_differences,
    ruling_verdict,
)
from medkd.review.agreement import find_agreement
from medkd.review.cases import find_case
from medkd.review.history import open_decisions, place_words
from medkd.review.opened import Review
from medkd.review.place_words import size_words
from medkd.review.store import Decision, Verdict
from medkd.types import RunCase

RULINGS = {1: "accepted", 0: "rejected", None: "undecided"}
ADDED_RULINGS: tuple[tuple[Verdict, str, str], ...] = (
    ("added", "Accept", "Accepted"),
    ("reject", "Reject", "Rejected"),
    ("undecided", "Clear", "Clear"),
)
LEGEND = "Rings: yellow undecided, green accepted, grey rejected, orange added by you."


def show_adjudication() -> None:
    """Draw the list of cases, or the case in the address."""
    review = session.current_review()
    check_reader()
    reader = session.reader_name()
    with session.stopping():
        history = session.load_store(review).history()
    cases = session.load_cases(review)
    known = {case.case_id for case in cases}
    by_case: dict[str, list[Difference]] = {}
    for one in find_differences(history, reader):
        if one.case_id in known:
            by_case.setdefault(one.case_id, []).append(one)
    if asked := asked_case():
        case = choose_case(cases, by_case, asked)
        show_case(review, case, by_case.get(case.case_id, ()))
    else:
        show_overview(by_case)
        show_agreement([row for row in history if row.reader != reader])


def check_reader() -> None:
    """Stop the page for everybody but the adjudicator."""
    with session.stopping():
        if login.adjudicates():
            return
    st.error("This page is for the adjudicator only.")
    st.text(
        f"You read as {session.reader_name()}. The adjudicator is named by readers.adjudicator in "
        "the settings of medkd review, or by --adjudicator."
    )
    st.stop()


def show_overview(by_case: Mapping[str, Sequence[Difference]]) -> None:
    """Draw one row for each case with differences; ticking it opens the case."""
    st.title("Adjudication")
    if not by_case:
        st.info("The readers differ on no place.")
        return
    rows = [
        {
            "Case": case_id,
            "Differences": len(found),
            "Decided": sum(one.ruling is not None for one in found),
            "Readers": ", ".join(sorted({o.reader for one in found for o in one.opinions})),
        }
        for case_id, found in by_case.items()
    ]
    count = "1 case" if len(rows) == 1 else f"{len(rows)} cases"
    st.caption(f"Readers differ in {count}. Tick a row to decide on its places.")
    event = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        key="differences",
        on_select="rerun",
        selection_mode="single-row",
    )
    if ticked := event["selection"]["rows"]:
        open_case(str(rows[ticked[0]]["Case"]))
        st.rerun()
    waiting = [str(row["Case"]) for row in rows if row["Decided"] != row["Differences"]]
    st.button(
        "Open the next case to decide on",
        type="primary",
        disabled=not waiting,
        on_click=uninterrupted(open_case),
        args=(next(iter(waiting), ""),),
    )


def show_agreement(history: Sequence[Decision]) -> None:
    """Draw how far every two readers agree."""
    pairs = find_agreement(history, bootstrap=0)
    if not pairs:
        return
    st.subheader("Agreement of the readers")
    rows = [
        {
            "Readers": f"{pair.first}, {pair.second}",
            "Places on which both decided": pair.places,
            "Agreed": "" if pair.agreed is None else f"{pair.agreed:.0%}",
            "Cohen's kappa": "" if pair.kappa is None else f"{pair.kappa.value:.2f}",
        }
        for pair in pairs
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True)


def choose_case(
    cases: Sequence[RunCase], by_case: Mapping[str, Sequence[Difference]], asked: Sequence[str]
) -> RunCase:
    """Draw the buttons to the other cases, and return the case in the address."""
    bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
    bar.button("All differences", on_click=uninterrupted(open_case), args=("",))
    try:
        case = find_case(cases, asked)
    except MedkdError as error:
        st.error("This case cannot be shown.")
        st.text(str(error))
        st.stop()
    order = list(by_case)
    place = order.index(case.case_id) if case.case_id in order else -1
    for label, step in (("Previous case", -1), ("Next case", 1)):
        inside = place >= 0 and 0 <= place + step < len(order)
        target = order[place + step] if inside else ""
        bar.button(label, disabled=not inside, on_click=uninterrupted(open_case), args=(target,))
    of_case = by_case.get(case.case_id, ())
    decided = sum(one.ruling is not None for one in of_case)
    bar.text(f"Case {case.case_id} ({case.kind}): {decided} of {len(of_case)} decided")
    return case


def open_case(case_id: str) -> None:
    """Open a case, or the list if the id is empty, when the page is drawn next."""
    st.session_state[session.OPEN_CASE] = [case_id] if case_id else []


def asked_case() -> list[str]:
    """Return the case that was requested by a click or in the address; none: the list."""
    opening: list[str] | None = st.session_state.get(session.OPEN_CASE)
    if opening:
        st.query_params["case"] = opening
    elif opening is not None:
        st.query_params.clear()
    # Forgotten only now: another event may stop the page while it writes the address.
    st.session_state.pop(session.OPEN_CASE, None)
    return session.asked_in_address()


def show_case(review: Review, case: RunCase, differences: Sequence[Difference]) -> None:
    """Draw the image on the left, and the differing decisions on the right."""
    answered = slice_viewer.read_answered(case)
    mine = session.load_case_mine(review, case)
    found = [_with_latest(one, mine) for one in differences]
    left, right = st.columns(COLUMNS, gap="small")
    with left:
        stack = try_stack(review, case) if case.kind == "scan" else None
        if case.kind == "image":
            show_picture(review, case, panels.image_decision(case, mine), answered=answered)
        elif stack is not None:
            show_slices(review, case, found, stack=stack, answered=answered)
    with right, st.container(key="case_side", gap="xsmall"):
        with st.container(key="mark_list", gap=None):
            show_places(review, case, found, stack=stack)
        st.caption(LEGEND if found else "The readers differ on no place of this case.")


def show_slices(
    review: Review,
    case: RunCase,
    found: Sequence[Difference],
    *,
    stack: AxialStack,
    answered: Answered,
) -> None:
    """Draw the slices with the places, and with the nodules that the adjudicator added."""
    history = session.load_case_history(review, case)
    shown = {one.shown.mark_id: one.shown for one in found}
    own = [one for one in added.find_added(case, history) if one.decision.mark_id not in shown]
    saver = Saver(review, case, shown | {one.decision.mark_id: one.decision for one in own}, stack)

    def save(action: Action, rows: Mapping[int, int]) -> int:
        place = shown.get(action.mark_id)
        if place is None or action.kind != "verdict":
            return saver.save(action, rows)
        verdict = ruling_verdict(place, action.verdict)
        saved = deciding.save_change(review, place, "verdict", verdict)
        return saved.number if saved else 0

    reading = Reading(decides=True, answered=answered, undoable=open_decisions(history))
    rings = [build_ring(one) for one in found] + added.added_rings(own)
    heat = load_heat(review, case)  # none: scores are not shown
    slice_viewer.show_viewer(case, stack, rings, reading=reading, save=save, heat=heat)


def show_places(
    review: Review, case: RunCase, found: Sequence[Difference], *, stack: AxialStack | None
) -> None:
    """Draw one line for each difference; the chosen one opens the decisions on it."""
    names = [one.shown.mark_id for one in found]
    chosen = slice_viewer.chosen_ring(case)
    chosen = chosen if chosen in names else next(iter(names), "")
    for one in found:
        is_chosen = one.shown.mark_id == chosen
        if center_mm := one.shown.center_mm:
            panels.jump_button(
                case,
                f"Place {one.number}",
                center_mm=center_mm,
                name=one.shown.mark_id,
                stack=stack,
                chosen=is_chosen,
                ending=f", {RULINGS[one.ruling]}",
            )
        if is_chosen:
            show_opinions(review, one)


def show_opinions(review: Review, one: Difference) -> None:
    """Draw what each reader decided, side by side, and the adjudicator's buttons and note."""
    with st.container(border=True, gap="xsmall", key="chosen_mark"):
        for column, opinion in zip(st.columns(len(one.opinions)), one.opinions, strict=True):
            lines = [opinion.reader, describe_opinion(opinion)]
            if decision := opinion.decision:
                size = size_words(decision.diameter_mm) if decision.diameter_mm else ""
                lines += [size, decision.note]
            column.text("\n".join(filter(None, lines)))
        buttons = ADDED_RULINGS if one.shown.is_added else panels.VERDICT_BUTTONS
        key = f"{one.case_id}:{one.shown.mark_id}"
        panels.show_verdicts(review, one.shown, buttons, key=key)
        panels.show_note(review, one.shown)
        if one.shown.center_mm:
            st.text(f"At {place_words(one.shown)}")


def build_ring(one: Difference) -> Ring:
    """Build the ring of a place, coloured by the adjudicator's decision."""
    shown = one.shown
    return Ring(
        shown.mark_id,
        "mark",
        one.number,
        shown.center_mm or (0.0, 0.0, 0.0),
        shown.diameter_mm,
        verdict="accept" if shown.verdict == "added" else shown.verdict,
        saved=deciding.saved_words(shown) if shown.decided_at else "",
        unsaved=deciding.is_unsaved(shown),
    )


def _with_latest(one: Difference, mine: Mapping[str, Decision]) -> Difference:
    """Return a difference with the adjudicator's latest row, which has the note when cleared."""
    latest = mine.get(one.shown.mark_id, one.shown)
    placed = replace(
        latest,
        center_mm=latest.center_mm or one.shown.center_mm,
        diameter_mm=latest.diameter_mm or one.shown.diameter_mm,
    )
    return replace(one, shown=placed)


show_adjudication()
