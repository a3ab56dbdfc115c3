"""Decisions as tables and files for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import fields

from medkd.review.decision import Decision

_SPREADSHEET_CODE = ("=", "+", "-", "@", "\t", "\r")
_LAST = ("diameter_mm", "undoes", "hash")
"""Fields that were added later; their columns come last."""


def decisions_csv(decisions: Iterable[Decision]) -> str:
    """Return decisions as CSV text; `counts` is 1 for the latest of each (case, mark, reader).

    Texts that a spreadsheet would run as a formula (they begin with = + - @ or a tab) are prefixed
    with an apostrophe.

    Args:
        decisions: oldest first, as `ReviewStore.history` returns them.
    """
    history = list(decisions)
    newest = {(d.case_id, d.mark_id, d.reader): d.number for d in history}
    left = {"number", "center_mm", *_LAST}
    names = [field.name for field in fields(Decision) if field.name not in left]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["number", *names, "x_mm", "y_mm", "z_mm", "counts", *_LAST])
    for decision in history:
        counts = int(newest[decision.case_id, decision.mark_id, decision.reader] == decision.number)
        texts = [_cell(getattr(decision, name)) for name in names]
        place = decision.center_mm or ("", "", "")
        last = [_cell(getattr(decision, name)) for name in _LAST]
        writer.writerow([decision.number, *texts, *place, counts, *last])
    return stream.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_SPREADSHEET_CODE):
        return f"'{value}"
    return "" if value is None else value
