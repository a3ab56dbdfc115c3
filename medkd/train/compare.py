"""Compare finished arms: paired differences, and the fidelity of a student to its teacher.

Nothing is trained or chosen here: thresholds and temperatures were already fixed on validation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax

from medkd.config.mutual import MutualSettings
from medkd.config.run_settings import CONTROL, EvaluationSettings
from medkd.evaluate.caution import FEW_CASES
from medkd.evaluate.intervals import LabelledSamples, holm, two_way_difference
from medkd.evaluate.metrics import compute_metric
from medkd.settings import Settings
from medkd.train.arm import FinishedArm
from medkd.train.plan import Arm
from medkd.train.predict import known
from medkd.transfer.objective import term_names
from medkd.transfer.settings import TransferSettings
from medkd.types import Estimate, Fidelity, PairedDifference, TermRecord

METRICS = ("roc_auc", "pr_auc", "brier")
TRANSFER_SHARE = 0.7
"""Transfer took place if the student's KL to the teacher is at most this part of the others'."""

Float64 = NDArray[np.float64]


def compare_arms(
    pairs: Sequence[tuple[FinishedArm, FinishedArm]],
    settings: EvaluationSettings,
    of_marks: Sequence[PairedDifference] = (),
) -> tuple[PairedDifference, ...]:
    """Compare arms on the test split; ROC AUC of the first pair is the primary comparison.

    The p-values of all other comparisons are adjusted together (Holm).

    Args:
        pairs: (first, second) arms.
        settings: of the bootstrap.
        of_marks: differences in CPM, see `scans.compare_marks`.
    """
    found = [
        _difference(first, second, metric, settings, primary=number == 0 and metric == METRICS[0])
        for number, (first, second) in enumerate(pairs)
        for metric in METRICS
    ]
    found += of_marks
    others = [difference for difference in found if not difference.primary]
    adjusted = iter(holm([d.p_value if d.p_value is not None else 1.0 for d in others]))
    return tuple(d if d.primary else dataclasses.replace(d, p_value=next(adjusted)) for d in found)


def measure_fidelity(teacher: FinishedArm, arm: FinishedArm) -> Fidelity:
    """Measure how close an arm's outputs are to those of the teacher on the test split.

    mean_nk [ p log(p / q) + (1 - p) log((1 - p) / (1 - q)) ] with p = sigmoid(z_t / T), T the
    teacher's temperature, and q = sigmoid(z_a). Both are probabilities at the prevalence of
    training. Corrected for a low true prevalence, both would be near 0 and hardly differ.
    For exclusive outputs it is mean_n [ sum_k p_k log(p_k / q_k) ] with the softmax instead, and
    they agree where the most probable class is the same.

    Args:
        teacher: the teacher, calibrated.
        arm: an arm that was scored on the same samples.
    """
    taught = _values(teacher, "test", "logits") / np.array(teacher.info.calibration.temperature)
    own = _values(arm, "test", "logits")
    if teacher.info.outputs == "exclusive":
        log_p, log_q = log_softmax(taught, axis=1), log_softmax(own, axis=1)
        kl = float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
        agreement = float((taught.argmax(axis=1) == own.argmax(axis=1)).mean())
        return Fidelity(arm.name, "test", max(0.0, kl), agreement)
    p = expit(taught)
    # log(p / q) and log((1 - p) / (1 - q)) from logits: no logarithm of a rounded 0.
    divergence = p * (log_expit(taught) - log_expit(own))
    divergence += (1 - p) * (log_expit(-taught) - log_expit(-own))
    agreement = float(((taught >= 0) == (own >= 0)).mean())
    return Fidelity(arm.name, "test", max(0.0, float(divergence.mean())), agreement)


def transfer_happened(student: Fidelity, others: Iterable[Fidelity]) -> bool:
    """Return whether the student's KL is at least 30 % below that of each arm without its teacher.

    These are the control and, where there is one, self-training.
    """
    return student.kl <= TRANSFER_SHARE * min(other.kl for other in others)


def term_records(
    transfer: TransferSettings, mutual: MutualSettings | None = None
) -> tuple[TermRecord, ...]:
    """List the terms of an objective and its alignment with their weights, for the record."""
    terms: dict[str, Any] = {"hard_label": transfer.hard_label}
    terms |= dict(zip(term_names(transfer), transfer.terms, strict=True))
    terms |= {"mutual": mutual} if mutual is not None else {}
    if transfer.alignment is not None:
        terms[transfer.alignment.kind] = transfer.alignment
    return tuple(TermRecord(name, term.weight, _detail(term)) for name, term in terms.items())


def warn_of_weak_teacher(
    teacher: FinishedArm, control: FinishedArm, *, pretrained: bool = False
) -> tuple[str, ...]:
    """Return a warning if the teacher is no better than the control on validation.

    Args:
        teacher: the teacher.
        control: the control.
        pretrained: whether student and control start from a source model.
    """
    if not (compared := weak_teacher_words(teacher, control, pretrained=pretrained)):
        return ()
    return (
        f"TEACHER NOT BETTER: {compared}: a teacher that is worse than its student makes the "
        "student worse; use a better teacher or none",
    )


def weak_teacher_words(teacher: FinishedArm, control: FinishedArm, *, pretrained: bool) -> str:
    """Compare a teacher that is no better than the control on validation; empty if it is."""
    ours, theirs = _validation_auc(control), _validation_auc(teacher)
    if theirs > ours:
        return ""
    network = "the pretrained student" if pretrained else "the student's network"
    return (
        f"on validation {teacher.name} has ROC AUC {theirs:.4f} and {control.name} ({network} "
        f"without a teacher) {ours:.4f}"
    )


def settle_transfer(arm: Arm, finished: Mapping[str, FinishedArm]) -> Arm:
    """Return an arm as it is trained: without terms where its teacher had to be better and is not.

    The answer depends on finished arms alone, so a resumed run gives the same one.

    Args:
        arm: the arm as planned.
        finished: the arms before it; a teacher is compared with the control.
    """
    if not arm.transfer.only_if_better or arm.teacher is None or CONTROL not in finished:
        return arm
    pretrained = arm.initialise is not None
    compared = weak_teacher_words(finished[arm.teacher], finished[CONTROL], pretrained=pretrained)
    if not compared:
        return arm
    words = f"the student was trained without transfer: {compared} (transfer.only_if_better)"
    return replace(arm, transfer=arm.transfer.without_terms(), teacher=None, untaught=words)


def warn_of_few_positives(name: str, counts: dict[str, dict[str, int]]) -> Iterable[str]:
    """Yield a warning for each part with so few positive samples that its metrics are uncertain.

    Args:
        name: of the domain.
        counts: of each part, see `Domain.counts`.
    """
    for part, found in counts.items():
        if (count := found.get("positives", FEW_CASES)) < FEW_CASES:
            yield f"{name}: few positive samples in {part}: {count}"
        if (count := found.get("smallest_class", FEW_CASES)) < FEW_CASES:
            yield f"{name}: few samples of a class in {part}: {count}"


def _difference(
    first: FinishedArm,
    second: FinishedArm,
    metric: str,
    settings: EvaluationSettings,
    *,
    primary: bool,
) -> PairedDifference:
    rows, others = first.predictions["test"], second.predictions["test"]
    if [row.sample_id for row in rows] != [row.sample_id for row in others]:
        raise ValueError(f"{first.name} and {second.name} were scored on different samples")
    found = two_way_difference(
        [_values(first, "test", "probabilities")],
        [_values(second, "test", "probabilities")],
        LabelledSamples(_values(first, "test", "labels"), [row.patient_id for row in rows]),
        metric=metric,
        resamples=settings.bootstrap,
        seed=settings.seed,
    )
    if not settings.bootstrap:
        value = Estimate(found.estimate.value)
        return PairedDifference(first.name, second.name, metric, value, None, primary)
    return PairedDifference(first.name, second.name, metric, found.estimate, found.p_value, primary)


def _validation_auc(arm: FinishedArm) -> float:
    """Return the ROC AUC on validation, averaged over the labels."""
    scores = _values(arm, "val", "probabilities").T, _values(arm, "val", "labels").T
    found = [known(probability, label) for probability, label in zip(*scores, strict=True)]
    return float(np.mean([compute_metric("roc_auc", label, score) for score, label in found]))


def _values(arm: FinishedArm, split: str, field: str) -> Float64:
    """Return one field of the predictions as [N, K]; an unknown label is NaN."""
    return np.array([getattr(row, field) for row in arm.predictions[split]], dtype=np.float64)


def _detail(settings: Settings) -> str:
    values = dict(_flat(settings.model_dump(exclude={"kind", "weight"})))
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _flat(values: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested settings under their names as in a configuration, a.b."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{section}{key}.")
        else:
            yield f"{section}{key}", value
