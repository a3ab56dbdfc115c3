"""The summary that a run on phantoms prints at its end: a short table of the three arms.

The report contains all results. This summary contains the most important ones and fits on one
screen.
"""

from __future__ import annotations

from collections.abc import Iterator

from medkd.report import words
from medkd.report.summary import difference_words, scored_patients
from medkd.report.tables import froc_on, results_on
from medkd.types import Evaluation, FrocResult

CAUTION = (
    "These scans are synthetic: the numbers illustrate the method and say nothing about its "
    "value for patients."
)
CPM = "CPM: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per scan."
SHOWN_TRACKS = ("whole-scan", "candidates")
"""Tracks by preference: the CPM is that of the whole-scan marks if there are any."""


def closing_lines(evaluation: Evaluation) -> tuple[str, ...]:
    """Return lines that summarise the training, the scores of the arms and their difference.

    Args:
        evaluation: result of a run on CT scans with the arms teacher, control and student.

    Returns:
        ASCII lines for a terminal; table columns are aligned by spaces.
    """
    froc = shown_froc(evaluation)
    return tuple(
        line.replace("\u2212", "-")
        for line in (
            *_trained(evaluation),
            "",
            *_scored(evaluation, froc),
            "",
            *_table(evaluation, froc),
            "",
            *_differences(evaluation),
            *_failures(evaluation),
            CAUTION,
        )
    )


def shown_froc(evaluation: Evaluation) -> dict[str, FrocResult]:
    """Return each arm's FROC on the first of `SHOWN_TRACKS` that exists; empty if none does."""
    return next(filter(None, (froc_on(evaluation, track) for track in SHOWN_TRACKS)), {})


def _trained(evaluation: Evaluation) -> Iterator[str]:
    for arm in evaluation.arms:
        yield f"{arm.name}: {arm.model}; trained on {_data(evaluation, arm.name)}"
    yield "The student also learns from the teacher's output; the control does not."


def _data(evaluation: Evaluation, arm: str) -> str:
    """Describe the training data of an arm, without the generator's stamp."""
    data = evaluation.source_data if arm == "teacher" else evaluation.target_data
    return data.split(", made by ")[0]


def _scored(evaluation: Evaluation, froc: dict[str, FrocResult]) -> Iterator[str]:
    result = next(iter(results_on(evaluation, "test")[0].values()))
    yield (
        f"Scored on {words.count(result.samples)} given candidates "
        f"({words.count(result.positives)} of them in nodules) in "
        f"{words.count(scored_patients(evaluation))} other scans of the same site."
    )
    if "whole-scan" not in {found.track for found in froc.values()}:
        yield "The demo does not search whole scans; `medkd detect` does."


def _table(evaluation: Evaluation, froc: dict[str, FrocResult]) -> Iterator[str]:
    yield f"{'':10}{'ROC AUC':26}CPM (both with 95 % intervals)"
    for arm, result in results_on(evaluation, "test")[0].items():
        found = froc.get(arm)
        cpm = words.with_interval(found.cpm_interpolated, found.interval) if found else "not scored"
        yield f"{arm:10}{words.estimate(result.roc_auc):26}{cpm}"
    yield CPM


def _differences(evaluation: Evaluation) -> Iterator[str]:
    patients = scored_patients(evaluation)
    for found in evaluation.differences:
        if found.primary:
            yield difference_words(found, patients=patients)


def _failures(evaluation: Evaluation) -> Iterator[str]:
    """Yield the warnings that begin in capitals: they report that the comparison failed."""
    yield from (warning for warning in evaluation.warnings if warning[:2].isupper())
