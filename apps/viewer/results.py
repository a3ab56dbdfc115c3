"""Page: the results of a run, one part at a time, so that each is drawn quickly."""

from __future__ import annotations

from collections.abc import Callable

import gallery
import moving
import reading
import scores
import session
import sides
import stored
import streamlit as st
import wrong
from disagreement import show_disagreements

from medkd.review.opened import Review
from medkd.types import Evaluation

Part = Callable[[Review, Evaluation], None]


def show_detection(review: Review, evaluation: Evaluation) -> None:
    """Draw the FROC curves with the points of the readers."""
    scores.show_detection(evaluation, reading.plot_points(stored.load_reader_study(review)))


def show_mistakes(review: Review, evaluation: Evaluation) -> None:
    """Draw what the model got wrong on scans, otherwise on whole images."""
    on_scans = scores.tracks_of(evaluation)
    (gallery.show_mistakes if on_scans else wrong.show_wrong_images)(review, evaluation)


PARTS: dict[str, Part] = {
    "Scores": lambda _, evaluation: scores.show_scores(evaluation),
    "Detection": show_detection,
    "Classification": lambda _, evaluation: scores.show_curves(evaluation),
    "Threshold": moving.show_threshold,
    "Mistakes": show_mistakes,
    "Disagreements": lambda review, _: show_disagreements(review),
    "Groups": gallery.show_groups,
    "Readers": reading.show_readers,
    "Cost": sides.show_cost,
    "Two runs": sides.show_two_runs,
    "Report": lambda review, _: sides.show_report(review),
}


def show_results() -> None:
    """Draw the page."""
    review = session.current_review()
    evaluation = session.load_evaluation(review)
    st.subheader("Results")
    if evaluation is None:
        st.info("This run has no evaluation yet: `medkd train` writes it when it ends.")
        st.stop()
    chosen = st.segmented_control(
        "Part",
        list(PARTS),
        default=next(iter(PARTS)),
        required=True,
        key="results_part",
        label_visibility="collapsed",
        persist_state="session",
    )
    PARTS[chosen](review, evaluation)


show_results()
