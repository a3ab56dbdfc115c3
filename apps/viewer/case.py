"""Page: one case: slices with marks, or an image with probabilities; and the decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import added
import address
import arms
import deciding
import flow
import indexed
import modes
import pandas as pd
import panels
import row_words
import session
import slice_viewer
import streamlit as st
from actions import Saver
from callbacks import uninterrupted
from heat import load_heat
from indexed import COLUMNS
from pictures import show_picture, try_stack
from prior import find_prior
from scene import Answered, Reading, Ring
from streamlit.delta_generator import DeltaGenerator

from medkd.errors import MedkdError
from medkd.review.cases import NO_MARKS, Mark, call_words, case_progress, find_case
from medkd.review.history import open_decisions
from medkd.review.opened import Review
from medkd.review.outcomes import Outcomes, judge_marks
from medkd.review.store import Decision
from medkd.types import RunCase

CHOSEN = "chosen_case"
MARKS_SHOWN = "marks_shown"


def show_case() -> None:
    """Draw the page."""
    review = session.current_review()
    bar = st.container(horizontal=True, vertical_alignment="center", gap="small")
    case = choose_case(review, bar)
    answered = slice_viewer.read_answered(case)
    mine = session.load_case_mine(review, case)
    part = f", {case.split}" if case.split not in {"", "none"} else ""
    bar.text(f"Case {case.case_id} ({case.kind}{part}): {case_progress(case, mine)}")
    flow.show_finished(bar)
    if case.status == "not_analysed":
        st.error("Not analysed. This is not the same as no findings. Reasons:")
        st.text("\n".join(case.reasons) or "none given")
    if review.kind == "INDEX":
        prior = find_prior(review, case)
        indexed.show_indexed(review, case, mine, answered=answered, prior=prior)
    elif case.kind == "image":
        show_image_case(review, case, mine, answered=answered)
    else:
        show_scan_case(review, case, mine, answered=answered)


def choose_case(review: Review, bar: DeltaGenerator) -> RunCase:
    """Draw the buttons to other cases into a row, and return the case to show.

    This is the case requested by a click or in the address, otherwise the first of the worklist.
    If the requested case does not exist, the page stops.
    """
    cases = session.load_cases(review)
    if not cases:
        st.info("There are no cases here.")
        st.stop()
    asked = st.session_state.pop(session.OPEN_CASE, None) or session.asked_in_address()
    listing = address.current_listing(review, cases)
    order = address.current_order(review, cases)
    try:
        case = find_case(cases, asked or order[:1])
    except MedkdError as error:
        refuse_case(cases, error)
    address.write_address(cases, listing, case_id=case.case_id)
    order = order if case.case_id in order else [other.case_id for other in cases]
    flow.show_steps(bar, review, order, case)
    return case


def refuse_case(cases: Sequence[RunCase], error: MedkdError) -> NoReturn:
    """Show that the requested case does not exist, offer the others, and stop the page."""
    st.error("This case cannot be shown.")
    st.text(str(error))
    st.selectbox(
        "Open another case",
        [case.case_id for case in cases],
        index=None,
        key=CHOSEN,
        on_change=uninterrupted(ask_for_chosen),
    )
    st.page_link("worklist.py", label="Back to the worklist")
    st.stop()


def ask_for_chosen() -> None:
    """Open the case that was chosen from the list, if any, when the page is drawn next."""
    if chosen := st.session_state[CHOSEN]:
        flow.go_to(chosen)


def show_scan_case(
    review: Review, case: RunCase, mine: dict[str, Decision], *, answered: Answered
) -> None:
    """Draw a scan: slices on the left, marks and decisions on the right."""
    history = session.load_case_history(review, case)
    sight = session.load_sight(review, case.case_id)
    found = added.find_added(case, history)
    left, right = st.columns(COLUMNS, gap="small")
    with left:
        stack = try_stack(review, case)
    marks: tuple[Mark, ...] = ()
    with right, st.container(key="case_side", gap="xsmall"):
        top = st.container()
        if case.status == "analysed":
            marks = choose_marks(review, case)
        with top:
            modes.show_progress(review, case, mine, marks)
        shown = {mark.mark_id: panels.mark_decision(case, mark, mine) for mark in marks}
        rows = [*panels.mark_rows(marks, shown), *added.added_rows(found)]
        rows = row_words.scored_rows(review, case, row_words.placed_rows(stack, rows))
        panels.show_list(review, case, rows, stack=stack, history=history)
        st.caption(panels.LEGEND if rows else "No mark." if sight.marks else "")
        panels.show_whole_scan(review, case, mine)
    if stack is None:
        return
    rings = build_rings(review, case, marks, shown=shown)
    shown |= {one.decision.mark_id: one.decision for one in found}
    own = [ring for ring in rings if ring.group == "mark"] + added.added_rings(found)
    refused = case.status == "not_analysed"
    undoable = open_decisions(history)
    reading = Reading(
        decides=True,
        answered=answered,
        undoable=undoable,
        refused=refused,
        hidden=not sight.marks,
        first_read=modes.first_read_goes_on(review, mine),
    )
    save = Saver(review, case, shown, stack).save
    with left:
        reference = [ring for ring in rings if ring.group != "mark"]
        others = arms.other_rings(review, case, above_only=not all_are_shown())
        prior = find_prior(review, case)
        heat = load_heat(review, case)
        every = own + reference + others
        slice_viewer.show_viewer(
            case, stack, every, reading=reading, save=save, heat=heat, prior=prior
        )


def choose_marks(review: Review, case: RunCase) -> tuple[Mark, ...]:
    """Draw the choice of marks and return the chosen ones."""
    found = session.load_marks(review).get(case.case_id, NO_MARKS)
    scored = session.load_sight(review, case.case_id).scores
    st.caption(panels.source_words(found, scored=scored))
    shown_above = session.training_notice(review).casefold()
    for note in (note for note in found.notes if note.casefold() not in shown_above):
        st.text(note)
    threshold = session.mark_threshold(review, found.source)
    if threshold is None or not found.marks:
        return found.marks
    above = found.above(threshold)
    above_words = f"score at least {threshold:.3f} (chosen on validation): {len(above)}"
    all_words = f"all: {len(found.marks)}"
    chosen = st.radio(
        "Marks shown",
        [above_words, all_words],
        key=MARKS_SHOWN,
        label_visibility="collapsed",
    )
    return above if chosen == above_words else found.marks


def all_are_shown() -> bool:
    """Return whether the reader chose to see the marks below the threshold too."""
    return str(st.session_state.get(MARKS_SHOWN, "")).startswith("all: ")


def build_rings(
    review: Review, case: RunCase, marks: Sequence[Mark], *, shown: Mapping[str, Decision]
) -> list[Ring]:
    """Build the rings of the marks, coloured by the reader's decisions, and of the reference."""
    known = session.load_findings(review).get(case.case_id)
    findings = [nodule for _, nodule in indexed.numbered(known or ())]
    outcomes = judge_marks(marks, findings) if known is not None else Outcomes({}, ())
    rings = [
        Ring(
            mark.mark_id,
            "mark",
            mark.number,
            (decision := shown[mark.mark_id]).center_mm or mark.candidate.center_mm,
            decision.diameter_mm,
            score=mark.score,
            outcome=outcomes.marks.get(mark.mark_id, ""),
            verdict=decision.verdict,
            saved=deciding.saved_words(decision) if decision.decided_at else "",
            unsaved=deciding.is_unsaved(decision),
        )
        for mark in marks
    ]
    judged = enumerate(zip(findings, outcomes.findings, strict=True), start=1)
    return rings + [indexed.build_ring(n, nodule, outcome) for n, (nodule, outcome) in judged]


def show_image_case(
    review: Review, case: RunCase, mine: dict[str, Decision], *, answered: Answered
) -> None:
    """Draw an image with its probabilities and the decision on it."""
    left, right = st.columns(COLUMNS, gap="small")
    with right, st.container(key="case_side", gap="small"):
        first_read = modes.show_first_read(review, case, mine)
        if session.load_sight(review, case.case_id).scores:
            show_probabilities(review, case)
        panels.show_image_decision(review, case, mine)
    with left:
        whole = panels.image_decision(case, mine)
        show_picture(review, case, whole, answered=answered, first_read=first_read)


def show_probabilities(review: Review, case: RunCase) -> None:
    """Draw the probabilities of an image."""
    st.subheader("Probability")
    st.text(f"of {session.finding_name(review)}")
    table = probability_table(review, case)
    if table.empty:
        st.text("There is no probability for this image.")
    else:
        st.dataframe(table, hide_index=True)


def probability_table(review: Review, case: RunCase) -> pd.DataFrame:
    """Build one row per arm, or for RESULTS per label: probability, threshold, result."""
    rows = []
    named = "Label" if review.kind == "RESULTS" else "Arm"
    for name, probability in session.load_probabilities(review).get(case.case_id, {}).items():
        threshold = session.image_threshold(review, name)
        call = call_words(probability, threshold)
        words = "none" if threshold is None else f"{threshold:.3f}"
        rows.append((name, f"{probability:.3f}", words, call))
    return pd.DataFrame(rows, columns=[named, "Probability", "Threshold", "Result"])


show_case()
