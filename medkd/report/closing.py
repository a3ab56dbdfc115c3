"""How a run on phantoms ends on the terminal: a short table of the three arms, in plain words.

The report holds everything; this holds what a first look needs, and no more than fits a screen.
"""

from __future__ import annotations

from collections.abc import Iterator

from medkd.report import words
from medkd.report.summary import difference_words, scored_patients
from medkd.report.tables import froc_on, results_on
from medkd.types import Evaluation, FrocResult

CAUTION = (
    "These scans are synthetic: the numbers show how the method works, and nothing about its "
    "value for patients."
)
CPM = "CPM: mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false marks a scan."
SHOWN_TRACKS = ("whole-scan", "candidates")
"""Where a run searched whole scans, these marks are what its CPM is of; else the candidates."""


def closing_lines(evaluation: Evaluation) -> tuple[str, ...]:
    """Say what was trained, what the arms scored, and what the teacher added.

    Args:
        evaluation: of a run on CT scans with the arms teacher, control and student.

    Returns:
        Lines for a terminal, each in ASCII; the table is made of spaces.
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
    """Return each arm's FROC on the track that the run shows; empty if it has none."""
    return next(filter(None, (froc_on(evaluation, track) for track in SHOWN_TRACKS)), {})


def _trained(evaluation: Evaluation) -> Iterator[str]:
    for arm in evaluation.arms:
        yield f"{arm.name}: {arm.model}; trained on {_data(evaluation, arm.name)}"
    yield "The student also learns from the teacher's output; the control does not."


def _data(evaluation: Evaluation, arm: str) -> str:
    """Name what an arm was trained on, without the generator's stamp."""
    told = evaluation.source_data if arm == "teacher" else evaluation.target_data
    return told.split(", made by ")[0]


def _scored(evaluation: Evaluation, froc: dict[str, FrocResult]) -> Iterator[str]:
    result = next(iter(results_on(evaluation, "test")[0].values()))
    yield (
        f"Scored on {words.count(result.samples)} given candidates, "
        f"{words.count(result.positives)} of them in nodules, of "
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
    """Give the warnings that begin in capitals: they say that the comparison itself failed."""
    yield from (warning for warning in evaluation.warnings if warning[:2].isupper())
