"""What several readers decided together, and its exports."""

import csv
import io
import json

import pytest

from medkd.io.luna16_tables import read_annotations, write_annotations
from medkd.review.consensus import find_consensus
from medkd.review.decision import WHOLE_CASE, Decision
from medkd.review.export import consensus_json, consensus_nodules, decisions_csv

PLACE = (10.0, -20.5, 30.0)


def decisions(*rows):
    """Number (reader, mark, verdict, place, diameter) rows as a store does."""
    return [
        Decision("scan-1", mark, reader, verdict, number=n, center_mm=place, diameter_mm=diameter,
                 decided_at=f"2025-01-01T00:00:{n:02}.000+00:00")
        for n, (reader, mark, verdict, place, diameter) in enumerate(rows, start=1)
    ]  # fmt: skip


def verdicts(history, **options):
    return [(m.verdict, m.readers) for m in find_consensus(history, **options).marks]


def test_the_latest_decision_of_each_reader_counts():
    history = decisions(
        ("anna", "at_1", "accept", PLACE, 6.0),
        ("anna", "at_1", "reject", PLACE, 6.0),
        ("ben", "at_2", "accept", (0.0, 0.0, 0.0), 4.0),
        ("ben", "at_2", "undecided", (0.0, 0.0, 0.0), 4.0),
    )
    assert verdicts(history) == [("rejected", ("anna",))]


def test_more_readers_decide_and_a_tie_is_left_out():
    both = [("anna", "at_1", "accept", PLACE, 6.0), ("ben", "at_1", "reject", PLACE, 6.0)]
    tied = find_consensus(decisions(*both))
    assert (tied.marks, tied.disputed) == ((), {"scan-1": 1})
    third = ("carl", "at_1", "accept", PLACE, 6.0)
    assert verdicts(decisions(*both, third)) == [("accepted", ("anna", "carl"))]


def test_the_adjudicator_alone_decides_where_the_adjudicator_decided():
    history = decisions(
        ("anna", "at_1", "accept", PLACE, 6.0),
        ("ben", "at_1", "accept", PLACE, 6.0),
        ("eva", "at_1", "reject", PLACE, 6.0),
        ("anna", "at_2", "accept", (0.0, 0.0, 0.0), 4.0),
    )
    assert verdicts(history, adjudicator="eva") == [("rejected", ("eva",)), ("accepted", ("anna",))]


def test_one_nodule_that_two_readers_added_is_one():
    near = (PLACE[0] + 2.5, PLACE[1], PLACE[2])  # within the radius of the larger: 3 mm
    history = decisions(
        ("anna", "added_a", "added", PLACE, 6.0), ("ben", "added_b", "added", near, 4.0)
    )
    [mark] = find_consensus(history).marks
    assert (mark.verdict, mark.readers, mark.center_mm) == ("added", ("anna", "ben"), PLACE)


def test_two_nodules_that_one_reader_added_side_by_side_are_two():
    near = (PLACE[0] + 2.5, PLACE[1], PLACE[2])
    history = decisions(
        ("anna", "added_a", "added", PLACE, 6.0), ("anna", "added_b", "added", near, 4.0)
    )
    assert len(find_consensus(history).marks) == 2


def test_a_rejected_mark_beside_the_nodule_that_its_reader_added_is_no_negative():
    near = (PLACE[0] + 2.5, PLACE[1], PLACE[2])
    history = decisions(
        ("anna", "at_1", "reject", near, None), ("anna", "added_a", "added", PLACE, 6.0)
    )
    [mark] = find_consensus(history).marks
    assert (mark.verdict, mark.center_mm, mark.diameter_mm) == ("added", PLACE, 6.0)


def test_a_withdrawn_nodule_is_none():
    history = decisions(
        ("anna", "added_a", "added", PLACE, 6.0), ("anna", "added_a", "undecided", PLACE, 6.0)
    )
    assert find_consensus(history).marks == ()


def test_reviewed_cases_name_their_readers():
    history = decisions(
        ("ben", WHOLE_CASE, "reviewed", None, None), ("anna", WHOLE_CASE, "reviewed", None, None),
        ("carl", WHOLE_CASE, "reviewed", None, None), ("carl", WHOLE_CASE, "undecided", None, None),
    )  # fmt: skip
    assert find_consensus(history).reviewed == {"scan-1": ("anna", "ben")}


def test_accepted_and_added_marks_are_annotations_of_luna16(tmp_path):
    history = decisions(
        ("anna", "at_1", "accept", PLACE, 6.25),
        ("anna", "added_a", "added", (-1.5, 2.0, 3.125), 4.0),
        ("anna", "at_2", "reject", (9.0, 9.0, 9.0), 5.0),
    )
    write_annotations(tmp_path / "a.csv", consensus_nodules(find_consensus(history)))
    header = (tmp_path / "a.csv").read_text().splitlines()[0]
    assert header == "seriesuid,coordX,coordY,coordZ,diameter_mm"
    nodules = read_annotations(tmp_path / "a.csv")
    assert [(n.center_mm, n.diameter_mm) for n in nodules] == [
        (PLACE, 6.25), ((-1.5, 2.0, 3.125), 4.0),
    ]  # fmt: skip


def test_the_json_has_the_marks_and_every_decision():
    history = decisions(("anna", "at_1", "reject", PLACE, None))
    content = json.loads(consensus_json(find_consensus(history), history))
    assert content["marks"] == [
        {"seriesuid": "scan-1", "center_mm": list(PLACE), "diameter_mm": -1.0,
         "verdict": "rejected", "readers": ["anna"], "decided_at": "2025-01-01T00:00:01.000+00:00"}
    ]  # fmt: skip
    assert [d["mark_id"] for d in content["decisions"]] == ["at_1"]


def test_the_csv_has_diameter_undo_and_hash():
    [row] = csv.DictReader(
        io.StringIO(decisions_csv(decisions(("anna", "added_a", "added", PLACE, 6.5))))
    )
    assert (row["diameter_mm"], row["undoes"], row["hash"]) == ("6.5", "", "")


@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_decisions_on_whole_images_are_no_marks(verdict):
    assert find_consensus(decisions(("anna", WHOLE_CASE, verdict, None, None))).marks == ()


def on_image(*rows):
    """Number (reader, verdict) rows on one X-ray."""
    return [
        Decision("xray-1", WHOLE_CASE, reader, verdict, number=n, decided_at=f"2025-01-0{n}")
        for n, (reader, verdict) in enumerate(rows, start=1)
    ]


def images(history, **options):
    found = find_consensus(history, finding="Mass", **options)
    return [(i.case_id, i.finding, i.value, i.readers, i.decided_at) for i in found.images]


def test_a_finding_on_an_x_ray_is_decided_by_more_readers_and_a_tie_is_left_out():
    both = [("anna", "accept"), ("ben", "reject")]
    assert images(on_image(both[0])) == [("xray-1", "Mass", 1, ("anna",), "2025-01-01")]
    assert images(on_image(*both)) == []
    assert find_consensus(on_image(*both), finding="Mass").disputed == {"xray-1": 1}
    three = on_image(*both, ("carl", "reject"))
    assert images(three) == [("xray-1", "Mass", 0, ("ben", "carl"), "2025-01-03")]
    assert images(three, adjudicator="anna") == [("xray-1", "Mass", 1, ("anna",), "2025-01-01")]
    changed = on_image(*both, ("ben", "undecided"))
    assert images(changed) == [("xray-1", "Mass", 1, ("anna",), "2025-01-01")]


def test_decisions_on_x_rays_without_a_known_finding_are_only_counted():
    found = find_consensus(on_image(("anna", "accept")))
    assert (found.images, found.unnamed, found.disputed) == ((), 1, {})
    content = json.loads(consensus_json(found))
    assert (content["images"], content["unnamed"]) == ([], 1)
