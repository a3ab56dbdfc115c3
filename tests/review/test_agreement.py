"""Agreement of readers: kappa by hand, and each reader's point in the FROC plot."""

import pytest

from medkd.review.agreement import find_agreement, find_reader_points, study_readers
from medkd.review.decision import WHOLE_CASE, Decision
from medkd.types import Nodule, Reference


def decide(reader, case_id, verdict, x, *, mark=None, diameter=6.0):
    return Decision(case_id, mark or f"at_{x}", reader, verdict, center_mm=(float(x), 0.0, 0.0),
                    diameter_mm=diameter)  # fmt: skip


def verdicts(first, second):
    """Let anna and ben decide on marks 100 mm apart, two a case; "." is undecided."""
    words = {"y": "accept", "n": "reject", ".": "undecided"}
    return [
        decide(reader, f"scan-{n // 2}", words[letter], 100 * n)
        for reader, letters in (("anna", first), ("ben", second))
        for n, letter in enumerate(letters)
    ]


def test_kappa_is_that_of_the_four_counts():
    # Both yes 4, anna alone 1, ben alone 2, both no 3: agreement .7; chance .5 * .6 + .5 * .4 = .5.
    [pair] = find_agreement(verdicts("yyyyynnnnn", "yyyynyynnn"))
    counts = (pair.both_yes, pair.only_first_yes, pair.only_second_yes, pair.both_no)
    assert counts == (4, 1, 2, 3)
    assert pair.kappa.value == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert pair.kappa.interval.low <= pair.kappa.value <= pair.kappa.interval.high
    assert pair.agreed == pytest.approx(0.7)


def test_only_marks_that_both_decided_count():
    [pair] = find_agreement(verdicts("yn.y", "yny."), bootstrap=0)
    assert (pair.places, pair.only_first, pair.only_second) == (2, 1, 1)
    assert pair.kappa.value == 1.0
    assert pair.kappa.interval is None


@pytest.mark.parametrize(("first", "second"), [("yy", "yy"), ("yy", ".."), ("y.", ".n")])
def test_kappa_is_not_defined_without_shared_marks_or_with_one_answer(first, second):
    assert all(pair.kappa is None for pair in find_agreement(verdicts(first, second)))


def test_a_nodule_that_both_added_is_one_place_on_which_they_agree():
    history = [
        decide("anna", "s", "added", 0, mark="added_a"),
        decide("ben", "s", "added", 2, mark="added_b"),
        decide("anna", "s", "added", 50, mark="added_c"),
    ]
    [pair] = find_agreement(history)
    assert (pair.both_yes, pair.only_first, pair.places) == (1, 1, 1)


def test_every_two_readers_are_compared_and_one_alone_is_not():
    history = [decide(name, "s", "accept", 0) for name in ("carl", "anna", "ben")]
    pairs = [(pair.first, pair.second) for pair in find_agreement(history)]
    assert pairs == [("anna", "ben"), ("anna", "carl"), ("ben", "carl")]
    assert find_agreement(history[:1]) == []


def test_a_readers_point_counts_the_finished_scans_alone():
    nodules = tuple(Nodule(f"s{n}", (0.0, 0.0, 0.0), 8.0) for n in range(3))
    reference = Reference(nodules, (), ("s0", "s1", "s2", "s3"))
    history = [
        decide("anna", "s0", "accept", 3),  # inside the radius of 4 mm
        decide("anna", "s1", "accept", 5),  # outside
        decide("anna", "s2", "accept", 0),  # not finished
        decide("anna", "s3", "added", 40, mark="added_a"),
        decide("anna", "s3", "reject", 80),
        *(Decision(f"s{n}", WHOLE_CASE, "anna", "reviewed") for n in (0, 1, 3)),
    ]
    [point] = find_reader_points(history, reference)
    assert (point.scans, point.nodules) == (3, 2)
    assert (point.sensitivity, point.fp_per_scan) == (0.5, pytest.approx(2 / 3))


def test_a_study_has_the_points_and_the_agreement_of_all_readers():
    history = [
        *(decide(name, "s", "accept", 0) for name in ("anna", "ben")),
        Decision("s", WHOLE_CASE, "anna", "reviewed"),
    ]
    reference = Reference((Nodule("s", (0.0, 0.0, 0.0), 6.0),), (), ("s",))
    study = study_readers(history, reference)
    assert [(point.reader, point.sensitivity) for point in study.points] == [("anna", 1.0)]
    assert [(pair.first, pair.second, pair.both_yes) for pair in study.pairs] == [
        ("anna", "ben", 1)
    ]
