"""The worklist as a reader chooses to see it: filters, order, and which case comes next.

The choice is part of the address of a page. An address contains no text about a patient except
case ids: a searched text that occurs in no case id stays out of it. Cases that were not analysed
come first in every order, because no model has seen them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from medkd.types import RunCase

Order = Literal["suspicion", "random", "case"]
Progress = Literal["open", "begun", "reviewed"]

PROGRESS: tuple[Progress, ...] = get_args(Progress)
STATUSES = ("analysed", "not_analysed")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a reader sees of the worklist; an empty field does not filter.

    The names of the fields are parameters of the address. `text` is part of a case id.
    """

    order: Order
    text: str = ""
    status: str = ""
    progress: str = ""
    split: str = ""


PARAMETERS = tuple(Listing.__dataclass_fields__)
"""The parameters of an address that describe the worklist."""


def choose_orders(*, model_shown: bool) -> tuple[Order, ...]:
    """Return the orders that a reader may choose, the usual one first.

    Args:
        model_shown: whether the reader sees what a model says. Otherwise an order by suspicion
            would tell it.
    """
    return ("suspicion", "random", "case") if model_shown else ("case", "random")


def hidden_columns(*, model_shown: bool) -> frozenset[str]:
    """Return the columns of the worklist that must not be shown; the argument as above."""
    return frozenset() if model_shown else frozenset({"Score", "Result", "Marks"})


def order_cases(
    cases: Iterable[RunCase], order: Order = "suspicion", *, shuffle: str = ""
) -> list[RunCase]:
    """Sort cases for reading; those that were not analysed come first.

    Args:
        cases: the cases.
        order: "suspicion": by decreasing score, ties by case id. "case": by case id. "random": a
            shuffle that is the same whenever `shuffle` is; a new case does not move the others.
        shuffle: names the reader and the review.

    Example:
        >>> low = RunCase("a", "p", "scan", "", "", None, None, 0.1, "analysed")
        >>> high = replace(low, case_id="b", score=0.9)
        >>> [case.case_id for case in order_cases([low, high])]
        ['b', 'a']
    """
    if order == "random":
        return sorted(cases, key=lambda case: (_is_analysed(case), _shuffled(case, shuffle)))
    if order == "case":
        return sorted(cases, key=lambda case: (_is_analysed(case), case.case_id))
    return sorted(
        cases,
        key=lambda case: (
            _is_analysed(case),
            -(case.score if case.score is not None else -1.0),
            case.case_id,
        ),
    )


def filter_cases(
    cases: Iterable[RunCase], listing: Listing, progress: Callable[[RunCase], str]
) -> list[RunCase]:
    """Return the cases that match all filters.

    Args:
        cases: the cases.
        listing: the filters.
        progress: returns how far the reader is with a case.
    """
    return [
        case
        for case in cases
        if listing.text in case.case_id
        and listing.status in {"", case.status}
        and listing.split in {"", case.split}
        and (not listing.progress or listing.progress == progress(case))
    ]


def next_unread(order: Sequence[str], current: str, is_read: Callable[[str], bool]) -> str:
    """Return the next case that the reader has not read; empty if there is none but `current`.

    Args:
        order: case ids in the order of the worklist. After the last one comes the first one.
        current: the case that is open, which may be missing from `order`.
        is_read: returns whether the reader has read a case.

    Example:
        >>> next_unread(["a", "b", "c"], "b", is_read={"c"}.__contains__)
        'a'
    """
    start = order.index(current) + 1 if current in order else 0
    following = [*order[start:], *order[:start]]
    return next((name for name in following if name != current and not is_read(name)), "")


def read_listing(
    asked: Mapping[str, str], orders: Sequence[Order], splits: Iterable[str]
) -> Listing:
    """Read a listing from the parameters of an address; a value that does not exist is ignored.

    Args:
        asked: parameters and their values.
        orders: the orders that the reader may choose.
        splits: the splits of the cases.
    """
    choices = {"status": STATUSES, "progress": PROGRESS, "split": tuple(splits)}
    known = {name: asked[name] for name, values in choices.items() if asked.get(name) in values}
    order = next((one for one in orders if one == asked.get("order")), orders[0])
    return Listing(order, text=asked.get("text", "").strip(), **known)


def write_listing(listing: Listing, cases: Iterable[RunCase]) -> dict[str, str]:
    """Return the parameters of an address that describe a listing.

    Args:
        listing: the listing.
        cases: all cases. A text that is in none of their ids does not enter the address.
    """
    if not any(listing.text in case.case_id for case in cases):
        listing = replace(listing, text="")
    named = {name: str(getattr(listing, name)) for name in PARAMETERS}
    return {name: value for name, value in named.items() if value}


def _is_analysed(case: RunCase) -> bool:
    return case.status == "analysed"


def _shuffled(case: RunCase, shuffle: str) -> bytes:
    return hashlib.sha256(f"{shuffle}\n{case.case_id}".encode()).digest()
