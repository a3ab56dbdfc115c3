"""What the browser sends is checked before it is saved."""

from types import SimpleNamespace

import actions
import deciding
import display
import pytest

from medkd.review.store import Decision, open_store
from tests.viewer import oblique

CASE = SimpleNamespace(case_id="scan-supine")
MARK = Decision("scan-supine", "at_1", "anna", "undecided", center_mm=(1.0, 2.0, 3.0))
ID = "added_0123456789abcdef"


@pytest.fixture
def saver(tmp_path, monkeypatch):
    """Save into a store of its own, outside a page, as the reader anna."""
    store = open_store(tmp_path / "review.sqlite")
    monkeypatch.setattr("session.load_store", lambda review: store)
    monkeypatch.setattr("session.reader_name", lambda: "anna")
    monkeypatch.setattr(deciding.st, "session_state", {})
    scan = oblique.build_scan("scan-supine")
    stack = display.build_axial_stack(scan.voxels_hu, scan.grid)
    yield actions.Saver(None, CASE, {MARK.mark_id: MARK}, stack)
    store.close()


def middle(saver):
    return [float(mm) for mm in saver.stack.grid.voxel_to_world((30, 20, 10))]


def save(saver, *sent):
    """Save a list of actions as the page does; return the store's rows."""
    rows = {}
    for number, action in enumerate(sent, start=1):
        rows[number] = saver.save(actions.read_action({"number": number, **action}), rows)
    return deciding.session.load_store(None).history()


@pytest.mark.parametrize(
    "sent",
    [
        {"number": 1, "kind": "drop"},
        {"number": 1, "kind": "add", "center": [0, 0]},
        {"number": 1, "kind": "add", "center": [0, 0, "x"]},
        {"number": 1, "kind": "add", "center": [0, 0, float("nan")]},
        {"number": 1, "kind": "diameter", "diameter": -1},
        {"number": 1, "kind": "diameter", "diameter": 301},
        {"number": 1, "kind": "place", "center": 5},
        {"kind": "undo"},
    ],
)
def test_what_is_no_action_is_refused(sent):
    with pytest.raises(ValueError, match=r"expected|got|could not convert"):
        actions.read_action(sent)


def test_a_nodule_that_is_sent_twice_is_saved_once(saver):
    add = {"kind": "add", "mark": ID, "center": middle(saver), "diameter": 7.5}
    (row,) = save(saver, add, add)
    assert (row.mark_id, row.verdict, row.reader, row.diameter_mm) == (ID, "added", "anna", 7.5)
    assert list(row.center_mm) == middle(saver)


def test_nothing_is_added_outside_the_scan_or_under_a_foreign_id(saver):
    far = [mm + 1000 for mm in middle(saver)]
    rows = save(
        saver,
        {"kind": "add", "mark": ID, "center": far, "diameter": 7.5},
        {"kind": "add", "mark": "at_1", "center": middle(saver), "diameter": 7.5},
        {"kind": "add", "mark": ID, "center": middle(saver), "diameter": 0},
    )
    assert rows == []


def test_a_nodule_can_be_corrected_and_withdrawn_before_the_page_is_drawn_again(saver, monkeypatch):
    monkeypatch.setattr("session.load_mine", lambda review: by_case())
    moved = [float(mm) for mm in saver.stack.grid.voxel_to_world((31, 20, 10))]
    rows = save(
        saver,
        {"kind": "add", "mark": ID, "center": middle(saver), "diameter": 7.5},
        {"kind": "place", "mark": ID, "center": moved},
        {"kind": "diameter", "mark": ID, "diameter": 9.0},
        {"kind": "verdict", "mark": ID, "verdict": "undecided"},
    )
    found = [(list(row.center_mm), row.diameter_mm, row.verdict) for row in rows]
    assert found == [
        (middle(saver), 7.5, "added"),
        (moved, 7.5, "added"),
        (moved, 9.0, "added"),
        (moved, 9.0, "undecided"),
    ]


def by_case():
    store = deciding.session.load_store(None)
    return {"scan-supine": {row.mark_id: row for row in store.latest()}}


def test_undo_takes_back_the_action_that_it_names(saver):
    accept = {"kind": "verdict", "mark": "at_1", "verdict": "accept"}
    rows = save(saver, accept, {"kind": "undo", "undone": 1}, accept, {"kind": "undo", "row": 3})
    assert [(row.verdict, row.undoes) for row in rows] == [
        ("accept", None),
        ("undecided", 1),
        ("accept", None),
        ("undecided", 3),
    ]


def test_undo_of_a_decision_that_is_not_the_latest_saves_nothing_and_says_so(saver):
    accept = {"kind": "verdict", "mark": "at_1", "verdict": "accept"}
    reject = accept | {"verdict": "reject"}
    rows = save(saver, accept, reject, {"kind": "undo", "row": 1})
    assert [row.verdict for row in rows] == ["accept", "reject"]
    assert "rejected, saved" in deciding.st.session_state[deciding.NOT_UNDONE][0]


def test_a_mark_of_another_case_and_a_verdict_of_a_whole_case_are_not_saved(saver):
    rows = save(
        saver,
        {"kind": "verdict", "mark": "at_2", "verdict": "accept"},
        {"kind": "verdict", "mark": "at_1", "verdict": "reviewed"},
        {"kind": "verdict", "mark": "at_1", "verdict": "added"},
        {"kind": "undo", "undone": 9},
    )
    assert rows == []
