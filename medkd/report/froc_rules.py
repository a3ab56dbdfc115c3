"""The rules of a FROC analysis in words. Under other rules the numbers would differ.

These are LUNA16's rules. `medkd/evaluate/froc.py` implements them and names its sources.
"""

from __future__ import annotations

from medkd.report import words
from medkd.types import FrocResult, Table

RULES = (
    (
        "Localisation criterion",
        "A mark hits a nodule if its distance from the nodule's centre is strictly less than the "
        "nodule's radius (LPS mm).",
    ),
    (
        "Assignment",
        "Marks inside a nodule are not false positives. The mark with the highest score is the "
        "nodule's hit, the others are ignored. A mark inside two nodules counts for both.",
    ),
    (
        "Ignore list",
        "A mark on an excluded finding (annotations_excluded.csv) is neither a hit nor a false "
        "positive. A diameter below zero in this table is read as 10 mm.",
    ),
    (
        "Cap",
        "At most 100 marks per scan. If a scan has more, only the marks with a score strictly "
        "above the 101st are kept.",
    ),
    (
        "CPM, interpolated",
        "Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan, by linear "
        "interpolation of the curve. Beyond its last mark the curve is extended flat (dotted).",
    ),
    (
        "CPM, nearest curve point",
        "As on the LUNA16 leaderboard: mean sensitivity of the curve points that are nearest to "
        "the seven rates.",
    ),
)


def froc_rules_table(results: dict[str, FrocResult]) -> Table:
    """Return the rules by which marks were scored, one per row."""
    scans = " or ".join(words.count(n) for n in sorted({r.scans for r in results.values()}))
    denominator = (
        "False positives per scan",
        f"Divided by all {scans} scans of seriesuids.csv, including scans without a nodule.",
    )
    return Table(("Topic", "Rule"), (denominator, *RULES), "How marks were scored (LUNA16's rules)")
