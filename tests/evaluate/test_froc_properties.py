"""What holds of FROC for any marks: small random worlds on a millimetre grid, with many ties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkd.evaluate.froc import choose_froc_operating_point, evaluate_froc
from medkd.types import Candidate, FrocResult, Nodule, Point, Reference
from tests.oracles import score_froc

UIDS = ("a", "b", "c")
few = settings(max_examples=60, deadline=None)

# Whole millimetres: distances at exactly the radius are frequent.
places = st.tuples(*[st.integers(-4, 4).map(float)] * 3)
uids = st.sampled_from(UIDS)
diameters = st.sampled_from([-1.0, 2.0, 4.0, 6.0])
scores = st.integers(0, 6).map(lambda step: step / 8)


def spheres(counts_as: str) -> st.SearchStrategy[Nodule]:
    return st.builds(Nodule, uids, places, diameters, st.just(counts_as))


@st.composite
def many_marks(draw: st.DrawFn) -> list[Candidate]:
    """Up to 8 places, each marked up to 60 times: the cap of 100 is reached, with ties."""
    distinct = draw(st.lists(st.builds(Candidate, uids, places, scores), max_size=8))
    return [mark for mark in distinct for _ in range(draw(st.integers(1, 60)))]


marks = st.lists(st.builds(Candidate, uids, places, scores), max_size=12)
references = st.builds(
    lambda nodules, excluded: Reference(tuple(nodules), tuple(excluded), UIDS),
    st.lists(spheres("included"), max_size=5),
    st.lists(spheres("excluded"), max_size=4),
)


def score(found: list[Candidate], truth: Reference) -> FrocResult:
    return evaluate_froc(found, truth, track="test", bootstrap=0)


def numbers(result: FrocResult) -> FrocResult:
    return replace(result, warnings=())


@few
@given(st.one_of(marks, many_marks()), references)
def test_any_world_scores_as_the_slow_oracle_says(found, truth):
    result, oracle = score(found, truth), score_froc(found, truth)

    for name in (
        "candidates", "true_positives", "false_positives", "false_negatives",
        "ignored_excluded", "ignored_double",
    ):  # fmt: skip
        assert getattr(result, name) == getattr(oracle, name), name
    assert list(result.sensitivity_at.values()) == pytest.approx(oracle.interpolated(), abs=1e-9)
    assert result.cpm_nearest == pytest.approx(np.mean(oracle.nearest()), abs=1e-9)


def turn(place: Point) -> Point:
    """A quarter turn about z: exact on whole millimetres."""
    return (-place[1], place[0], place[2])


@few
@given(marks, references)
def test_rotating_scan_and_marks_together_changes_nothing(found, truth):
    turned = replace(
        truth,
        nodules=tuple(replace(n, center_mm=turn(n.center_mm)) for n in truth.nodules),
        excluded=tuple(replace(n, center_mm=turn(n.center_mm)) for n in truth.excluded),
    )

    assert score([replace(m, center_mm=turn(m.center_mm)) for m in found], turned) == score(
        found, truth
    )


@few
@given(marks, references, st.randoms(use_true_random=False))
def test_the_order_of_marks_nodules_and_series_changes_nothing(found, truth, random):
    def shuffled(values):
        return tuple(random.sample(list(values), len(values)))

    moved = Reference(shuffled(truth.nodules), shuffled(truth.excluded), shuffled(truth.seriesuids))

    first = evaluate_froc(found, truth, track="test", bootstrap=20)
    second = evaluate_froc(list(shuffled(found)), moved, track="test", bootstrap=20)

    assert numbers(first) == numbers(second)


@few
@given(marks, references, uids, scores)
def test_a_further_false_positive_never_raises_sensitivity(found, truth, uid, new_score):
    far = Candidate(uid, (500.0, 0.0, 0.0), new_score)

    before, after = score(found, truth), score([*found, far], truth)

    for rate, sensitivity in before.sensitivity_at.items():
        assert after.sensitivity_at[rate] <= sensitivity + 1e-12


@few
@given(marks, references)
def test_a_scan_without_nodules_or_marks_never_lowers_sensitivity(found, truth):
    wider = replace(truth, seriesuids=(*truth.seriesuids, "empty"))

    before, after = score(found, truth), score(found, wider)

    for rate, sensitivity in before.sensitivity_at.items():
        assert after.sensitivity_at[rate] >= sensitivity - 1e-12


@few
@given(marks, references)
def test_only_the_order_of_scores_matters(found, truth):
    stretched = [replace(mark, score=mark.score**3 - 5.0) for mark in found]

    first, second = score(found, truth), score(stretched, truth)

    assert first.sensitivity == second.sensitivity
    assert first.fp_per_scan == second.fp_per_scan


@few
@given(st.one_of(marks, many_marks()), references, scores)
def test_a_threshold_scores_as_leaving_lower_marks_away(found, truth, threshold):
    whole = evaluate_froc(found, truth, track="test", threshold=threshold, bootstrap=0)
    kept = score([mark for mark in found if mark.score >= threshold], truth)

    point = whole.at_operating_point
    assert (point.true_positives, point.false_positives, point.false_negatives) == (
        kept.true_positives, kept.false_positives, kept.false_negatives,
    )  # fmt: skip


@few
@given(marks, references, st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_the_chosen_operating_point_keeps_its_promise(found, truth, rate):
    point = choose_froc_operating_point(found, truth, fp_per_scan=rate)

    there = evaluate_froc(found, truth, track="test", threshold=point.threshold, bootstrap=0)
    assert there.at_operating_point.fp_per_scan == pytest.approx(point.fp_per_scan)
    assert there.at_operating_point.fp_per_scan <= rate
    assert there.at_operating_point.sensitivity.value == pytest.approx(point.sensitivity)


@few
@given(marks, references)
def test_the_curve_rises_and_stays_within_its_bounds(found, truth):
    result = score(found, truth)

    assert (np.diff(result.fp_per_scan) >= 0).all()
    assert (np.diff(result.sensitivity) >= 0).all()
    assert 0.0 <= result.cpm_nearest <= 1.0
    assert 0.0 <= result.cpm_interpolated <= 1.0
