"""Parts of the results page: cost, two runs side by side, and the files of the report."""

from __future__ import annotations

import pandas as pd
import stored
import streamlit as st
from scores import show_table

from medkd.errors import MedkdError
from medkd.formats import EVALUATION
from medkd.jsonio import read_json
from medkd.report import tables
from medkd.report.two_runs import NO_INTERVAL, compare_cases, compare_runs
from medkd.review.opened import Review
from medkd.review.other_runs import find_other_runs, read_test_cases
from medkd.types import Evaluation

FORMS = {"html": "text/html", "json": "application/json", "csv": "text/csv"}


def show_cost(review: Review, evaluation: Evaluation) -> None:
    """Draw parameters, size and latency of all arms, and what their searches took."""
    table = tables.efficiency_table(evaluation.arms)
    if table.rows:
        show_table(table)
    else:
        st.info("This run recorded no cost of its models.")
    costs = stored.load_search_costs(review, [arm.name for arm in evaluation.arms])
    if costs:
        st.text("Search of a whole scan, as the run recorded it")
        rows = [
            {
                "Arm": cost.arm,
                "Scans": cost.scans,
                "Seconds per scan (median)": f"{cost.median_s:.2f}",
                "Interquartile range (s)": " to ".join(f"{s:.2f}" for s in cost.quartiles_s),
            }
            for cost in costs
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    record = evaluation.record
    st.text(f"Measured on: {record.processor}, {record.cores} cores, device {record.device}")


def show_two_runs(review: Review, evaluation: Evaluation) -> None:
    """Draw the scores of this run and of another one beside it, with differences."""
    others = find_other_runs(review.run)
    if not others:
        st.info("There is no other evaluated run in the folder of this run.")
        return
    names = {place.path.name: place for place in others}
    chosen = st.selectbox("Other run", names, index=None, placeholder="Choose a run")
    if chosen is None:
        return
    other = names[str(chosen)]
    try:
        theirs = read_json(other.evaluation, Evaluation, form=EVALUATION)
        note = compare_cases(read_test_cases(review.run), read_test_cases(other))
    except MedkdError as error:
        st.error("This run cannot be compared.")
        st.text(str(error))
        return
    if note:
        st.warning(note)
    show_table(compare_runs(evaluation, theirs))
    st.caption(NO_INTERVAL)


def show_report(review: Review) -> None:
    """Show the path of the full report, and a button for each of its files."""
    st.header("Full report")
    report = review.run.report
    if not report.is_file():
        st.info("There is no report yet: `medkd report RUN` writes it.")
        return
    st.text(str(report.resolve()))
    row = st.container(horizontal=True)
    for form, mime in FORMS.items():
        path = report.with_suffix(f".{form}")
        if path.is_file():
            row.download_button(f"Save {path.name}", path.read_bytes(), path.name, mime)
