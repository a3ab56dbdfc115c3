"""The hash chain over the decisions: each row's hash covers its fields and the previous hash.

A row that was changed, removed, inserted or moved outside medkd breaks the chain, and the first
broken row is named. One separate row, the head, repeats number and hash of the last decision, so
that removed last rows are found too. Whoever can write the database and knows this rule can build
a new chain: to detect that as well, note the head that `medkd review --verify` prints somewhere
else, and compare it later with `--head`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FIRST = "0" * 64
"""The "previous hash" of the first row."""

HASHED = (
    "number", "decided_at", "reader", "case_id", "mark_id", "verdict", "note", "score", "x_mm",
    "y_mm", "z_mm", "medkd_version", "diameter_mm", "undoes",
)  # fmt: skip
"""The columns that a hash covers, in order. The order is part of the format of the store."""

HASHED_LATER = ("read",)
"""Columns of later schemas. A hash covers each with its name if it is not empty, so the hashes of
rows without them stay valid."""

_INTEGERS = ("number", "undoes")


@dataclass(frozen=True, slots=True)
class Link:
    """A place in the chain: the number of a row (0: before the first) and its hash."""

    number: int = 0
    hash: str = FIRST


def hash_row(row: Mapping[str, object], previous: str) -> str:
    """Return the hash of a row: SHA-256 of a JSON list of the previous hash and its fields.

    Args:
        row: the values of all columns of `HASHED`, and those of `HASHED_LATER` that it has.
        previous: the hash of the row before, or `FIRST`.

    Example:
        >>> row = dict.fromkeys(HASHED) | {"number": 1, "score": -0.0}
        >>> hash_row(row, FIRST) == hash_row(row | {"score": 0.0}, FIRST)
        True
        >>> hash_row(row, FIRST) == hash_row(row | {"note": "x"}, FIRST)
        False
    """
    values: list[object] = [previous, *(_plain(name, row[name]) for name in HASHED)]
    values += [[name, _plain(name, row[name])] for name in HASHED_LATER if row.get(name)]
    return hashlib.sha256(json.dumps(values, separators=(",", ":")).encode()).hexdigest()


def find_fault(rows: Iterable[Mapping[str, object]], head: Link | None, since: Link) -> str:
    """Return what is wrong with a chain, and at which row; empty if nothing is.

    Args:
        rows: the rows after `since`, by number.
        head: the head of the store; None if there is none.
        since: the row up to which the chain was checked before.
    """
    last = since
    for row in rows:
        number, stored = row["number"], row["hash"]
        if not isinstance(number, int) or stored != hash_row(row, last.hash):
            return _broken(number, last.number)
        last = Link(number, str(stored))
        if head is not None and number > head.number:
            return f"row {number} was added by another program"
    if head is None:
        return "the record of the last row is missing"
    if last.number < head.number:
        return f"row {last.number + 1} is missing, and all rows after it up to {head.number}"
    if last != head:
        return f"row {last.number}: its hash is not that of the record of the last row"
    return ""


def _broken(number: object, before: int) -> str:
    if isinstance(number, int) and number > before + 1:
        gone = f"row {before + 1}" if number == before + 2 else f"rows {before + 1} to {number - 1}"
        return f"row {number} does not follow row {before}: {gone} missing"
    return f"row {number} was changed by another program, or does not belong after row {before}"


def _plain(name: str, value: object) -> object:
    """Return a value as JSON writes it in the same way for every database."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        # + 0.0 turns -0.0 into 0.0, because SQLite does not keep the sign of a zero.
        return value if name in _INTEGERS else float(value) + 0.0
    return repr(value)
