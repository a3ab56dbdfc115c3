"""What the history of a reader tells: undo, added nodules, words."""

from medkd.review.history import describe_history, list_added, open_decisions
from medkd.review.store import Decision

PLACE = (1.0, 2.0, 3.0)
ROWS = [
    Decision("c", "added_1", "anna", "added", center_mm=PLACE, diameter_mm=5.0, number=1),
    Decision("c", "added_2", "anna", "added", center_mm=PLACE, diameter_mm=6.0, number=2),
    Decision("c", "added_1", "anna", "undecided", center_mm=PLACE, diameter_mm=5.0, number=3),
    Decision("c", "at_1", "anna", "accept", number=4),
    Decision("c", "at_1", "anna", "undecided", number=5, undoes=4),
]


def test_an_added_nodule_keeps_its_number_when_an_earlier_one_is_withdrawn():
    assert [(number, row.mark_id) for number, row in list_added(ROWS)] == [(2, "added_2")]


def test_an_undo_and_what_it_took_back_cannot_be_undone():
    assert [row.number for row in open_decisions(ROWS)] == [1, 2, 3]


def test_each_line_says_what_its_decision_changed():
    when = "2026-01-31T09:30:05.123+00:00"
    nodule = {"center_mm": PLACE, "decided_at": when}
    rows = [
        Decision("c", "added_1", "anna", "added", diameter_mm=5.0, **nodule),
        Decision("c", "added_1", "anna", "added", note="lobe", diameter_mm=6.25, **nodule),
        Decision("c", "added_1", "anna", "undecided", note="lobe", diameter_mm=6.25, **nodule),
        Decision("c", "added_1", "anna", "added", "lobe", diameter_mm=6.25, undoes=3, **nodule),
    ]
    assert [line.removeprefix("2026-01-31 09:30:05 UTC: ") for line in describe_history(rows)] == [
        "added, diameter 5.0 mm",
        "note: lobe, diameter 6.2 mm",
        "withdrawn",
        "undone, now added",
    ]
