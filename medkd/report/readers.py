"""The tables of readers: their points against the reference standard, and their agreement."""

from __future__ import annotations

from medkd.report import words
from medkd.types import ReaderStudy, Table

POINTS = (
    "Each reader's accepted and added nodules, over the scans of the reference standard that the "
    "reader marked as reviewed, by the rules for marks. Readers decide without scores of their "
    "own, so each is one point of a FROC plot. "
    "Whoever saw the marks of the model is not a reader alone."
)
KAPPA = (
    "Cohen's kappa compares how often two readers agree with how often they would by chance. Only "
    "places on which both decided count. It does not show who is right."
)


def points_table(study: ReaderStudy) -> Table:
    """List the point of each reader, numbered as in the figure."""
    rows = [
        (
            str(number),
            point.reader,
            words.count(point.scans),
            words.count(point.nodules),
            words.number(point.sensitivity),
            words.number(point.fp_per_scan),
        )
        for number, point in enumerate(study.points, start=1)
    ]
    columns = ("Number", "Reader", "Scans", "Nodules", "Sensitivity", "False positives per scan")
    return Table(columns, tuple(rows), "Readers against the reference standard")


def agreement_table(study: ReaderStudy) -> Table:
    """List the agreement of every two readers."""
    rows = [
        (
            pair.first,
            pair.second,
            words.count(pair.places),
            words.count(pair.both_yes),
            words.count(pair.only_first_yes),
            words.count(pair.only_second_yes),
            words.count(pair.both_no),
            words.number(pair.agreed),
            words.estimate(pair.kappa),
        )
        for pair in study.pairs
    ]
    columns = (
        "First reader", "Second reader", "Places", "Both: nodule", "Only the first",
        "Only the second", "Both: no nodule", "Agreement", "Cohen's kappa",
    )  # fmt: skip
    return Table(columns, tuple(rows), "Agreement of readers on places that both decided")


def points_words(study: ReaderStudy) -> tuple[str, ...]:
    """Return where the points outside the drawn range of a FROC plot are."""
    found = [
        (number, words.point_outside(point.fp_per_scan, point.sensitivity))
        for number, point in enumerate(study.points, start=1)
        if point.sensitivity is not None
    ]
    return tuple(f"Reader {number} is outside the figure: {where}." for number, where in found
                 if where)  # fmt: skip
