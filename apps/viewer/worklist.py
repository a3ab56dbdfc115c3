"""Page: the cases in reading order with filters, the reader's progress, and export of decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd
import session
import streamlit as st

from medkd.review.cases import NO_MARKS, CaseMarks, case_progress, count_decided
from medkd.review.index_cases import synthetic_words
from medkd.review.opened import Review
from medkd.review.store import Decision, decisions_csv
from medkd.types import RunCase

STATUS_WORDS = {"analysed": "analysed", "not_analysed": "NOT ANALYSED"}
INDEX_WORDS = {"analysed": "ready", "not_analysed": "NOT ANALYSED"}
ANY = "any"

Decided = Mapping[str, Mapping[str, Decision]]


def show_worklist() -> None:
    """Draw the page."""
    review = session.current_review()
    decided = session.load_mine(review)
    cases = session.load_cases(review)
    st.title("Worklist")
    indexed = review.kind == "INDEX"
    refused = sum(case.status == "not_analysed" for case in cases)
    if refused:
        st.warning(
            f"{refused} of {len(cases)} cases {'are' if indexed else 'were'} not analysed. That is "
            "not the same as no findings: read them without the model. They are listed first."
        )
    made = sum(case.synthetic for case in session.load_archive(review).cases) if indexed else 0
    if made:
        st.warning(f"{made} of {len(cases)} cases are synthetic; the others are from patients.")
    passing = filter_cases(cases, decided, words=INDEX_WORDS if indexed else STATUS_WORDS)
    st.session_state[session.CASE_ORDER] = [case.case_id for case in passing]
    whose = "student's" if review.kind == "RUN" else "model's"
    order = "" if indexed else f", highest score first (the {whose} highest probability)"
    st.caption(f"{len(passing)} of {len(cases)} cases{order}. Tick a row to open its case.")
    if not passing:
        st.info("No case matches the filters.")
    elif indexed:
        show_table(passing, index_rows(passing, decided, review=review))
    else:
        show_table(passing, run_rows(passing, decided, review=review))
    left, right, _ = st.columns([3, 3, 2])
    if left.button("Open the next case to read", type="primary", disabled=not passing):
        waiting = [c for c in passing if progress_of(c, decided) != "reviewed"]
        open_case((waiting or passing)[0])
    right.download_button(
        "Export all decisions (CSV)",
        decisions_csv(session.load_history(review)),
        file_name="decisions.csv",
        mime="text/csv",
    )


def filter_cases(
    cases: Sequence[RunCase], decided: Decided, *, words: Mapping[str, str]
) -> list[RunCase]:
    """Draw the filters and return the cases that match."""
    columns = st.columns([2, 1, 1, 1])
    text = columns[0].text_input("Case id contains")
    status = columns[1].selectbox("Status", [ANY, *words.values()])
    progress = columns[2].selectbox("Review", [ANY, "open", "begun", "reviewed"])
    split = columns[3].selectbox("Split", [ANY, *sorted({case.split for case in cases})])
    return [
        case
        for case in cases
        if text.strip() in case.case_id
        and status in {ANY, words[case.status]}
        and split in {ANY, case.split}
        and progress in {ANY, progress_of(case, decided)}
    ]


def run_rows(
    cases: Sequence[RunCase], decided: Decided, *, review: Review
) -> list[dict[str, object]]:
    """Build a row for each case of a RUN or RESULTS: score, marks, status, progress."""
    marks = session.load_marks(review)
    return [
        {
            "Case": case.case_id,
            "Score": case.score,
            "Status": STATUS_WORDS[case.status],
            "Reasons": "; ".join(case.reasons),
            "Marks": describe_marks(
                case, decided, found=marks.get(case.case_id, NO_MARKS), review=review
            ),
            "Review": progress_of(case, decided),
            "Split": case.split,
            "Kind": case.kind,
        }
        for case in cases
    ]


def index_rows(
    cases: Sequence[RunCase], decided: Decided, *, review: Review
) -> list[dict[str, object]]:
    """Build a row for each case of an INDEX: status, reference nodules, labels, progress."""
    archive = session.load_archive(review)
    facts = session.load_nodule_facts(review)
    present: dict[str, list[str]] = defaultdict(list)
    for label in archive.labels:
        if label.value == 1:
            present[label.case_id].append(label.name)
    rows = archive.by_id()
    return [
        {
            "Case": case.case_id,
            "Status": INDEX_WORDS[case.status],
            "Reasons": "; ".join(case.reasons),
            "Nodules": facts[case.case_id].count if case.case_id in facts else None,
            "Reference": facts[case.case_id].words if case.case_id in facts else "",
            "Labels present": ", ".join(sorted(set(present[case.case_id]))),
            "Review": progress_of(case, decided),
            "Patient": case.patient_id,
            "Synthetic": synthetic_words(rows[case.case_id]) if case.case_id in rows else "",
            "Site": rows[case.case_id].site if case.case_id in rows else "",
            "Split": case.split,
            "Kind": case.kind,
        }
        for case in cases
    ]


def show_table(cases: Sequence[RunCase], rows: Sequence[Mapping[str, object]]) -> None:
    """Draw the table without empty columns; ticking a row opens its case."""
    columns = {
        "Score": st.column_config.ProgressColumn(format="%.3f", min_value=0, max_value=1),
        "Reasons": st.column_config.TextColumn(width="large"),
    }
    table = pd.DataFrame(rows)
    optional = (
        "Reasons",
        "Marks",
        "Nodules",
        "Reference",
        "Labels present",
        "Synthetic",
        "Site",
        "Split",
    )
    empty = [n for n in optional if n in table and table[n].isin(["", None]).all()]
    same = ["Kind"] if table["Kind"].nunique() == 1 else []
    table = table.drop(columns=[*empty, *same])
    event = st.dataframe(
        table,
        hide_index=True,
        column_config=columns,
        key="worklist",
        on_select="rerun",
        selection_mode="single-row",
    )
    ticked = event["selection"]["rows"]
    if ticked:
        open_case(cases[ticked[0]])


def describe_marks(case: RunCase, decided: Decided, *, found: CaseMarks, review: Review) -> str:
    """Return how many marks of a scan reach the threshold, and how many are decided."""
    if case.kind != "scan" or case.status != "analysed":
        return ""
    if found.source == "none":
        return "not searched"
    marks = found.above(session.mark_threshold(review, found.source))
    done = count_decided(marks, decided.get(case.case_id, {}))
    return f"{done} of {len(marks)} decided" if marks else "no mark"


def progress_of(case: RunCase, decided: Decided) -> str:
    """Return how far this reader is with a case."""
    return case_progress(case, decided.get(case.case_id, {}))


def open_case(case: RunCase) -> None:
    """Go to the case page."""
    st.session_state[session.OPEN_CASE] = [case.case_id]
    st.switch_page("case.py")


show_worklist()
