"""Every rule and oddity of LUNA16's script that concerns scoring, by hand-countable cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medkd.evaluate.froc import (
    VARIANT,
    choose_froc_operating_point,
    evaluate_froc,
    froc_difference,
)
from medkd.evaluate.intervals import draw_weights, interval_of
from medkd.types import CPM_RATES, Candidate, FrocResult, Reference
from tests.evaluate.places import finding, mark, nodule, reference
from tests.oracles import score_froc


def score(marks: list[Candidate], truth: Reference, **options) -> FrocResult:
    """Score without bootstrap and compare with the oracle on the way."""
    result = evaluate_froc(marks, truth, track="test", bootstrap=0, **options)
    oracle = score_froc(marks, truth)
    for name in (
        "candidates", "true_positives", "false_positives", "false_negatives",
        "ignored_excluded", "ignored_double", "nodules", "scans",
    ):  # fmt: skip
        assert getattr(result, name) == getattr(oracle, name), name
    assert list(result.sensitivity_at.values()) == pytest.approx(oracle.interpolated(), abs=1e-12)
    assert result.cpm_interpolated == pytest.approx(np.mean(oracle.interpolated()), abs=1e-12)
    assert result.cpm_nearest == pytest.approx(np.mean(oracle.nearest()), abs=1e-12)
    return result


def test_scans_without_nodules_count_in_the_denominator():
    # One false positive in "b"; 4 scans: the curve ends at 1/4 a scan.
    result = score([mark("a", 0, 0.9), mark("b", 50, 0.5)], reference(nodule("a", 0), uids="abcd"))

    assert result.scans == 4
    assert result.fp_per_scan[-1] == 0.25


def test_of_more_than_100_marks_those_above_the_101st_score_stay():
    marks = [mark("a", 100.0 + i, 1.0 - i / 1000) for i in range(150)]

    assert score(marks, reference(nodule("a", 0))).candidates == 100


def test_ties_with_the_101st_mark_all_go():
    # 98 above, then 5 equal ones: the 101st is one of the five, so 98 stay.
    marks = [mark("a", 100.0 + i, 0.9) for i in range(98)]
    marks += [mark("a", 300.0 + i, 0.5) for i in range(5)]

    assert score(marks, reference(nodule("a", 0))).candidates == 98


def test_101_equal_scores_keep_nothing():
    marks = [mark("a", 0, 0.9)] * 101

    result = score(marks, reference(nodule("a", 0)))

    assert (result.candidates, result.true_positives) == (0, 0)


def test_exactly_100_marks_stay_whatever_their_ties():
    assert score([mark("a", 0, 0.9)] * 100, reference(nodule("a", 0))).candidates == 100


def test_an_excluded_finding_of_unknown_diameter_ignores_marks_within_5_mm():
    truth = reference(nodule("a", 100), excluded=(finding("a", 0, -1.0),))

    result = score([mark("a", 4.99, 0.9), mark("a", 5.0, 0.8)], truth)

    assert (result.ignored_excluded, result.false_positives) == (1, 1)


def test_a_mark_exactly_on_the_radius_misses():
    truth = reference(nodule("a", 0, diameter=8.0))

    assert score([mark("a", 4.0, 0.9)], truth).true_positives == 0
    assert score([mark("a", np.nextafter(4.0, 0), 0.9)], truth).true_positives == 1


def test_further_marks_in_a_found_nodule_are_ignored():
    result = score([mark("a", x, 0.9 - x / 10) for x in range(4)], reference(nodule("a", 0)))

    assert (result.true_positives, result.ignored_double, result.false_positives) == (1, 3, 0)


def test_the_best_mark_of_a_nodule_gives_its_score():
    marks = [mark("a", 1, 0.2), mark("a", 0, 0.7), mark("a", 50, 0.5)]

    result = score(marks, reference(nodule("a", 0)))

    # Were .2 the nodule's score, the false positive at .5 would come first.
    assert result.sensitivity_at["0.125"] == 1.0


def test_a_mark_in_two_nodules_counts_for_both_and_warns():
    truth = reference(nodule("a", 0), nodule("a", 2))

    result = score([mark("a", 1, 0.9)], truth)

    assert (result.true_positives, result.ignored_double) == (2, 0)
    assert any("two or more included nodules" in warning for warning in result.warnings)


def test_a_mark_in_a_nodule_and_an_excluded_finding_is_the_nodules():
    truth = reference(nodule("a", 0), excluded=(finding("a", 0),))

    result = score([mark("a", 1, 0.9)], truth)

    assert (result.true_positives, result.ignored_excluded) == (1, 0)


def test_a_mark_in_two_excluded_findings_is_ignored_once():
    truth = reference(nodule("a", 90), excluded=(finding("a", 0), finding("a", 1)))

    result = score([mark("a", 0, 0.9)], truth)

    assert (result.ignored_excluded, result.false_positives) == (1, 0)


def test_missed_nodules_stay_in_the_denominator_only():
    result = score([mark("a", 0, 0.9)], reference(nodule("a", 0), nodule("a", 90)))

    assert result.false_negatives == 1
    assert result.sensitivity == (0.0, 0.5)


def test_the_nearest_reading_takes_the_first_of_equally_near_points():
    marks = [mark("a", 0, 0.9), *[mark("a", 90, 0.8)] * 2, mark("b", 0, 0.7)]
    marks += [mark("c", 90, s / 100) for s in range(60)]
    truth = reference(nodule("a", 0), nodule("b", 0), uids="abcdefgh")

    result = score(marks, truth)

    # Points: (0, 0) (0, 1/2) (2, 1/2) (2, 1) (62, 1), those between dropped as evenly spaced.
    # The rates are 1 2 4 8 16 32 64 marks: the first of four, five times (2, 1/2), the last.
    assert result.cpm_nearest == pytest.approx((0.0 + 5 * 0.5 + 1.0) / 7, abs=1e-12)


def test_the_nearest_reading_is_not_the_next_point():
    # 8 scans; points at 0, 3 and 60 false positives: rate 1/8 is nearer to 0, the next is 3.
    marks = [mark("a", 0, 0.9), *[mark("a", 90, 0.8)] * 3, mark("b", 0, 0.8)]
    marks += [mark("c", 90, 0.1)] * 60
    truth = reference(nodule("a", 0), nodule("b", 0), uids="abcdefgh")

    # Rate 1/8 (1 of 8 scans): (0, 0) is the first nearest; from 1/4 (2) on (3, 1) is nearer.
    assert score(marks, truth).cpm_nearest == pytest.approx(6 / 7, abs=1e-12)


def test_a_curve_without_false_positives_reads_its_end_or_nothing():
    result = score([mark("a", 0, 0.9)], reference(nodule("a", 0)))

    assert (result.cpm_interpolated, result.cpm_nearest) == (1.0, 0.0)
    assert any("curve ends at 0.000" in warning for warning in result.warnings)


def test_without_true_positives_the_score_is_zero():
    result = score([mark("a", 50, 0.9)], reference(nodule("a", 0)))

    assert (result.cpm_interpolated, result.cpm_nearest) == (0.0, 0.0)
    assert (result.fp_per_scan, result.sensitivity) == ((0.0,), (0.0,))
    assert "no mark hits a nodule: sensitivity and CPM are 0" in result.warnings
    assert not any("curve ends" in warning for warning in result.warnings)


def test_without_any_mark_the_score_is_zero():
    result = score([], reference(nodule("a", 0), uids="ab"))

    assert (result.candidates, result.false_negatives, result.cpm_interpolated) == (0, 1, 0.0)


def test_without_any_nodule_the_score_is_zero_and_warns():
    result = score([mark("a", 0, 0.9)], reference())

    assert result.cpm_interpolated == 0.0
    assert any("no nodule" in warning for warning in result.warnings)


def test_a_series_without_marks_counts_its_nodules_as_missed():
    result = score([mark("a", 0, 0.9)], reference(nodule("a", 0), nodule("b", 0), uids="ab"))

    assert (result.true_positives, result.false_negatives) == (1, 1)


def test_marks_of_unknown_series_are_reported_and_not_scored():
    result = score([mark("a", 0, 0.9), mark("z", 0, 0.9)], reference(nodule("a", 0)))

    assert result.candidates == 1
    assert result.warnings[0].startswith("1 marks of 1 series outside the list")


def test_nodules_of_unknown_series_are_reported_and_not_scored():
    result = score([mark("a", 0, 0.9)], reference(nodule("a", 0), nodule("z", 0)))

    assert result.nodules == 1
    assert result.warnings[0].startswith("1 nodules of series outside the list")


def test_repeated_rows_of_marks_each_count_and_warn():
    result = score([mark("a", 50, 0.9)] * 3, reference(nodule("a", 0)))

    assert (result.candidates, result.false_positives) == (3, 3)
    assert any(w.startswith("2 rows of marks repeat") for w in result.warnings)


def test_a_mark_in_ras_misses_what_it_hits_in_lps():
    truth = Reference((replace(nodule("a", 0), center_mm=(-60.0, -40.0, -200.0)),), (), ("a",))

    assert score([mark("a", 0, 0.9, at=(-60.0, -40.0, -200.0))], truth).true_positives == 1
    assert score([mark("a", 0, 0.9, at=(60.0, 40.0, -200.0))], truth).true_positives == 0


def test_an_included_nodule_without_diameter_reads_as_10_mm_and_warns():
    result = score([mark("a", 4.9, 0.9)], reference(nodule("a", 0, diameter=-1.0)))

    assert result.true_positives == 1
    assert any("no valid diameter" in warning for warning in result.warnings)


def test_equal_scores_make_one_point():
    marks = [mark("a", 0, 0.5), mark("a", 50, 0.5), mark("a", 60, 0.5)]

    result = score(marks, reference(nodule("a", 0)))

    assert result.fp_per_scan == (0.0, 2.0)
    assert result.sensitivity_at["1"] == 0.5  # half way between (0, 0) and (2, 1)


def test_the_thresholds_are_finite_and_fall():
    thresholds = score(
        [mark("a", 0, 0.5), mark("a", 50, 0.4)], reference(nodule("a", 0))
    ).thresholds

    assert np.isfinite(thresholds).all()
    assert (np.diff(thresholds) < 0).all()


def test_the_frozen_threshold_scores_marks_at_or_above_it():
    marks = [mark("a", 0, 0.5), mark("a", 50, 0.5), mark("b", 0, 0.4), mark("b", 50, 0.3)]
    truth = reference(nodule("a", 0), nodule("b", 0), uids="abcd")

    point = score(marks, truth, threshold=0.5).at_operating_point

    assert (point.true_positives, point.false_positives, point.false_negatives) == (1, 1, 1)
    assert point.sensitivity.value == 0.5
    assert point.precision.value == 0.5
    assert point.f1.value == 0.5
    assert point.fp_per_scan == 0.25


def test_a_threshold_above_all_marks_gives_zero_and_not_nan():
    point = score([mark("a", 0, 0.5)], reference(nodule("a", 0)), threshold=0.6).at_operating_point

    assert (point.sensitivity.value, point.precision.value, point.f1.value) == (0.0, 0.0, 0.0)


def test_the_operating_point_is_the_lowest_threshold_within_the_rate():
    marks = [mark("a", 0, 0.9), mark("a", 50, 0.8), mark("b", 0, 0.7), mark("b", 50, 0.6)]
    truth = reference(nodule("a", 0), nodule("b", 0), uids="ab")

    point = choose_froc_operating_point(marks, truth, fp_per_scan=0.5)

    assert (point.threshold, point.sensitivity, point.fp_per_scan) == (0.7, 1.0, 0.5)


def test_an_operating_point_that_no_mark_allows_stands_above_all_scores():
    point = choose_froc_operating_point(
        [mark("a", 50, 0.9), mark("a", 0, 0.9)], reference(nodule("a", 0)), fp_per_scan=0.5
    )

    assert point.threshold > 0.9
    assert (point.sensitivity, point.fp_per_scan) == (0.0, 0.0)


def test_bootstrap_bounds_are_the_floor_indexed_percentiles_of_resampled_scans():
    marks = [mark(uid, 0, 0.9 - i / 10) for i, uid in enumerate("abc")]
    marks += [mark(uid, 50 + x, (x % 7) / 8) for uid in "abd" for x in range(9)]
    truth = reference(*[nodule(uid, 0) for uid in "abcd"], nodule("a", 90), uids="abcd")

    result = evaluate_froc(marks, truth, track="test", bootstrap=40, seed=3)

    cpms = []
    for weights in draw_weights(4, resamples=40, seed=3):
        times = {uid: int(w) for uid, w in zip("abcd", weights, strict=True)}
        cpms.append(np.mean(score_froc(marks, truth, times).interpolated()))
    assert result.interval.low == pytest.approx(sorted(cpms)[1], abs=1e-12)  # floor(.025 * 40)
    assert result.interval.high == pytest.approx(sorted(cpms)[39], abs=1e-12)
    assert result.cpm_bootstrap_mean == pytest.approx(np.mean(cpms), abs=1e-12)


def test_bootstrap_by_patient_draws_all_series_of_a_patient_together():
    # Each patient has a found and a missed nodule: every resample finds half, whoever is drawn.
    truth = replace(
        reference(*[nodule(uid, 0) for uid in "abcd"], uids="abcd"),
        patients={"a": "p", "b": "p", "c": "q", "d": "q"},
    )
    marks = [mark("a", 0, 0.9), mark("c", 0, 0.8)]

    interval = evaluate_froc(marks, truth, track="test", bootstrap=50).interval

    assert (interval.low, interval.high, interval.unit) == (0.5, 0.5, "patient")


def test_bootstrap_without_any_mark_or_nodule_in_a_resample_does_not_crash():
    truth = reference(nodule("a", 0), uids="abcdef")

    result = evaluate_froc([mark("a", 0, 0.9)], truth, track="test", bootstrap=100)

    assert result.interval.resamples < 100  # those without a nodule are left out
    assert evaluate_froc([], truth, track="test", bootstrap=20).interval.high == 0.0


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    marks = [mark(uid, 50 * (i % 2), i / 20) for i, uid in enumerate("abcdefghijklmnop")]
    truth = reference(*[nodule(uid, 0) for uid in "abcdefghijklmnop"], uids="abcdefghijklmnop")

    first, again, other = (
        evaluate_froc(marks, truth, track="test", bootstrap=100, seed=seed).interval
        for seed in (0, 0, 1)
    )

    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_a_resample_that_outruns_the_shortened_curve_uses_all_of_it():
    # The highest 100 false positives are in "a", and nodules come after the 128 kept at first:
    # only a resample without "a", read to the end, finds them before 8 false positives a scan.
    uids = "abcdefgh"
    marks = [mark("a", 50 + i, 0.99 - i / 1000) for i in range(100)]
    marks += [mark(uid, 50 + i, 0.5 - i / 1000) for uid in uids[1:] for i in range(40)]
    marks += [mark(uid, 0, 0.4955) for uid in uids]
    truth = reference(*[nodule(uid, 0) for uid in uids], uids=uids)

    result = evaluate_froc(marks, truth, track="test", bootstrap=30, seed=1)

    eights = []
    for weights in draw_weights(len(uids), resamples=30, seed=1):
        times = {uid: int(w) for uid, w in zip(uids, weights, strict=True)}
        eights.append(score_froc(marks, truth, times).interpolated()[-1])
    interval = result.sensitivity_intervals["8"]
    assert max(eights) == 1.0
    assert (interval.low, interval.high) == pytest.approx((min(eights), max(eights)), abs=1e-12)


def test_a_difference_of_two_arms_draws_the_same_scans_for_both():
    uids = "abcdefghijkl"
    truth = reference(*(nodule(uid, 0.0) for uid in uids), uids=uids)
    every = [mark(uid, 0.0, 0.9) for uid in uids]
    half = every[::2]
    found = froc_difference(every, half, truth, bootstrap=400, seed=3)
    assert found.estimate.value == pytest.approx(0.5)
    missed = draw_weights(12, resamples=400, seed=3)[:, 1::2].sum(axis=1) / 12
    interval = found.estimate.interval
    expected = interval_of(missed, seed=3, unit="series")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert found.p_value < 0.01
    back = froc_difference(half, every, truth, bootstrap=400, seed=3)
    assert back.estimate.value == -found.estimate.value
    same = froc_difference(every, every, truth, bootstrap=400)
    assert (same.estimate.interval.low, same.estimate.interval.high, same.p_value) == (0, 0, 1.0)
    assert froc_difference(every, half, truth, bootstrap=0).estimate.interval is None


def test_every_variant_is_named_in_words():
    assert {"hit", "assignment", "ignored", "cap", "cpm_interpolated", "cpm_nearest"} <= set(
        VARIANT
    )
    assert len(CPM_RATES) == 7


@pytest.mark.parametrize(
    ("marks", "truth", "words"),
    [
        ([], Reference((), (), ()), "no series to score"),
        ([], Reference((), (), ("a", "a")), "listed twice"),
        ([mark("a", 0, float("nan"))], reference(), "finite"),
        ([], replace(reference(uids="ab"), patients={"a": "p"}), "1 series have no patient"),
    ],
)
def test_what_cannot_be_scored_is_refused(marks, truth, words):
    with pytest.raises(ValueError, match=words):
        evaluate_froc(marks, truth, track="test", bootstrap=2)
