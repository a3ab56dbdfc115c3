"""Page: the results of a run: scores of the arms side by side, curves, differences."""

from __future__ import annotations

import charts
import pandas as pd
import session
import streamlit as st
from disagreement import show_disagreements

from medkd.report import tables
from medkd.report.summary import NO_TRANSFER, scored_words
from medkd.report.words import interval_words
from medkd.review.opened import Review
from medkd.types import Evaluation, Table

TRACKS = {
    "candidates": (
        "Detection, candidates track",
        "The models scored the candidates of a given list. They did not search the scans.",
    ),
    "whole-scan": (
        "Detection, whole scans",
        "The models searched whole scans and placed their own marks.",
    ),
}
OTHER_TRACK = ("Detection, another track", "Its name in this run:")

CIRCLES = "Open circles: operating points chosen on validation."


def show_results() -> None:
    """Draw the page."""
    review = session.current_review()
    evaluation = session.load_evaluation(review)
    st.title("Results")
    if evaluation is None:
        st.info("This run has no evaluation yet: `medkd train` writes it when it ends.")
        st.stop()
    st.text(
        f"{evaluation.name}: {evaluation.dataset}\n"
        f"Teacher's data: {evaluation.source_data}\nStudent's data: {evaluation.target_data}"
    )
    show_warnings(evaluation)
    splits = tables.ordered_splits(evaluation)
    for split in splits[:1]:
        st.header("Classification")
        show_classification(evaluation, split)
    for split in splits[1:]:
        with st.expander("Classification on another split"):
            show_classification(evaluation, split)
    for track in dict.fromkeys(froc.track for arm in evaluation.arms for froc in arm.froc):
        show_froc(evaluation, track)
    show_transfer(evaluation)
    show_disagreements(review)
    show_report(review)


def show_warnings(evaluation: Evaluation) -> None:
    """Show every warning of the evaluation, and whether transfer took place."""
    if evaluation.transfer_took_place is False:
        st.error(NO_TRANSFER)
    if evaluation.warnings:
        with st.container(border=True):
            st.text("\n".join(f"Warning: {warning}" for warning in evaluation.warnings))


def show_classification(evaluation: Evaluation, split: str) -> None:
    """Show the scores of all arms on one split, and the ROC curves."""
    for number, results in enumerate(tables.results_on(evaluation, split)):
        show_table(tables.scores_table(results, split))
        st.caption(interval_words(tables.intervals_of(results)))
        show_table(tables.confusion_table(results, split))
        middle = st.columns([1, 4, 1])[1]
        middle.plotly_chart(charts.roc_figure(results), key=f"roc:{split}:{number}")
        middle.caption(f"ROC curves. {CIRCLES}")


def show_froc(evaluation: Evaluation, track: str) -> None:
    """Show the FROC of all arms on one track."""
    title, meaning = TRACKS.get(track, OTHER_TRACK)
    st.header(title)
    st.caption(meaning)
    if track not in TRACKS:
        st.text(track)
    results = tables.froc_on(evaluation, track)
    at_point = tables.froc_point_table(results)
    if at_point is not None:
        show_table(at_point)
    show_table(tables.froc_scores_table(results))
    for line in filter(None, (scored_words(evaluation), *evaluation.record.phantoms)):
        st.text(line)
    st.caption(interval_words(froc.interval for froc in results.values()))
    middle = st.columns([1, 4, 1])[1]
    middle.plotly_chart(charts.froc_figure(results), key=f"froc:{track}")
    middle.caption(f"FROC curves by LUNA16's rules. {CIRCLES}")
    show_table(tables.froc_counts_table(results))
    for warning in dict.fromkeys(w for froc in results.values() for w in froc.warnings):
        st.text(f"Warning: {warning}")


def show_transfer(evaluation: Evaluation) -> None:
    """Show differences between arms, fidelity to the teacher, and the choice of thresholds."""
    st.header("Differences and thresholds")
    if evaluation.differences:
        show_table(tables.differences_table(evaluation.differences))
        st.caption(interval_words(d.difference.interval for d in evaluation.differences))
    if evaluation.fidelity:
        show_table(tables.fidelity_table(evaluation.fidelity))
    show_table(tables.operating_points_table(evaluation))


def show_table(table: Table) -> None:
    """Draw a table of the report with its caption."""
    st.text(table.caption)
    rows = pd.DataFrame(list(table.rows), columns=list(table.columns))
    st.dataframe(rows, hide_index=True)


def show_report(review: Review) -> None:
    """Show the path of the full report with a download button."""
    st.header("Full report")
    report = review.run.report
    if not report.is_file():
        st.info("There is no report yet: `medkd report RUN` writes it.")
        return
    st.text(str(report.resolve()))
    st.download_button(
        "Save report.html",
        report.read_bytes(),
        file_name="report.html",
        mime="text/html",
    )


show_results()
