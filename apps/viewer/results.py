"""Page: what the run is worth: arms side by side at the frozen point, curves, differences."""

from __future__ import annotations

import frame
import streamlit as st
import tables

from medkd.runs import RunFolder
from medkd.types import Evaluation

TRACKS = {
    "candidates": (
        "Detection, candidates track",
        "The model scored the places of a given candidate list. It did not search the scans.",
    ),
    "whole-scan": (
        "Detection, whole scans",
        "The model searched each scan by itself and made its own marks.",
    ),
}


def show_results() -> None:
    """Draw the page."""
    run = frame.current_run()
    evaluation = frame.load_evaluation(run)
    st.title("Results")
    if evaluation is None:
        st.info("This run has no evaluation yet: `medkd train` writes it at its end.")
        st.stop()
    st.text(
        f"{evaluation.name}: {evaluation.dataset}\n"
        f"Teacher's data: {evaluation.source_data}\nStudent's data: {evaluation.target_data}"
    )
    show_warnings(evaluation)
    for split in tables.splits_of(evaluation):
        show_classification(evaluation, split)
    for track in tables.tracks_of(evaluation):
        show_froc(evaluation, track)
    if evaluation.differences:
        st.header("Paired differences")
        st.dataframe(tables.difference_table(evaluation.differences), hide_index=True)
        intervals = [d.difference.interval for d in evaluation.differences]
        st.caption(tables.describe_intervals(intervals))
    show_report(run)


def show_warnings(evaluation: Evaluation) -> None:
    """Show every warning of the evaluation, and whether transfer took place."""
    if evaluation.transfer_took_place is False:
        st.error(
            "No transfer took place: the student is not at least 30 % closer to its teacher than "
            "the control."
        )
    for warning in evaluation.warnings:
        with st.container(border=True):
            st.text(f"Warning: {warning}")


def show_classification(evaluation: Evaluation, split: str) -> None:
    """Show the scores of all arms on one split, and the ROC curves."""
    st.header(f"Classification, {split} split")
    st.dataframe(tables.classification_table(evaluation.arms, split), height="content")
    st.caption(
        "At the threshold that was chosen on validation and frozen. "
        + tables.describe_intervals(tables.classification_intervals(evaluation.arms, split))
    )
    middle = st.columns([1, 4, 1])[1]
    middle.plotly_chart(tables.roc_figure(evaluation.arms, split), key=f"roc:{split}")
    middle.caption("ROC curves; the open circles are the frozen points.")


def show_froc(evaluation: Evaluation, track: str) -> None:
    """Show the FROC of all arms on one track."""
    title, meaning = TRACKS["candidates" if "candidates" in track else "whole-scan"]
    st.header(title)
    st.caption(meaning)
    st.text(f"Track: {track}")
    results = tables.froc_of(evaluation.arms, track)
    st.dataframe(tables.froc_table(results), height="content")
    st.caption(tables.describe_intervals(froc.interval for froc in results.values()))
    middle = st.columns([1, 4, 1])[1]
    middle.plotly_chart(tables.froc_figure(results), key=f"froc:{track}")
    middle.caption("FROC curves by LUNA16's rules; the open circles are the frozen points.")
    for warning in dict.fromkeys(w for froc in results.values() for w in froc.warnings):
        st.text(f"Warning: {warning}")


def show_report(run: RunFolder) -> None:
    """Say where the full report is and offer it."""
    st.header("Full report")
    if not run.report.is_file():
        st.info("There is no report yet: `medkd report RUN` writes it.")
        return
    st.text(str(run.report.resolve()))
    st.download_button(
        "Save report.html", run.report.read_bytes(), file_name="report.html", mime="text/html"
    )


show_results()
