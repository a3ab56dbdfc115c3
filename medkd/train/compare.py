"""The numbers of a run that need several arms: paired differences, likeness to the teacher.

Nothing is trained or chosen here: thresholds and temperatures were frozen before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from medkd.config.run_settings import EvaluationSettings
from medkd.evaluate.caution import FEW_CASES
from medkd.evaluate.intervals import LabelledSamples, holm, two_way_difference
from medkd.evaluate.metrics import compute_metric
from medkd.runs import Prediction
from medkd.train.arm import FinishedArm
from medkd.train.predict import known
from medkd.transfer.objective import term_names
from medkd.transfer.settings import TransferSettings
from medkd.types import (
    Estimate,
    Fidelity,
    PairedDifference,
    TermRecord,
)

METRICS = ("roc_auc", "pr_auc", "brier")
TRANSFER_SHARE = 0.7
"""Transfer took place if the student's KL to the teacher is at most this part of the control's."""

Float64 = NDArray[np.float64]


def compare_arms(
    pairs: Sequence[tuple[FinishedArm, FinishedArm]], settings: EvaluationSettings
) -> tuple[PairedDifference, ...]:
    """Compare arms on the test split; ROC AUC of the first pair is the primary comparison.

    P-values of all others are adjusted together (Holm).

    Args:
        pairs: (first, second) arms.
        settings: of the bootstrap.
    """
    found = [
        _difference(first, second, metric, settings, primary=number == 0 and metric == METRICS[0])
        for number, (first, second) in enumerate(pairs)
        for metric in METRICS
    ]
    others = [difference for difference in found if not difference.primary]
    adjusted = iter(holm([d.p_value if d.p_value is not None else 1.0 for d in others]))
    return tuple(d if d.primary else dataclasses.replace(d, p_value=next(adjusted)) for d in found)


def likeness(teacher: FinishedArm, arm: FinishedArm, *, split: str = "test") -> Fidelity:
    """Say how close an arm's outputs are to what the teacher teaches.

    mean_nk [ p log(p / q) + (1 - p) log((1 - p) / (1 - q)) ] with p = sigmoid(z_t / T), T the
    teacher's temperature, and q = sigmoid(z_a): both as training shows them, before a shift to
    the true share of positives, which would drown them in what is rare.

    Args:
        teacher: calibrated.
        arm: scored on the same samples.
        split: held-out data.
    """
    given = _logits(teacher, split) / np.array(teacher.info.calibration.temperature)
    own = _logits(arm, split)
    p = expit(given)
    # log(p / q) and log((1 - p) / (1 - q)) from logits: no logarithm of a rounded 0.
    divergence = p * (log_expit(given) - log_expit(own))
    divergence += (1 - p) * (log_expit(-given) - log_expit(-own))
    agreement = float(((given >= 0) == (own >= 0)).mean())
    return Fidelity(arm.name, split, max(0.0, float(divergence.mean())), agreement)


def transfer_happened(student: Fidelity, control: Fidelity) -> bool:
    """Apply the rule: the student's KL is at least 30 % below the control's."""
    return student.kl <= TRANSFER_SHARE * control.kl


def term_records(transfer: TransferSettings) -> tuple[TermRecord, ...]:
    """Say what was transferred, and with which weight."""
    records = [TermRecord("hard_label", transfer.hard_label.weight, _detail(transfer.hard_label))]
    for name, term in zip(term_names(transfer), transfer.terms, strict=True):
        records.append(TermRecord(name, term.weight, _detail(term)))
    return tuple(records)


def weigh_teacher(teacher: FinishedArm, control: FinishedArm) -> tuple[str, ...]:
    """Warn if the teacher is no better than the control, as validation shows before the test."""
    ours, theirs = _validation_auc(control), _validation_auc(teacher)
    if theirs > ours:
        return ()
    return (
        f"TEACHER NOT BETTER: on validation {teacher.name} has ROC AUC {theirs:.4f} and "
        f"{control.name} (the student's network without a teacher) {ours:.4f}: a teacher that "
        "knows less than its student makes it worse; take a better one or none",
    )


def few_positives(
    name: str, counts: dict[str, dict[str, int]], least: int = FEW_CASES
) -> Iterable[str]:
    """Warn of parts with so few positive samples that numbers on them move a lot."""
    for part, found in counts.items():
        if found["positives"] < least:
            yield f"{name}: few positive samples in {part}: {found['positives']}"


def _difference(
    first: FinishedArm,
    second: FinishedArm,
    metric: str,
    settings: EvaluationSettings,
    *,
    primary: bool,
) -> PairedDifference:
    rows = _paired_rows(first, second)
    found = two_way_difference(
        [_probabilities(first, "test")],
        [_probabilities(second, "test")],
        LabelledSamples(_labels(first, "test"), [row.patient_id for row in rows]),
        metric=metric,
        resamples=settings.bootstrap,
        seed=settings.seed,
    )
    if not settings.bootstrap:
        value = Estimate(found.estimate.value)
        return PairedDifference(first.name, second.name, metric, value, None, primary)
    return PairedDifference(first.name, second.name, metric, found.estimate, found.p_value, primary)


def _validation_auc(arm: FinishedArm) -> float:
    """Return the ROC AUC on validation, the mean over labels."""
    scores = zip(_probabilities(arm, "val").T, _labels(arm, "val").T, strict=True)
    found = [known(probability, label) for probability, label in scores]
    return float(np.mean([compute_metric("roc_auc", label, score) for score, label in found]))


def _paired_rows(first: FinishedArm, second: FinishedArm) -> list[Prediction]:
    """Return the test rows, which must be the same samples in the same order."""
    rows, others = first.predictions["test"], second.predictions["test"]
    if [row.sample_id for row in rows] != [row.sample_id for row in others]:
        raise ValueError(f"{first.name} and {second.name} were scored on different samples")
    return rows


def _logits(arm: FinishedArm, split: str) -> Float64:
    """Return [N, K]."""
    return np.array([row.logits for row in arm.predictions[split]])


def _probabilities(arm: FinishedArm, split: str) -> Float64:
    """Return [N, K]."""
    return np.array([row.probabilities for row in arm.predictions[split]])


def _labels(arm: FinishedArm, split: str) -> Float64:
    """Return [N, K], NaN where not known."""
    return np.array([row.labels for row in arm.predictions[split]], dtype=np.float64)


def _detail(settings: object) -> str:
    values = settings.model_dump(exclude={"kind", "weight"})  # type: ignore[attr-defined]  # any Settings
    return ", ".join(f"{key} {value}" for key, value in values.items())
