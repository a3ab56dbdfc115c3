"""The choices that make a FROC what it is, in words: another choice gives another number.

LUNA16's rules; `medkd/evaluate/froc.py` follows them and names its sources.
"""

from __future__ import annotations

from medkd.report import words
from medkd.types import FrocResult, Table

RULES = (
    (
        "Localisation criterion",
        "A mark finds a nodule if its distance from the nodule's centre is strictly smaller than "
        "the nodule's radius (LPS mm).",
    ),
    (
        "Assignment",
        "All marks inside a nodule leave the false positives; the highest score is the nodule's, "
        "further ones are ignored. A mark inside two nodules counts for both.",
    ),
    (
        "Ignore list",
        "A mark on an excluded finding (annotations_excluded.csv) is neither right nor wrong; an "
        "excluded diameter below zero is read as 10 mm.",
    ),
    (
        "Cap",
        "At most 100 marks a scan: where there are more, only scores strictly greater than the "
        "101st count.",
    ),
    (
        "CPM, interpolated",
        "Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives a scan, by linear "
        "interpolation of the curve; beyond its last mark the curve goes on flat (dotted).",
    ),
    (
        "CPM, nearest curve point",
        "The leaderboard's reading: the same mean over the curve's points that lie nearest to the "
        "seven rates.",
    ),
)


def froc_rules_table(results: dict[str, FrocResult]) -> Table:
    """State how marks were scored: criterion, assignment, ignore list, denominator, cap, CPM."""
    scans = " or ".join(words.count(n) for n in sorted({r.scans for r in results.values()}))
    denominator = (
        "False positives a scan",
        f"Divided by all {scans} scans of seriesuids.csv, those without a nodule included.",
    )
    return Table(
        ("Choice", "Rule"), (denominator, *RULES), "How marks were scored (LUNA16's rules)"
    )
