"""Two runs side by side: their scores with differences, and whether the test cases are the same."""

from __future__ import annotations

from collections.abc import Collection

from medkd.report import words
from medkd.report.rows import MetricRow, metric_rows
from medkd.types import Evaluation, Table

COMPARED = (
    "roc_auc", "pr_auc", "brier", "sensitivity@frozen", "specificity@frozen", "f1@frozen",
    "whole-scan/cpm_interpolated", "whole-scan/sensitivity@frozen", "whole-scan/f1@frozen",
    "whole-scan/fp_per_scan@frozen", "candidates/cpm_interpolated", "candidates/sensitivity@frozen",
    "candidates/f1@frozen", "candidates/fp_per_scan@frozen", "parameters", "size_mib", "latency_ms",
)  # fmt: skip
"""Metrics of `rows.py` that are compared, in this order."""

NO_INTERVAL = (
    "Differences are those of the two numbers. They have no interval, because the runs were not "
    "compared case by case: `medkd bench` compares arms on the same patients."
)

_WORDS = {
    "fp_per_scan": "False positives per scan",
    "parameters": "Parameters",
    "size_mib": "Size on disk (MiB)",
    "latency_ms": "Latency of one input (ms)",
}
_TRACKS = {"whole-scan": "whole scans", "candidates": "listed candidates"}
_WHOLE = frozenset({"parameters"})


def compare_runs(first: Evaluation, second: Evaluation) -> Table:
    """List the scores of the arms that both runs have, with the difference second - first.

    Args:
        first: evaluation of one run.
        second: evaluation of the other run.
    """
    mine, other = _by_metric(first), _by_metric(second)
    rows = [
        (
            row.arm,
            _metric_words(metric),
            _cell(row),
            _cell(theirs),
            words.signed(theirs.value - row.value, _digits(metric)),
        )
        for arm in (arm.name for arm in first.arms)
        for metric in COMPARED
        if (row := mine.get((arm, metric))) and (theirs := other.get((arm, metric)))
    ]
    columns = ("Arm", "Metric", "This run", "Other run", "Difference")
    return Table(columns, tuple(rows), "Test scores of both runs")


def compare_cases(first: Collection[str], second: Collection[str]) -> str:
    """Describe how the test cases of two runs differ; empty if they are the same.

    Args:
        first: ids of the test cases of one run.
        second: those of the other run.
    """
    mine, other = set(first), set(second)
    if mine == other:
        return ""
    return (
        f"The runs have different test cases: {len(mine & other)} in both, {len(mine - other)} "
        f"only in this run, {len(other - mine)} only in the other. A difference of the scores may "
        "come from the cases."
    )


def _by_metric(evaluation: Evaluation) -> dict[tuple[str, str], MetricRow]:
    """Return the rows of the test split and of cost by arm and metric."""
    rows = metric_rows(evaluation)
    return {(row.arm, row.metric): row for row in rows if row.split in {"test", ""}}


def _metric_words(metric: str) -> str:
    track, _, name = metric.rpartition("/")
    name, _, point = name.partition("@")
    said = _WORDS.get(name, words.metric_words(name))
    where = f", {_TRACKS[track]}" if track else ""
    return f"{said}{where}{' at the operating point' if point else ''}"


def _cell(row: MetricRow) -> str:
    if row.metric in _WHOLE:
        return words.count(int(row.value))
    if row.low is None or row.high is None:
        return words.number(row.value)
    return f"{words.number(row.value)} ({words.number(row.low)} to {words.number(row.high)})"


def _digits(metric: str) -> int:
    return 0 if metric in _WHOLE else 3
