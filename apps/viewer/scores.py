"""Parts of the results page: what was trained, the scores of the arms, and their curves."""

from __future__ import annotations

from collections.abc import Sequence

import charts
import pandas as pd
import streamlit as st

from medkd.report import tables
from medkd.report.summary import NO_TRANSFER, scored_words
from medkd.report.transfer import similarity_tables
from medkd.report.words import interval_words
from medkd.types import Evaluation, Table

TRACKS = {
    "whole-scan": (
        "Detection, whole scans",
        "The models searched whole scans and placed their own marks.",
    ),
    "candidates": (
        "Detection, candidates track",
        "The models scored the candidates of a given list. They did not search the scans.",
    ),
}
LINE_LETTERS = 50
LINE_PX, ROW_GAP_PX = 21, 14
OTHER_TRACK = ("Detection, another track", "Its name in this run:")

CIRCLES = "Open circles: operating points chosen on validation, with their intervals."
BANDS = "Areas: intervals at the seven rates. A click on a name below hides or shows its curve."


def show_scores(evaluation: Evaluation) -> None:
    """Show the warnings, the scores of all arms, their differences, and the thresholds."""
    st.text(
        f"{evaluation.name}: {evaluation.dataset}\n"
        f"Teacher's data: {evaluation.source_data}\nStudent's data: {evaluation.target_data}"
    )
    show_warnings(evaluation)
    splits = tables.ordered_splits(evaluation)
    for split in splits[:1]:
        st.header("Classification")
        show_classification_scores(evaluation, split)
    for split in splits[1:]:
        with st.expander("Classification on another split"):
            show_classification_scores(evaluation, split)
    for track in tracks_of(evaluation):
        st.header(TRACKS.get(track, OTHER_TRACK)[0])
        show_froc_scores(evaluation, track)
    show_transfer(evaluation)


def show_warnings(evaluation: Evaluation) -> None:
    """Show every warning of the evaluation, and whether transfer took place."""
    if evaluation.transfer_took_place is False:
        st.error(NO_TRANSFER)
    if evaluation.warnings:
        with st.container(border=True):
            st.text("\n".join(f"Warning: {warning}" for warning in evaluation.warnings))


def show_classification_scores(evaluation: Evaluation, split: str) -> None:
    """Show the scores of all arms on one split."""
    of_classes = tables.class_accuracy_table(evaluation, (split,))
    if of_classes is not None:
        show_table(of_classes)
    for results in tables.results_on(evaluation, split):
        show_table(tables.scores_table(results, split))
        st.caption(interval_words(tables.intervals_of(results)))
        show_table(tables.confusion_table(results, split))


def show_froc_scores(evaluation: Evaluation, track: str) -> None:
    """Show the CPM of all arms on one track, and their results at the operating point."""
    results = tables.froc_on(evaluation, track)
    at_point = tables.froc_point_table(results)
    if at_point is not None:
        show_table(at_point)
    show_table(tables.froc_scores_table(results))
    for line in filter(None, (scored_words(evaluation), *evaluation.record.phantoms)):
        st.text(line)
    st.caption(interval_words(froc.interval for froc in results.values()))


def show_transfer(evaluation: Evaluation) -> None:
    """Show differences between arms, fidelity to the teacher, and the choice of thresholds."""
    st.header("Differences and thresholds")
    if evaluation.differences:
        show_table(tables.differences_table(evaluation.differences))
        st.caption(interval_words(d.difference.interval for d in evaluation.differences))
    if evaluation.fidelity:
        show_table(tables.fidelity_table(evaluation.fidelity))
    for table in similarity_tables(evaluation.similarity):
        show_table(table)
    show_table(tables.operating_points_table(evaluation))


def show_detection(evaluation: Evaluation, readers: Sequence[charts.PlotPoint]) -> None:
    """Show the FROC curves of all arms on each track.

    Args:
        evaluation: the evaluation.
        readers: the points of readers, for the plot of whole scans or of the only track.
    """
    found = tracks_of(evaluation)
    if not found:
        st.info("No model of this run was scored on scans.")
    for number, track in enumerate(found):
        title, meaning = TRACKS.get(track, OTHER_TRACK)
        st.header(title)
        st.caption(meaning)
        if track not in TRACKS:
            st.text(track)
        points = readers if number == 0 else ()
        results = tables.froc_on(evaluation, track)
        left, right = st.columns([3, 2])
        left.plotly_chart(charts.froc_figure(results, points), key=f"froc:{track}")
        left.caption(f"FROC curves by LUNA16's rules. {CIRCLES} {BANDS}")
        with right:
            for note in charts.outside_notes(results, points):
                st.text(note)
            show_table(tables.froc_counts_table(results))
            for warning in dict.fromkeys(w for froc in results.values() for w in froc.warnings):
                st.text(f"Warning: {warning}")


def show_curves(evaluation: Evaluation) -> None:
    """Show ROC, precision-recall and reliability curves on the first split."""
    splits = tables.ordered_splits(evaluation)
    if not splits:
        st.info("No model of this run was scored as a classifier.")
    for split in splits[:1]:
        for number, results in enumerate(tables.results_on(evaluation, split)):
            st.header("Classification")
            st.text(f"{tables.where_scored(split, results).capitalize()}")
            figures = {
                "roc": (charts.roc_figure(results), f"ROC curves. {CIRCLES}"),
                "pr": (charts.pr_figure(results), f"Precision-recall curves. {CIRCLES}"),
                "reliability": (
                    charts.reliability_figure(results),
                    "Calibration. A larger circle has more samples; the evaluation stores no "
                    "intervals of it.",
                ),
            }
            for column, (name, (figure, words)) in zip(st.columns(3), figures.items(), strict=True):
                column.plotly_chart(figure, key=f"{name}:{split}:{number}")
                column.caption(words)


def tracks_of(evaluation: Evaluation) -> list[str]:
    """Return the tracks on which an arm was scored, whole scans first."""
    found = {froc.track: None for arm in evaluation.arms for froc in arm.froc}
    return sorted(found, key=lambda track: (track not in TRACKS, track != "whole-scan"))


def show_table(table: Table) -> None:
    """Draw a table of the report with its caption."""
    if table.caption:
        st.text(table.caption)
    rows = pd.DataFrame(list(table.rows), columns=list(table.columns))
    longest = {
        name: max((len(row[place]) for row in table.rows), default=0)
        for place, name in enumerate(table.columns)
    }
    # A cell longer than this is broken into lines, because the table would cut it off.
    wide = {name: length for name, length in longest.items() if length > LINE_LETTERS}
    lines = 1 + max(wide.values(), default=0) // LINE_LETTERS
    st.dataframe(
        rows,
        hide_index=True,
        row_height=LINE_PX * lines + ROW_GAP_PX,
        column_config=dict.fromkeys(wide, st.column_config.TextColumn(width="large")),
    )
