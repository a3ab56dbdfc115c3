"""Numbers of a run from hand-made predictions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from medkd.config.run_settings import EvaluationSettings
from medkd.models.package import CLASSIFICATION, Calibration, ModelInfo
from medkd.runs import Prediction
from medkd.train.arm import FinishedArm
from medkd.train.compare import (
    compare_arms,
    measure_fidelity,
    term_records,
    transfer_happened,
    warn_of_few_positives,
    warn_of_weak_teacher,
)
from medkd.train.predict import score_predictions
from medkd.transfer.settings import TransferSettings
from medkd.types import ArmResult, Estimate, Fidelity, OperatingPoint, PairedDifference

SETTINGS = EvaluationSettings(bootstrap=20)


def make_arm(name: str, probabilities: list[float], labels: list[int] | None = None) -> FinishedArm:
    truth = labels or [0, 0, 1, 1]
    rows = [
        Prediction(f"s{n}", f"p{n}", f"s{n}", (label,), (math.log(p / (1 - p)),), (p,))
        for n, (p, label) in enumerate(zip(probabilities, truth, strict=True))
    ]
    info = ModelInfo(settings={}, operating_points={CLASSIFICATION: OperatingPoint(0.6, "youden")})
    return FinishedArm(name, info, {"val": rows, "test": rows}, ArmResult(name, "", "", ""))


GOOD = make_arm("teacher", [0.1, 0.2, 0.8, 0.9])
POOR = make_arm("control", [0.1, 0.8, 0.7, 0.9])


def test_an_arm_is_scored_at_its_own_frozen_threshold() -> None:
    arm = make_arm("student", [0.1, 0.55, 0.7, 0.9])
    found = score_predictions(arm.predictions, arm.info, SETTINGS)["test"][0]
    assert (found.at_operating_point.false_positives, found.at_half.false_positives) == (0, 1)
    assert found.roc_auc.value == 1.0


def test_one_comparison_is_primary_and_the_others_are_adjusted() -> None:
    found = compare_arms([(GOOD, POOR), (POOR, GOOD)], SETTINGS)
    assert [d.primary for d in found] == [True] + [False] * 5
    assert found[0].difference.value == pytest.approx(0.25)
    assert all(a.p_value >= 0.1 for a in found[1:])


def test_differences_of_marks_are_adjusted_with_the_others() -> None:
    marks = PairedDifference("a", "b", "whole-scan/cpm_interpolated", Estimate(0.1), p_value=0.001)
    found = compare_arms([(GOOD, POOR)], SETTINGS, [marks])
    assert [d.metric for d in found] == ["roc_auc", "pr_auc", "brier", marks.metric]
    assert found[-1].p_value == pytest.approx(0.003)


def test_the_teacher_teaches_at_its_temperature() -> None:
    # logit ln 16 = 2 ln 4 at temperature 2 is p = .8
    hot = replace(GOOD.info, calibration=Calibration(temperature=(2.0,)))
    teacher = replace(make_arm("teacher", [16 / 17], [1]), info=hot)
    assert measure_fidelity(teacher, make_arm("student", [0.8], [1])).kl == pytest.approx(
        0.0, abs=1e-12
    )


def test_arms_on_different_samples_are_not_compared() -> None:
    other = make_arm("control", [0.1, 0.9], [0, 1])
    with pytest.raises(ValueError, match="different samples"):
        compare_arms([(GOOD, other)], SETTINGS)


def test_fidelity_is_the_bernoulli_divergence_from_the_teacher() -> None:
    # one sample each: p = .8, q = .5: .8 ln 1.6 + .2 ln .4 = .37600 - .18326 = .19274
    teacher, arm = make_arm("teacher", [0.8], [1]), make_arm("student", [0.5], [1])
    assert measure_fidelity(teacher, arm).kl == pytest.approx(0.19274, abs=1e-5)
    assert measure_fidelity(teacher, teacher).kl == 0.0


def test_fidelity_of_exclusive_classes_is_the_divergence_of_their_softmax() -> None:
    # .6 ln(.6 / .5) + .4 ln(.4 / .5) = .0201 (a third class of 1e-9 adds nothing)
    arms = []
    for name, shares in (("teacher", (0.6, 0.4, 1e-9)), ("student", (0.5, 0.5, 1e-9))):
        row = Prediction("s", "p", "s", (1, 0, 0), tuple(map(math.log, shares)), shares)
        info = ModelInfo(settings={}, outputs="exclusive")
        arms.append(FinishedArm(name, info, {"test": [row]}, ArmResult(name, "", "", "")))
    found = measure_fidelity(*arms)
    assert found.kl == pytest.approx(0.0201, abs=5e-5)
    assert found.agreement == 1.0


@pytest.mark.parametrize(("kl", "happened"), [(0.70, True), (0.71, False)])
def test_transfer_took_place_from_thirty_percent_below_the_control(
    kl: float, happened: bool
) -> None:
    control = Fidelity("control", "test", 1.0, 1.0)
    student = Fidelity("student", "test", kl, 1.0)
    assert transfer_happened(student, [control]) is happened
    near = Fidelity("self_training", "test", 0.5, 1.0)
    assert not transfer_happened(student, [control, near])


def test_a_teacher_no_better_than_the_control_is_named() -> None:
    assert warn_of_weak_teacher(GOOD, POOR) == ()
    (warning,) = warn_of_weak_teacher(POOR, GOOD)
    assert "0.7500" in warning
    assert warn_of_weak_teacher(GOOD, GOOD)


def test_a_small_class_is_named_by_part() -> None:
    counts = {"val": {"smallest_class": 3}, "test": {"smallest_class": 30}}
    assert list(warn_of_few_positives("target", counts)) == [
        "target: few samples of a class in val: 3"
    ]


def test_few_positives_are_named_by_part() -> None:
    counts = {"val": {"positives": 3}, "test": {"positives": 30}}
    assert list(warn_of_few_positives("target", counts)) == [
        "target: few positive samples in val: 3"
    ]


def test_terms_are_recorded_with_their_weights() -> None:
    transfer = TransferSettings.model_validate(
        {"hard_label": {"weight": 0.5}, "terms": [{"kind": "hint", "weight": 0.2}]}
    )
    hard, hint = term_records(transfer)
    assert (hard.kind, hard.weight, hint.kind, hint.weight) == ("hard_label", 0.5, "hint", 0.2)
    assert "projector linear" in hint.detail
    marks = TransferSettings.model_validate({"terms": [{"kind": "teacher_marks"}]})
    assert "points.scheme gaussian" in term_records(marks)[1].detail
