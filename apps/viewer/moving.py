"""Part of the results page: a threshold that a reader moves over the stored scores of the test."""

from __future__ import annotations

from typing import Literal

import charts
import session
import stored
import streamlit as st
from callbacks import uninterrupted
from scores import TRACKS, show_table

from medkd.report import tables, words
from medkd.review.opened import Review
from medkd.review.stored_scores import SPLIT, ScoredSet, StoredScores, list_scored
from medkd.types import Evaluation, PointScores

DeltaColor = Literal["normal", "inverse"]

CHOOSES_NOTHING = (
    "Moving the threshold on test data chooses nothing: the one chosen on validation stays, and "
    "only its numbers count. Here you see what another threshold would have given, without "
    "intervals."
)
DISAGREES = (
    "The stored scores do not give the counts of the evaluation at this operating point: a file of "
    "the run was changed after the evaluation. Trust neither until the run was evaluated again."
)


@st.fragment
def show_threshold(review: Review, evaluation: Evaluation) -> None:
    """Draw the choice of the arm and its scores, the threshold, and all numbers at it."""
    left, right = st.columns([2, 3])
    with left:
        arms = [arm.name for arm in evaluation.arms if list_scored(evaluation, arm.name)]
        if not arms:
            st.info("No arm of this run has scores.")
            return
        first = arms.index(session.ARM) if session.ARM in arms else 0
        of_arm, of_set = st.columns(2)
        arm = str(of_arm.selectbox("Model", arms, index=first))
        what = of_set.selectbox("Scored", list_scored(evaluation, arm), format_func=name_of)
        scores = stored.load_scores(review, evaluation, arm, what)
        if not scores.offered:
            st.info("There are no scores here.")
            return
        threshold = choose_threshold(scores, key=f"threshold:{arm}:{what.track}:{what.number}")
        st.caption(CHOOSES_NOTHING)
        if not scores.agrees:
            st.error(DISAGREES)
        now = scores.score(threshold)
        show_numbers(now, scores.frozen)
    with right:
        show_place(evaluation, arm, what, now)


def name_of(what: ScoredSet) -> str:
    """Return the words for what was scored."""
    if what.track:
        return TRACKS[what.track][0]
    return f"Classification, {what.label}" if what.label else "Classification"


def choose_threshold(scores: StoredScores, *, key: str) -> float:
    """Draw the slider, which starts at the operating point, and the way back to it."""
    frozen = scores.frozen.threshold if scores.frozen else None

    def words_of(threshold: float) -> str:
        return f"{threshold:.6g}" + (" (chosen on validation)" if threshold == frozen else "")

    start = frozen if frozen is not None else scores.offered[-1]
    if st.session_state.get(key) not in scores.offered:
        st.session_state[key] = start
    threshold: float = st.select_slider(
        "Threshold on the score", scores.offered, format_func=words_of, key=key
    )
    st.button(
        "Back to the threshold chosen on validation",
        disabled=threshold == start,
        on_click=uninterrupted(st.session_state.__setitem__),
        args=(key, start),
    )
    return threshold


def show_numbers(now: PointScores, frozen: PointScores | None) -> None:
    """Draw the rates with their change from the operating point, and the counts."""
    rates = tables.point_rates(now)
    before = tables.point_rates(frozen) if frozen else {}
    row = st.columns(len(rates))
    for column, (name, value) in zip(row, rates.items(), strict=True):
        moved = round(value - before.get(name, value), 3)
        # Streamlit reads the direction of the arrow from a minus of the keyboard, not from U+2212.
        change = f"{moved:+.3f}" if moved else None
        worse_if_more = name == tables.FP_PER_SCAN
        color: DeltaColor = "inverse" if worse_if_more else "normal"
        column.metric(name, words.number(value), change, delta_color=color)
    show_table(tables.two_by_two_table(now))
    st.caption("Small numbers: change from the operating point chosen on validation.")


def show_place(evaluation: Evaluation, arm: str, what: ScoredSet, now: PointScores) -> None:
    """Draw the curve with the operating point and the threshold that is set."""
    name = "this threshold"
    if what.track:
        found = {arm: tables.froc_on(evaluation, what.track)[arm]}
        points = [charts.PlotPoint(name, now.fp_per_scan or 0.0, now.sensitivity.value)]
        st.plotly_chart(charts.froc_figure(found, points), key="moving:froc")
        for note in charts.outside_notes(found, points):
            st.text(note)
        return
    result = {arm: evaluation.arm(arm).classification[SPLIT][what.number]}
    specificity = now.specificity.value if now.specificity else 0.0
    point = charts.PlotPoint(name, 1.0 - specificity, now.sensitivity.value)
    st.plotly_chart(charts.roc_figure(result, point), key="moving:roc")
