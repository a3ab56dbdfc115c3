"""Page: one case. Slices with marks, or the image with each arm's probability; decisions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NoReturn

import indexed
import pandas as pd
import panels
import session
import streamlit as st
from display import Ring
from pictures import UNKNOWN_DIAMETER_MM, show_picture, show_slices, try_stack

from medkd.errors import MedkdError
from medkd.review.cases import (
    NO_MARKS,
    CaseMarks,
    Mark,
    case_progress,
    find_case,
    reading_threshold,
)
from medkd.review.index_cases import is_index
from medkd.review.store import Decision
from medkd.runs import RunFolder
from medkd.types import RunCase

YELLOW, GREEN, GREY = (255, 214, 10), (60, 220, 110), (165, 165, 165)
COLORS = {"accept": GREEN, "reject": GREY}
LEGEND = "Yellow: undecided, green: accepted, grey: rejected."


def show_case() -> None:
    """Draw the page."""
    run = session.current_run()
    case = choose_case(session.load_cases(run))
    mine = session.load_mine(run).get(case.case_id, {})
    part = f", {case.split}" if case.split not in {"", "none"} else ""
    st.text(f"Case {case.case_id} ({case.kind}{part}): {case_progress(case, mine)}")
    if case.status == "not_analysed":
        st.error("Not analysed. This is not the same as no findings. Reasons:")
        st.text("\n".join(case.reasons) or "none given")
    if is_index(run):
        indexed.show_indexed(run, case, mine)
    elif case.kind == "image":
        show_image_case(run, case, mine)
    else:
        show_scan_case(run, case, mine)


def choose_case(cases: Sequence[RunCase]) -> RunCase:
    """Draw previous and next; return the case that the page shows.

    It is the one that was asked for, by a click or in the address; the first of the worklist only
    where none was asked for. A case that is not there stops the page.
    """
    if not cases:
        st.info("This run has no cases.")
        st.stop()
    asked = st.session_state.pop(session.OPEN_CASE, None) or session.asked_in_address()
    order = choose_order(cases)
    try:
        case = find_case(cases, asked or order[:1])
    except MedkdError as error:
        refuse_case(cases, error)
    for key in session.case_keys():
        del st.query_params[key]
    st.query_params["case"] = case.case_id
    order = order if case.case_id in order else [other.case_id for other in cases]
    place = order.index(case.case_id)
    bar = st.container(horizontal=True, vertical_alignment="center")
    for label, step in (("Previous case", -1), ("Next case", 1)):
        inside = 0 <= place + step < len(order)
        target = order[place + step] if inside else case.case_id
        bar.button(label, disabled=not inside, on_click=ask_for, args=(target,))
    bar.caption(f"{place + 1} of {len(order)} in the worklist's order")
    return case


def choose_order(cases: Sequence[RunCase]) -> list[str]:
    """Return the case ids as the worklist last listed them; of a filter that fits none, all."""
    known = dict.fromkeys(case.case_id for case in cases)
    listed = st.session_state.get(session.CASE_ORDER, ())
    return [name for name in listed if name in known] or list(known)


def refuse_case(cases: Sequence[RunCase], error: MedkdError) -> NoReturn:
    """Say that the case that was asked for is not there, and offer those that are."""
    st.error("This case cannot be shown.")
    st.text(str(error))
    st.selectbox(
        "Open a case that is here",
        [case.case_id for case in cases],
        index=None,
        key=CHOSEN,
        on_change=ask_for_chosen,
    )
    st.page_link("worklist.py", label="Back to the worklist")
    st.stop()


CHOSEN = "chosen_case"


def ask_for_chosen() -> None:
    """Show the case that was chosen from the list."""
    if chosen := st.session_state[CHOSEN]:
        ask_for(chosen)


def ask_for(case_id: str) -> None:
    """Show that case when the page runs next."""
    st.session_state[session.OPEN_CASE] = [case_id]


def show_scan_case(run: RunFolder, case: RunCase, mine: dict[str, Decision]) -> None:
    """Draw a scan: slices on the left, marks and decisions on the right."""
    left, right = st.columns([5, 3], gap="medium")
    with left:
        stack = try_stack(run, case)
    marks: tuple[Mark, ...] = ()
    with right:
        if case.status == "analysed":
            marks = choose_marks(run, case)
            panels.show_marks(run, case, marks, mine=mine, stack=stack)
        panels.show_whole_scan(run, case, mine)
    with left:
        if stack is not None:
            selected = st.session_state.get(panels.selected_key(case))
            rings = [build_ring(mark, mine, selected=selected) for mark in marks]
            show_slices(case, stack, rings, legend=LEGEND)


def choose_marks(run: RunFolder, case: RunCase) -> tuple[Mark, ...]:
    """Draw the choice of threshold; return the marks at or above it."""
    found = session.load_marks(run).get(case.case_id, NO_MARKS)
    st.caption(panels.SOURCE_WORDS[found.source])
    for note in found.notes:
        st.text(note)
    threshold = reading_threshold(session.load_evaluation(run), found.source)
    if threshold is None or not found.marks:
        return found.marks
    return threshold_choice(found, threshold)


def threshold_choice(found: CaseMarks, threshold: float) -> tuple[Mark, ...]:
    """Let the reader choose between the frozen threshold and every mark."""
    above = found.above(threshold)
    frozen_words = f"score of at least {threshold:.3f} (frozen on validation): {len(above)}"
    all_words = f"all: {len(found.marks)}"
    chosen = st.radio("Marks shown", [frozen_words, all_words], key="marks_shown")
    return above if chosen == frozen_words else found.marks


def build_ring(mark: Mark, mine: dict[str, Decision], *, selected: str | None) -> Ring:
    """Build the circle of a mark; its colour tells the reader's decision."""
    verdict = mine[mark.mark_id].verdict if mark.mark_id in mine else "undecided"
    return Ring(
        mark.candidate.center_mm,
        mark.candidate.diameter_mm or UNKNOWN_DIAMETER_MM,
        f"{mark.number}: {mark.candidate.score:.2f}",
        COLORS.get(verdict, YELLOW),
        selected=mark.mark_id == selected,
    )


def show_image_case(run: RunFolder, case: RunCase, mine: dict[str, Decision]) -> None:
    """Draw an image with each arm's probability and the decision on it."""
    left, right = st.columns([5, 3], gap="medium")
    with left:
        show_picture(run, case)
    with right:
        st.subheader("Probability")
        st.text(f"of {' or '.join(session.finding_names(run)) or 'the finding'}")
        table = probability_table(run, case)
        if table.empty:
            st.text("This run holds no probability of this image.")
        else:
            st.dataframe(table, hide_index=True)
        panels.show_image_decision(run, case, mine)


def probability_table(run: RunFolder, case: RunCase) -> pd.DataFrame:
    """Build one row an arm and label: calibrated probability, frozen threshold, what follows."""
    evaluation = session.load_evaluation(run)
    rows = []
    for arm, probabilities in session.load_image_probabilities(run).get(case.case_id, {}).items():
        findings = session.finding_names(run) or ("the finding",)
        thresholds = session.frozen_thresholds(evaluation, arm)
        for finding, probability, threshold in zip_longest(findings, probabilities, thresholds):
            row = {"Arm": arm, "Finding": finding or "", **_call(probability, threshold)}
            rows.append(row)
    return pd.DataFrame(rows, columns=["Arm", "Finding", "Probability", "Frozen threshold", "Call"])


def _call(probability: float, threshold: float | None) -> dict[str, str]:
    if threshold is None:
        return {"Probability": f"{probability:.3f}", "Frozen threshold": "none", "Call": ""}
    call = "positive" if probability >= threshold else "negative"
    return {
        "Probability": f"{probability:.3f}",
        "Frozen threshold": f"{threshold:.3f}",
        "Call": call,
    }


show_case()
