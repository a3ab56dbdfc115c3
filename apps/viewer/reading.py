"""Part of the results page: the readers' points in the FROC plot, and their agreement."""

from __future__ import annotations

import charts
import login
import session
import stored
import streamlit as st
from scores import show_table

from medkd.report import readers
from medkd.report.summary import main_froc
from medkd.review.opened import Review
from medkd.types import Evaluation, ReaderStudy

NOTHING_YET = (
    "No reader has finished a scan of the reference standard yet. A scan counts once its reader "
    "marked the case as reviewed."
)
NOT_ON_IMAGES = (
    "This run has no scans: readers have no points here. Readers of images are compared with each "
    "other, once two of them have accepted or rejected the same image."
)
ONLY_OWN = (
    "You see your own decisions only. An admin sees those of all readers and their agreement."
)


def show_readers(review: Review, evaluation: Evaluation) -> None:
    """Draw the point of each reader that this reader may see, and the agreement of pairs."""
    study = stored.load_reader_study(review)
    with session.stopping():
        if login.current_reader().role != "admin":
            st.caption(ONLY_OWN)
    if not study.points:
        st.info(NOTHING_YET if main_froc(evaluation) else NOT_ON_IMAGES)
    else:
        show_table(readers.points_table(study))
        st.caption(readers.POINTS)
        show_plot(evaluation, study)
    if study.pairs:
        show_table(readers.agreement_table(study))
        st.caption(readers.KAPPA)


def show_plot(evaluation: Evaluation, study: ReaderStudy) -> None:
    """Draw the readers in the FROC plot of the models."""
    results = main_froc(evaluation)
    if not results:
        return
    points = plot_points(study)
    left, right = st.columns([3, 2])
    left.plotly_chart(charts.froc_figure(results, points), key="readers:froc")
    for note in charts.outside_notes(results, points):
        right.text(note)


def plot_points(study: ReaderStudy) -> list[charts.PlotPoint]:
    """Return the readers' points for a plot; they are numbered, because Plotly formats names."""
    return [
        charts.PlotPoint(f"reader {number}", point.fp_per_scan, point.sensitivity)
        for number, point in enumerate(study.points, start=1)
        if point.sensitivity is not None
    ]
