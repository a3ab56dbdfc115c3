"""Decisions as tables and files for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields

from medkd import __version__
from medkd.formats import REVIEWS_KIND
from medkd.review.consensus import Consensus
from medkd.review.decision import Decision
from medkd.types import Nodule

_SPREADSHEET_CODE = ("=", "+", "-", "@", "\t", "\r")
_LAST = ("diameter_mm", "undoes", "hash", "read")
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


def consensus_json(found: Consensus, decisions: Sequence[Decision] = ()) -> str:
    """Return what readers decided as JSON text, which `medkd index --reviews` reads too.

    Args:
        found: the marks and the cases.
        decisions: every decision, if they and the agreement of the readers are to be in the file
            too; notes are free text.
    """
    from medkd.review.agreement import find_agreement

    content = {
        "kind": REVIEWS_KIND,
        "medkd_version": __version__,
        "adjudicator": found.adjudicator,
        "marks": [asdict(mark) for mark in found.marks],
        "reviewed": {name: list(readers) for name, readers in sorted(found.reviewed.items())},
        "disputed": dict(sorted(found.disputed.items())),
        "images": [asdict(image) for image in found.images],
        "unnamed": found.unnamed,
        "agreement": [asdict(pair) for pair in find_agreement(decisions)],
        "decisions": [asdict(decision) for decision in decisions],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def consensus_nodules(found: Consensus) -> list[Nodule]:
    """Return the accepted and added marks as nodules for LUNA16's table of annotations."""
    return [
        Nodule(m.seriesuid, m.center_mm, m.diameter_mm, readers_agreeing=len(m.readers))
        for m in found.marks
        if m.verdict != "rejected"
    ]


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(_SPREADSHEET_CODE):
        return f"'{value}"
    return "" if value is None else value
