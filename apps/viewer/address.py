"""The address of a page: case, the reader's choice of the worklist, and the slice viewer's part.

The pages write the case and the worklist's parameters. The slice viewer adds its window, planes and
place in the browser (`component/js/address.js`), without running the page again: the pages leave
them as they are. Without parameters, as behind a link of the navigation, the last choice of this
session counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import session
import streamlit as st

from medkd.review.cases import case_progress
from medkd.review.modes import orders_of
from medkd.review.opened import Review
from medkd.review.store import Decision
from medkd.review.worklist import (
    PARAMETERS,
    Listing,
    Order,
    filter_cases,
    order_cases,
    read_listing,
    write_listing,
)
from medkd.types import RunCase

VIEWED = ("window", "contrast", "planes", "at")
"""The parameters that the slice viewer writes."""

Decided = Mapping[str, Mapping[str, Decision]]

LISTING = "listing"
"""Session key of the reader's choice of the worklist."""

WRITTEN = "written_listing"
"""Session key of the parameters with which this choice was written into the address."""

ORDER = "case_order"
"""Session key of a choice of the worklist, and of the case ids in its order."""


def unknown_parameters(*, names_case: bool) -> list[str]:
    """Return the parameters that a page ignores; `names_case`: whether it knows a case."""
    known = {*PARAMETERS, *VIEWED, *(session.case_keys() if names_case else ())}
    return sorted(set(st.query_params) - known)


def is_first_page() -> bool:
    """Return whether this session has shown neither the worklist nor a case before."""
    return LISTING not in st.session_state


def shows_model(review: Review) -> bool:
    """Return whether the worklist may show what a model says."""
    return review.kind != "INDEX" and review.mode.is_open


def orders(review: Review) -> tuple[Order, ...]:
    """Return the orders of the worklist that the reader may choose, the usual one first."""
    return orders_of(review.mode, model_shown=shows_model(review))


def current_listing(review: Review, cases: Sequence[RunCase]) -> Listing:
    """Return the reader's choice of the worklist: that of the address, otherwise the last one."""
    offered = orders(review)
    asked = {name: st.query_params[name] for name in PARAMETERS if name in st.query_params}
    held: Listing | None = st.session_state.get(LISTING)
    is_new = bool(asked) and asked != st.session_state.get(WRITTEN)
    if held is not None and held.order in offered and not is_new:
        return held
    return read_listing(asked, offered, {case.split for case in cases})


def list_cases(
    review: Review, cases: Sequence[RunCase], listing: Listing, decided: Decided
) -> list[RunCase]:
    """Return the cases of the worklist in the reader's order, and keep this order.

    Args:
        review: the opened RUN, RESULTS or INDEX.
        cases: all cases.
        listing: the reader's choice.
        decided: the reader's latest decisions by case id and mark id.
    """

    def progress(case: RunCase) -> str:
        return case_progress(case, decided.get(case.case_id, {}))

    shuffle = f"{session.reader_name()}\n{review.title}"
    passing = filter_cases(cases, listing, progress)
    listed = order_cases(passing, listing.order, shuffle=shuffle)
    st.session_state[ORDER] = (listing, [case.case_id for case in listed])
    return listed


def current_order(review: Review, cases: Sequence[RunCase]) -> list[str]:
    """Return the case ids in the order of the worklist, as it was when it was drawn last.

    A case does not leave the order when the reader finishes it. If no case matches the filters,
    all cases are returned.
    """
    listing = current_listing(review, cases)
    kept: tuple[Listing, list[str]] | None = st.session_state.get(ORDER)
    if kept is None or kept[0] != listing:
        list_cases(review, cases, listing, session.load_mine(review))
    order: list[str] = st.session_state[ORDER][1]
    known = dict.fromkeys(case.case_id for case in cases)
    return [name for name in order if name in known] or list(known)


def write_address(
    cases: Sequence[RunCase], listing: Listing, *, case_id: str = "", drop: Sequence[str] = ()
) -> None:
    """Write a choice of the worklist, and a case, into the address, and keep the choice.

    Args:
        cases: all cases.
        listing: the reader's choice of the worklist.
        case_id: the open case; empty on the worklist.
        drop: other parameters to remove.
    """
    wanted = case_parameters(cases, listing, case_id)
    wanted = {key: values for key, values in wanted.items() if key not in drop}
    if wanted != {key: st.query_params.get_all(key) for key in st.query_params}:
        st.query_params.from_dict(wanted)


def case_parameters(
    cases: Sequence[RunCase], listing: Listing, case_id: str
) -> dict[str, list[str]]:
    """Return all parameters of the address of a case; keeps the choice of the worklist."""
    written = write_listing(listing, cases)
    st.session_state[LISTING] = listing
    st.session_state[WRITTEN] = written
    own = written | ({"case": case_id} if case_id else {})
    kept = parameters_besides_case()
    kept = {key: values for key, values in kept.items() if key not in PARAMETERS}
    return {key: [value] for key, value in own.items()} | kept


def parameters_besides_case() -> dict[str, list[str]]:
    """Return the parameters in the address that do not name a case."""
    named = session.case_keys()
    return {key: st.query_params.get_all(key) for key in st.query_params if key not in named}
