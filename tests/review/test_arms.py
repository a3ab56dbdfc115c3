"""What each arm of a RUN says about a place."""

from medkd.review.arms import arm_scores, nearest_mark
from medkd.review.cases import NO_MARKS, CaseMarks, number_marks
from medkd.types import Candidate

MARKS = number_marks(
    Candidate("s", (x_mm, 0.0, 0.0), score) for x_mm, score in ((2.0, 0.4), (5.0, 0.9), (40.0, 0.7))
)


def test_the_nearest_mark_counts_not_the_one_with_the_highest_score():
    found = nearest_mark(MARKS, (0.0, 0.0, 0.0), within_mm=6.0)
    assert found is not None
    assert found.candidate.score == 0.4


def test_a_mark_on_the_radius_counts_and_one_beyond_does_not():
    assert nearest_mark(MARKS, (42.0, 0.0, 0.0), within_mm=2.0) is not None
    assert nearest_mark(MARKS, (42.1, 0.0, 0.0), within_mm=2.0) is None


def test_no_mark_here_and_a_scan_that_was_not_searched_are_two_things():
    arms = {
        "student": CaseMarks(MARKS, "whole-scan"),
        "teacher": CaseMarks((), "whole-scan"),
        "control": NO_MARKS,
    }
    words = arm_scores(arms, (0.0, 0.0, 0.0), within_mm=4.0)
    assert words == "student 0.400, teacher none, control not searched"
