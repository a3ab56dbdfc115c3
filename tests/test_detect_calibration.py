"""Calibration on marks of whole scans: what is fitted, and what stays as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from medkd.detect.calibration import calibrate_model
from medkd.detect.calibration_cases import CalibrationCases
from medkd.errors import SeriesError
from medkd.evaluate.matching import match_marks
from medkd.models.package import (
    CLASSIFICATION,
    WHOLE_SCAN,
    Calibration,
    ModelInfo,
    calibrated_probability,
    nodule_scaling,
)
from medkd.types import Candidate, CaseResult, Nodule, OperatingPoint, Reference

SCANS = 200


def world(seed: int = 0) -> tuple[CalibrationCases, list[CaseResult]]:
    """Scans with one nodule each; marks are nodules with probability sigmoid(logit / 2 - 3)."""
    rng = np.random.default_rng(seed)
    results, nodules = [], []
    for number in range(SCANS):
        uid, marks = f"s{number}", []
        for x, logit in enumerate(rng.normal(0, 4, 20).tolist()):
            place = (30.0 * x, 0.0, 0.0)
            marks.append(Candidate(uid, place, 1 / (1 + np.exp(-logit))))
            if rng.random() < 1 / (1 + np.exp(3 - logit / 2)):
                nodules.append(Nodule(uid, place, 6.0))
        results.append(CaseResult(uid, tuple(marks), "analysed"))
    return cases_of(tuple(nodules)), results


def cases_of(nodules: tuple[Nodule, ...], excluded: tuple[Nodule, ...] = ()) -> CalibrationCases:
    uids = tuple(f"s{number}" for number in range(SCANS))
    reference = Reference(nodules, excluded, uids, {uid: uid for uid in uids})
    return CalibrationCases(reference, (), "index")


def info(**facts: object) -> ModelInfo:
    return replace(ModelInfo(settings={"kind": "detector3d"}), **facts)


def test_the_scaling_that_made_the_nodules_is_found() -> None:
    cases, results = world()
    made = calibrate_model(info(), results, cases)
    assert nodule_scaling(made.info) == pytest.approx((2.0, -3.0), rel=0.1)
    assert made.after.calibration_error < 0.01 < made.before.calibration_error
    assert made.after.log_loss < made.before.log_loss


def test_of_marks_with_a_probability_that_share_are_nodules_on_other_scans() -> None:
    cases, results = world()
    made = calibrate_model(info(), results, cases)
    others, marks = world(seed=1)
    matching = match_marks([m for r in marks for m in r.candidates], others.reference)
    logits = torch.logit(torch.from_numpy(matching.scores), eps=1e-12)
    probability = calibrated_probability(logits[:, None], made.info)[:, 0].numpy()
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7)):
        chosen = (probability >= low) & (probability < high)
        share = matching.is_nodule[chosen].mean()
        assert probability[chosen].mean() == pytest.approx(share, abs=0.04)


def test_marks_on_excluded_findings_do_not_count() -> None:
    cases, results = world()
    plain = calibrate_model(info(), results, cases)
    extra = [
        replace(r, candidates=(*r.candidates, Candidate(r.seriesuid, (0.0, 90.0, 0.0), 0.99)))
        for r in results
    ]
    ignored = tuple(Nodule(r.seriesuid, (0.0, 90.0, 0.0), 8.0, "excluded") for r in results)
    same = calibrate_model(info(), extra, cases_of(cases.reference.nodules, ignored))
    assert same.info.calibration == plain.info.calibration
    assert same.info.operating_points == plain.info.operating_points
    other = calibrate_model(info(), extra, cases)
    assert other.record.false_marks == plain.record.false_marks + SCANS


@pytest.mark.parametrize(("outputs", "shift"), [("independent", (0.7,)), ("exclusive", (0.1, 0.8))])
def test_other_thresholds_keep_their_decisions(outputs: str, shift: tuple[float, ...]) -> None:
    old = info(
        outputs=outputs,
        calibration=Calibration((1.6,), shift),
        operating_points={CLASSIFICATION: OperatingPoint(0.37, "youden")},
    )
    cases, results = world()
    new = calibrate_model(old, results, cases).info
    line = torch.linspace(-8, 8, 401, dtype=torch.float64)[:, None]
    logits = torch.cat([torch.zeros_like(line), line], dim=1) if outputs == "exclusive" else line
    before, after = (
        calibrated_probability(logits, model)[:, -1]
        >= model.operating_points[CLASSIFICATION].threshold
        for model in (old, new)
    )
    assert torch.equal(before, after)
    assert 0 < before.sum() < 401
    assert new.operating_points[CLASSIFICATION].chosen_on == "validation"


def test_thresholds_that_all_or_none_reach_stay() -> None:
    cases, results = world()
    points = {"all": OperatingPoint(0.0, "r"), "none": OperatingPoint(1.5, "r")}
    new = calibrate_model(info(operating_points=points), results, cases).info
    assert {name: new.operating_points[name] for name in points} == points


def test_the_default_threshold_has_the_rate_that_was_asked_for() -> None:
    cases, results = world()
    point = calibrate_model(info(), results, cases, fp_per_scan=3.0).info.operating_points
    assert point[WHOLE_SCAN].fp_per_scan == pytest.approx(3.0, abs=1 / SCANS)
    assert set(point) == {WHOLE_SCAN, "whole-scan@1", "whole-scan@2", "whole-scan@4"}


def test_scans_that_were_not_analysed_do_not_lower_the_rates() -> None:
    cases, results = world()
    half = [
        replace(r, candidates=(), status="not_analysed", reasons=("dark",)) if n % 2 else r
        for n, r in enumerate(results)
    ]
    made = calibrate_model(info(), half, cases)
    assert made.record.scans == SCANS // 2
    assert made.info.operating_points["whole-scan@2"].fp_per_scan == pytest.approx(2, abs=0.01)
    assert "100 of 200 scans could not be analysed" in made.record.warnings[0]


@pytest.mark.parametrize(
    ("scores", "words"), [((), "0 of 1 nodules"), ((0.5,), "1 of 1 nodules have a mark, 0 marks")]
)
def test_marks_of_one_kind_are_refused(scores: tuple[float, ...], words: str) -> None:
    marks = tuple(Candidate("s0", (0.0, 0.0, 0.0), score) for score in scores)
    cases = cases_of((Nodule("s0", (0.0, 0.0, 0.0), 6.0),))
    with pytest.raises(SeriesError, match="cannot be calibrated") as refused:
        calibrate_model(info(), [CaseResult("s0", marks, "analysed")], cases)
    assert words in refused.value.reasons[0]


def test_if_no_scan_was_analysed_all_reasons_are_given() -> None:
    cases, results = world()
    dark = [replace(r, candidates=(), status="not_analysed", reasons=("dark",)) for r in results]
    with pytest.raises(SeriesError, match="no scan could be analysed") as refused:
        calibrate_model(info(), dark, cases)
    assert refused.value.reasons[0] == "s0: dark"


def test_scores_that_rank_the_wrong_way_give_a_warning() -> None:
    cases, results = world()
    turned = [
        replace(r, candidates=tuple(replace(m, score=1 - m.score) for m in r.candidates))
        for r in results
    ]
    made = calibrate_model(info(), turned, cases)
    assert nodule_scaling(made.info).temperature > 0
    assert "hardly distinguish nodules from false marks" in made.record.warnings[-1]
