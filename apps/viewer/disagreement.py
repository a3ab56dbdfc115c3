"""The places or images where teacher and student disagree most; ticking one opens it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import session
import slice_viewer
import streamlit as st

from medkd.review.explained import load_disagreements
from medkd.review.opened import Review
from medkd.runs import Disagreement

SHOWN = 50
PROBABILITIES = ("Teacher", "Student", "Student - teacher")
NONE = "Where teacher and student disagree most: `medkd explain RUN` finds and lists it."
MEANING = (
    "The largest differences of the calibrated probability at the same place. In scans, a model "
    "has its highest probability within 5 mm of the place. Tick a row to open the place with the "
    "heat map; the key t changes between student and teacher."
)


def show_disagreements(review: Review) -> None:
    """Draw the table of a RUN, or how to get it."""
    st.header("Teacher against student")
    with session.stopping():
        rows = load_disagreements(review)[:SHOWN]
    if not rows:
        st.info(NONE)
        return
    st.caption(MEANING)
    event = st.dataframe(
        build_table(rows),
        hide_index=True,
        column_config=dict.fromkeys(PROBABILITIES, st.column_config.NumberColumn(format="%.3f")),
        key="disagreements",
        on_select="rerun",
        selection_mode="single-row",
    )
    if ticked := event["selection"]["rows"]:
        open_place(rows[ticked[0]])


def build_table(rows: Sequence[Disagreement]) -> pd.DataFrame:
    """Build one row per disagreement; columns without content are left out."""
    table = pd.DataFrame(
        [
            {
                "Case": row.case_id,
                "Label": row.label,
                "Teacher": row.teacher,
                "Student": row.student,
                "Student - teacher": row.difference,
                "Place, LPS mm": ", ".join(f"{mm:.1f}" for mm in row.center_mm or ()),
            }
            for row in rows
        ]
    )
    placeless = not table["Place, LPS mm"].any()
    return table.drop(columns=["Place, LPS mm"]) if placeless else table


def open_place(row: Disagreement) -> None:
    """Open the case of a disagreement at its place."""
    st.session_state[session.OPEN_CASE] = [row.case_id]
    slice_viewer.go_to(row.case_id, row.center_mm)
    st.switch_page("case.py")
