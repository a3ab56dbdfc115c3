"""The reading modes: what a reader sees, in which order, and which settings are refused."""

from dataclasses import replace

import pytest

from medkd.config.review_settings import ReaderSettings, ReviewSettings
from medkd.errors import SettingsError
from medkd.review.cases import HIDDEN_MARKS, CaseMarks, number_marks
from medkd.review.decision import FIRST_READ, WHOLE_CASE, Decision
from medkd.review.modes import (
    ReadingMode,
    Sight,
    check_mode,
    decisions_in_sight,
    list_cases,
    marks_in_sight,
    orders_of,
    read_mode,
    reference_in_sight,
    sight_of,
    write_mode,
)
from medkd.types import Candidate, RunCase

FIRST = RunCase("scan-a", "p1", "scan", "a.mhd", "test", None, 1, 0.9, "analysed")
CASES = [
    replace(FIRST, case_id="refused", score=None, status="not_analysed"),
    replace(FIRST, case_id="scan-c"),
    replace(FIRST, case_id="scan-a", score=0.5),
    replace(FIRST, case_id="scan-b", score=0.1),
]
SECOND_READER = ReadingMode("second-reader")
BLINDED = ReadingMode("blinded")
MARKS = {
    name: CaseMarks(
        number_marks(
            [Candidate(name, (1.0, 2.0, z), score, 6.0) for z, score in ((-9, 0.9), (5, 0.7))]
            + [Candidate(name, (1.0, 2.0, 0.0), 0.1, 6.0)]
        ),
        "detect",
    )
    for name in ("scan-a", "scan-b")
}


def names(cases):
    return [case.case_id for case in cases]


def test_the_usual_mode_changes_nothing():
    assert list_cases(CASES, ReadingMode()) == CASES
    assert marks_in_sight(MARKS, ReadingMode(), threshold=lambda source: 0.5) == MARKS


def test_a_second_reader_lists_by_case_id_and_knows_scores_of_finished_cases_alone():
    seen = list_cases(CASES, SECOND_READER, finished={"scan-b"})
    assert names(seen) == ["refused", "scan-a", "scan-b", "scan-c"]
    assert [(case.score, case.label) for case in seen] == [
        (None, None), (None, None), (0.1, 1), (None, None),
    ]  # fmt: skip


def test_marks_and_reference_are_hidden_until_the_first_read_is_finished():
    seen = marks_in_sight(MARKS, SECOND_READER, finished={"scan-b"})
    assert seen == {"scan-a": HIDDEN_MARKS, "scan-b": MARKS["scan-b"]}
    known = {"scan-a": "nodules", "scan-b": "none"}
    assert reference_in_sight(known, SECOND_READER, finished={"scan-b"}) == {"scan-b": "none"}


def test_decisions_on_hidden_marks_are_hidden_too():
    rows = [Decision("scan-a", mark, "anna", "accept")
            for mark in ("at_1.00_2.00_3.00", "added_1", WHOLE_CASE, FIRST_READ)]  # fmt: skip
    assert decisions_in_sight(rows, SECOND_READER) == rows[1:]
    assert decisions_in_sight(rows, SECOND_READER, finished={"scan-a"}) == rows
    scored = [replace(row, score=0.9) for row in rows]
    assert decisions_in_sight(scored, BLINDED) == rows


def test_a_blinded_reader_has_the_random_order_alone():
    assert orders_of(BLINDED, model_shown=False) == ("random",)
    assert "suspicion" not in orders_of(SECOND_READER, model_shown=False)


def test_blinded_marks_reach_the_threshold_and_tell_no_score():
    found = marks_in_sight(MARKS, BLINDED, threshold=lambda source: 0.5)["scan-a"].marks
    assert [(mark.number, mark.candidate.center_mm[2]) for mark in found] == [(1, 5), (2, -9)]
    assert [mark.mark_id for mark in found] == ["at_1.00_2.00_5.00", "at_1.00_2.00_-9.00"]
    assert {mark.score for mark in found} == {None}
    assert {mark.candidate.score for mark in found} == {0.0}


def test_a_blinded_reader_sees_no_marks_if_the_study_shows_none():
    hidden = ReadingMode("blinded", show_marks=False)
    assert marks_in_sight(MARKS, hidden) == {"scan-a": HIDDEN_MARKS, "scan-b": HIDDEN_MARKS}
    assert sight_of(hidden, first_read_finished=False) == Sight(False, False, False)


@pytest.mark.parametrize("mode", [ReadingMode(), SECOND_READER, ReadingMode("blinded", False)])
def test_the_app_receives_the_mode(mode):
    assert read_mode(write_mode(mode)) == mode


@pytest.mark.parametrize("text", ["blind", "blinded, no"])
def test_the_app_shows_nothing_in_a_mode_that_it_does_not_know(text):
    with pytest.raises(SettingsError, match="not known"):
        read_mode(text)


def test_a_blinded_study_is_adjudicated_with_the_same_settings():
    study = ReviewSettings(mode="blinded", show_marks=False,
                           readers=ReaderSettings(adjudicator="chief"))  # fmt: skip
    assert check_mode(study, "RUN") == ReadingMode("blinded", show_marks=False)
    after = study.model_copy(update={"mode": "adjudication"})
    assert check_mode(after, "RUN") == ReadingMode("adjudication")


@pytest.mark.parametrize(
    ("settings", "kind", "reason"),
    [
        ({"mode": "adjudication"}, "RUN", "readers.adjudicator"),
        ({"mode": "second-reader"}, "INDEX", "review the RESULTS"),
        ({"show_marks": False}, "RUN", "mode: blinded"),
        (
            {"mode": "adjudication",
             "readers": ReaderSettings(names=("anna", "ben"), adjudicator="chief")},
            "RUN", "add the name to readers.names",
        ),
    ],
)  # fmt: skip
def test_a_mode_that_is_not_possible_is_refused_with_the_remedy(settings, kind, reason):
    with pytest.raises(SettingsError, match=reason):
        check_mode(ReviewSettings(**settings), kind)
