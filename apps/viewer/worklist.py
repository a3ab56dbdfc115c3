"""Page: the cases in reading order with filters, the reader's progress, and export of decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NoReturn

import address
import modes
import pandas as pd
import session
import streamlit as st

from medkd.review.cases import NO_MARKS, MarkSource, call_words, case_progress, count_decided
from medkd.review.index_cases import synthetic_words
from medkd.review.opened import Review
from medkd.review.worklist import (
    PARAMETERS,
    PROGRESS,
    STATUSES,
    Listing,
    Order,
    hidden_columns,
    next_unread,
    read_listing,
)
from medkd.types import RunCase

STATUS_WORDS = {"analysed": "analysed", "not_analysed": "NOT ANALYSED"}
INDEX_WORDS = {"analysed": "ready", "not_analysed": "NOT ANALYSED"}
ORDER_WORDS: dict[Order, str] = {
    "suspicion": "highest score first",
    "random": "random",
    "case": "by case id",
}
ANY = {"": "any"}
OPTIONAL = (
    "Reasons", "Result", "Marks", "Nodules", "Reference", "Labels present", "Synthetic", "Site",
    "Split",
)  # fmt: skip
"""Columns that are left out if they are empty."""

ROWS_SHOWN = 12
ROW_PX = 35
SEARCHES: tuple[MarkSource, ...] = ("whole-scan", "candidates", "detect")


def show_worklist() -> None:
    """Draw the page."""
    review = session.current_review()
    decided = session.load_mine(review)
    cases = session.load_cases(review)
    st.subheader("Worklist")
    show_warnings(review, cases)
    listing = choose_listing(review, cases)
    passing = address.list_cases(review, cases, listing, decided)
    address.write_address(cases, listing, drop=["at"])
    show_actions(review, cases, listing, passing, decided)
    if passing:
        show_table(
            review,
            passing,
            decided,
            opens=lambda case: open_case(cases, listing, case.case_id),
        )
    else:
        st.info("No case matches the filters.")


def show_actions(
    review: Review,
    cases: Sequence[RunCase],
    listing: Listing,
    passing: Sequence[RunCase],
    decided: address.Decided,
) -> None:
    """Draw above the table how many cases it has, and the buttons.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        cases: all cases.
        listing: the reader's choice of the worklist.
        passing: the cases of the table, in its order.
        decided: the reader's latest decisions by case id and mark id.
    """
    row = st.container(horizontal=True, vertical_alignment="center", gap="small")
    if row.button("Open the next case to read", type="primary", disabled=not passing, shortcut="s"):
        names = [case.case_id for case in passing]
        read = {c.case_id for c in passing if progress_of(c, decided) == "reviewed"}
        open_case(cases, listing, next_unread(names, "", read.__contains__) or names[0])
    row.download_button(
        "Export all decisions (CSV)",
        session.build_export(review),
        file_name="decisions.csv",
        mime="text/csv",
    )
    whose = "student's" if review.kind == "RUN" else "model's"
    by_score = f", highest score first (the {whose} highest probability)"
    order = by_score if listing.order == "suspicion" else ""
    row.caption(f"{len(passing)} of {len(cases)} cases{order}. Click a row to open its case.")


def show_warnings(review: Review, cases: Sequence[RunCase]) -> None:
    """Show how many cases were not analysed, and how many are synthetic."""
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


def choose_listing(review: Review, cases: Sequence[RunCase]) -> Listing:
    """Draw the filters and the order, and return what the reader chose.

    They begin with what the address says; after that, what the reader changes counts.
    """
    listing = address.current_listing(review, cases)
    is_new = listing != st.session_state.get(address.LISTING)
    for name in PARAMETERS:
        key = f"list_{name}"
        if is_new or key not in st.session_state:
            st.session_state[key] = getattr(listing, name)
    splits = sorted({case.split for case in cases} - {""})
    orders = address.orders(review)
    words = INDEX_WORDS if review.kind == "INDEX" else STATUS_WORDS
    choices = {
        "status": ("Status", STATUSES),
        "progress": ("Review", PROGRESS),
        "split": ("Split", splits),
        "order": ("Order", orders),
    }
    columns = st.columns([2, 1, 1, 1, 1.3])
    columns[0].text_input("Case id contains", key="list_text")
    shown = ANY | words | ORDER_WORDS
    for column, (name, (label, options)) in zip(columns[1:], choices.items(), strict=True):
        offered = options if name == "order" else ["", *options]
        column.selectbox(
            label, offered, key=f"list_{name}", format_func=lambda one: shown.get(one, one)
        )
    chosen = {name: st.session_state[f"list_{name}"] for name in PARAMETERS}
    return read_listing(chosen, orders, splits)


def show_table(
    review: Review,
    cases: Sequence[RunCase],
    decided: address.Decided,
    *,
    opens: Callable[[RunCase], None],
) -> None:
    """Draw the table without empty columns; a click on a row opens its case.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        cases: the cases in the order of the table.
        decided: the reader's latest decisions by case id and mark id.
        opens: opens a case.
    """
    build = index_columns if review.kind == "INDEX" else run_columns
    table = pd.DataFrame(build(review, cases, decided))
    empty = [name for name in OPTIONAL if name in table and table[name].isin(["", None]).all()]
    same = ["Kind"] if table["Kind"].nunique() == 1 else []
    hidden = hidden_columns(model_shown=address.shows_model(review)) & set(table)
    rows = min(len(table), ROWS_SHOWN)
    event = st.dataframe(
        table.drop(columns=[*empty, *same, *hidden]),
        hide_index=True,
        height=ROW_PX * (rows + 1) + 2,
        row_height=ROW_PX,
        column_config={
            "Score": st.column_config.ProgressColumn(format="%.3f", min_value=0, max_value=1),
            "Reasons": st.column_config.TextColumn(width="large"),
        },
        key="worklist",
        on_select="rerun",
        selection_mode="single-cell",
        alt="Worklist",
    )
    for row, _ in event["selection"]["cells"]:
        opens(cases[row])


def run_columns(
    review: Review, cases: Sequence[RunCase], decided: address.Decided
) -> dict[str, list[object]]:
    """Build the columns of a RUN or RESULTS: score, result, marks, status, progress."""
    marks = session.load_marks(review)
    thresholds = {source: session.mark_threshold(review, source) for source in SEARCHES}

    def describe(case: RunCase) -> str:
        """Say how many marks of a scan reach the threshold, and how many are decided."""
        found = marks.get(case.case_id, NO_MARKS)
        if case.kind != "scan" or case.status != "analysed" or found.source == "hidden":
            return ""
        if found.source == "none":
            return "not searched"
        above = found.above(thresholds[found.source])
        done = count_decided(above, decided.get(case.case_id, {}))
        return f"{done} of {len(above)} decided" if above else "no mark"

    least = session.image_threshold(review, session.ARM)
    images = {case.case_id: case.score for case in cases if case.kind == "image"}
    scored = {name: score for name, score in images.items() if score is not None}
    calls = {name: call_words(score, least) for name, score in scored.items()}
    return {
        "Case": [case.case_id for case in cases],
        "Score": [case.score for case in cases],
        "Result": [calls.get(case.case_id, "") for case in cases],
        "Status": [STATUS_WORDS[case.status] for case in cases],
        "Reasons": ["; ".join(case.reasons) for case in cases],
        "Marks": [describe(case) for case in cases],
        "Review": [progress_of(case, decided) for case in cases],
        **modes.reads_column(review, cases, decided),
        "Split": [case.split for case in cases],
        "Kind": [case.kind for case in cases],
    }


def index_columns(
    review: Review, cases: Sequence[RunCase], decided: address.Decided
) -> dict[str, list[object]]:
    """Build the columns of an INDEX: status, reference nodules, labels, progress."""
    archive = session.load_archive(review)
    shown = review.mode.is_open
    facts = session.load_nodule_facts(review) if shown else {}
    present: dict[str, set[str]] = defaultdict(set)
    for label in archive.labels if shown else ():
        if label.value == 1:
            present[label.case_id].add(label.name)
    rows = archive.by_id()
    known = [(facts.get(case.case_id), rows.get(case.case_id)) for case in cases]
    return {
        "Case": [case.case_id for case in cases],
        "Status": [INDEX_WORDS[case.status] for case in cases],
        "Reasons": ["; ".join(case.reasons) for case in cases],
        "Nodules": [fact.count if fact else None for fact, _ in known],
        "Reference": [fact.words if fact else "" for fact, _ in known],
        "Labels present": [", ".join(sorted(present.get(case.case_id, ()))) for case in cases],
        "Review": [progress_of(case, decided) for case in cases],
        "Patient": [case.patient_id for case in cases],
        "Synthetic": [synthetic_words(row) if row else "" for _, row in known],
        "Site": [row.site if row else "" for _, row in known],
        "Split": [case.split for case in cases],
        "Kind": [case.kind for case in cases],
    }


def progress_of(case: RunCase, decided: address.Decided) -> str:
    """Return how far this reader is with a case."""
    return case_progress(case, decided.get(case.case_id, {}))


def open_case(cases: Sequence[RunCase], listing: Listing, case_id: str) -> NoReturn:
    """Go to the case page; the address keeps the reader's choice of the worklist."""
    st.switch_page("case.py", query_params=address.case_parameters(cases, listing, case_id))


show_worklist()
