"""The places on which readers differ, and the adjudicator's decision as the reference."""

from dataclasses import replace

from medkd.review.adjudication import (
    SILENT,
    describe_opinion,
    find_differences,
    ruling_verdict,
)
from medkd.review.consensus import find_consensus
from medkd.review.decision import WHOLE_CASE, Decision
from medkd.review.store import open_store

PLACE = (10.0, -20.5, 30.0)
NEAR = (11.0, -20.5, 30.0)
FAR = (60.0, 0.0, 80.0)


def history(*rows):
    """Number (reader, mark, verdict, place) rows on one scan as a store does."""
    return [
        Decision("scan-1", mark, reader, verdict, number=n, center_mm=place,
                 diameter_mm=6.0 if place else None)
        for n, (reader, mark, verdict, place) in enumerate(rows, start=1)
    ]  # fmt: skip


def told(found):
    return [(one.shown.mark_id, one.ruling, [(o.reader, o.vote) for o in one.opinions])
            for one in found]  # fmt: skip


def test_opposite_decisions_on_a_mark_are_a_difference():
    rows = history(
        ("anna", "at_1", "accept", PLACE),
        ("ben", "at_1", "reject", PLACE),
        ("anna", "at_2", "accept", FAR),
        ("ben", "at_2", "accept", FAR),
    )
    found = find_differences(rows, "chief")
    assert told(found) == [("at_1", None, [("anna", 1), ("ben", 0)])]
    assert found[0].shown == Decision(
        "scan-1", "at_1", "chief", "undecided", center_mm=PLACE, diameter_mm=6.0
    )


def test_a_nodule_that_one_reader_added_and_the_other_did_not_is_a_difference():
    added = ("anna", "added_1", "added", PLACE)
    assert find_differences(history(added, ("ben", "at_2", "accept", FAR)), "chief") == []
    found = find_differences(history(added, ("ben", WHOLE_CASE, "reviewed", None)), "chief")
    assert told(found) == [("added_1", None, [("anna", 1), ("ben", None)])]
    assert [describe_opinion(o) for o in found[0].opinions] == ["added", SILENT]


def test_marks_and_added_nodules_of_one_place_are_one_difference():
    rows = history(("anna", "at_1", "reject", PLACE), ("ben", "added_1", "added", NEAR))
    assert told(find_differences(rows, "chief")) == [("at_1", None, [("anna", 0), ("ben", 1)])]


def test_places_that_nobody_took_for_a_nodule_are_no_difference():
    rows = history(("anna", "at_1", "reject", PLACE), ("ben", WHOLE_CASE, "reviewed", None))
    assert find_differences(rows, "chief") == []


def test_the_adjudicators_own_decisions_make_no_difference():
    rows = history(("anna", "at_1", "reject", PLACE), ("chief", "at_1", "accept", PLACE))
    assert find_differences(rows, "chief") == []


def test_readers_who_differ_on_an_image_differ_on_the_whole():
    rows = history(("anna", WHOLE_CASE, "accept", None), ("ben", WHOLE_CASE, "reject", None))
    assert told(find_differences(rows, "chief")) == [(WHOLE_CASE, None, [("anna", 1), ("ben", 0)])]


def test_differences_are_numbered_from_the_head_downwards():
    rows = history(*((reader, mark, verdict, place)
                     for mark, place in (("at_1", PLACE), ("at_2", FAR))
                     for reader, verdict in (("anna", "accept"), ("ben", "reject"))))  # fmt: skip
    found = find_differences(rows, "chief")
    assert [(one.number, one.shown.mark_id) for one in found] == [(1, "at_2"), (2, "at_1")]


def test_the_adjudicators_decision_on_an_added_nodule_becomes_the_reference(tmp_path):
    store = open_store(tmp_path / "review.sqlite")
    for row in history(("anna", "added_1", "added", PLACE), ("ben", "case", "reviewed", None)):
        store.add(row)
    for verdict, joined, ruling in (
        ("reject", [("rejected", ("chief",))], 0),
        ("accept", [("added", ("chief",))], 1),
        ("undecided", [("added", ("anna",))], None),
    ):
        shown = find_differences(store.history(), "chief")[0].shown
        assert store.change(shown, "verdict", ruling_verdict(shown, verdict)).saved
        found = find_consensus(store.history(), adjudicator="chief")
        assert [(mark.verdict, mark.readers) for mark in found.marks] == joined
        assert find_differences(store.history(), "chief")[0].ruling == ruling
    store.close()


def test_a_decision_of_the_adjudicator_as_a_reader_is_the_one_that_is_changed():
    rows = history(
        ("anna", "at_1", "accept", PLACE),
        ("ben", "at_1", "reject", PLACE),
        ("chief", "added_9", "added", NEAR),
    )
    found = find_differences(rows, "chief")
    assert (found[0].shown, found[0].ruling) == (rows[2], 1)
    cleared = replace(rows[2], number=4, verdict="undecided")
    assert find_differences([*rows, cleared], "chief")[0].ruling is None
