"""Conversion of table cells to numbers, stricter than Python's `float`; used for every table.

A number consists of the digits 0 to 9, at most one decimal mark and at most one exponent.
Underscores, thousands separators, digits of other scripts, nan, inf and overflow are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

Decimal = Literal[".", ","]
_SIGNS = "0123456789.+-eE"
"""For texts of only these characters, Python's `float` gives the same result as `number_in`."""

MARKS: tuple[Decimal, ...] = (".", ",")

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:([,.'\u2019\s])\d{3})(?:\1\d{3})*(?:[.,]\d*)?")


def number_in(text: str, decimal: Decimal = ".") -> float | None:
    """Return the finite number of a text, rounded as by Python; None if it is not a number.

    Args:
        text: a cell; blanks around the number are ignored.
        decimal: the decimal mark; a text with the other mark is not a number.

    Example:
        >>> number_in("-1.5e3"), number_in("1,5", ","), number_in("1_0.5"), number_in("nan")
        (-1500.0, 1.5, None, None)
    """
    plain = text.strip()
    if decimal == ",":
        plain = plain.replace(".", "?").replace(",", ".")
    if not _NUMBER.fullmatch(plain):
        return None
    value = float(plain)
    return value if math.isfinite(value) else None


def numbers_in(texts: Sequence[str], decimal: Decimal = ".") -> list[float | None]:
    """Return `number_in` of each text; this is fast if all are numbers."""
    if decimal == "." and not "".join(texts).strip(_SIGNS):
        try:
            values = list(map(float, texts))
        except ValueError:
            values = [math.nan]
        if all(map(math.isfinite, values)):
            return list(values)
    return [number_in(text, decimal) for text in texts]


def is_grouped(text: str) -> bool:
    """Return whether a text may be a number with thousands separators.

    Example:
        >>> is_grouped("1,234"), is_grouped("20,5")
        (True, False)
    """
    return bool(_GROUPED.fullmatch(text.strip()))


def why_no_number(text: str, decimal: Decimal = ".") -> str:
    """Return how to correct a text that `number_in` refuses; empty if no advice is known.

    Example:
        >>> why_no_number("1,234.5")
        'write it without thousands separators'
    """
    plain = text.strip()
    other: Decimal = "," if decimal == "." else "."
    if "_" in plain:
        return "write it without underscores"
    if _NUMBER.fullmatch(plain):
        return "it is too large" if decimal == "." else _other_mark(decimal)
    if number_in(plain, other) is not None:
        return _other_mark(decimal)
    if is_grouped(plain):
        return "write it without thousands separators"
    if any(sign.isdigit() and not sign.isascii() for sign in plain):
        return "write it with the digits 0 to 9"
    return ""


def _other_mark(decimal: Decimal) -> str:
    return f"the decimal mark here is {decimal!r}: write all numbers of the table with it"
