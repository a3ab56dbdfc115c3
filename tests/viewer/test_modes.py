"""The reading modes on the pages: what reaches the browser in each of them, and what does not."""

import csv
import io
import json
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from medkd.review.consensus import find_consensus
from medkd.review.store import WHOLE_CASE, Decision, open_store
from tests.data.archives import write_xray_archive
from tests.viewer import factory
from tests.viewer.conftest import VIEWER

FIRST_MARK = "at_-70.00_10.00_-80.00"
NODULE = Decision(
    "scan-a", "added_0011223344556677", "anna", "added", center_mm=factory.NODULES[1][0],
    diameter_mm=8.0,
)  # fmt: skip


@pytest.fixture
def launch(monkeypatch):
    """Open the worklist or a case in a mode, as one reader."""

    def open_page(path, mode, case="", *, reader="anna", readers=None):
        monkeypatch.setenv("MEDKD_REVIEW_PATH", str(path))
        monkeypatch.setenv("MEDKD_REVIEW_MODE", mode)
        monkeypatch.setenv("MEDKD_REVIEW_READER", reader)
        monkeypatch.setenv("MEDKD_REVIEW_READERS", json.dumps(readers or {}))
        app = AppTest.from_file(str(VIEWER / "app.py"), default_timeout=30)
        if case:
            app.query_params["case"] = case
        app.run()
        assert not app.exception
        return app

    return open_page


def decide(run, *decisions, finished=False):
    store = open_store(run.review, two_reads=True)
    for decision in decisions:
        store.add(decision)
    if finished:
        store.finish_first_read("scan-a", "anna")
    store.close()


def scene_of(app):
    """Return what the page passes to the slice viewer."""
    return json.loads(app.get("bidi_component")[0].proto.json)


def groups(app):
    return [ring["group"] for ring in scene_of(app)["rings"]]


def words(app):
    """Return all text of the page, with the labels of its buttons."""
    kinds = (app.text, app.caption, app.error, app.warning, app.info, app.title)
    values = [str(element.value) for kind in kinds for element in kind]
    return "\n".join(values + [button.label for button in app.button])


def press(app, label):
    next(button for button in app.button if button.label == label).click()
    app.run()
    assert not app.exception


def finish_first_read(app):
    assert "can no longer be changed" not in words(app)
    press(app, "Finish the first read")
    assert "can no longer be changed" in words(app)
    assert scene_of(app)["question"] == "Finish the first read of this case and show the marks?"
    press(app, "Finish it and show the marks")
    assert scene_of(app)["question"] == ""


def test_a_first_read_sends_no_mark_and_no_score_to_the_browser(run, launch):
    app = launch(run.path, "second-reader", "scan-a")
    scene = scene_of(app)
    assert (scene["rings"], scene["undoable"], scene["hidden"]) == ([], [], True)
    assert "score" not in words(app)
    assert "marks of the model are not shown" in words(app)
    everything = app.get("bidi_component")[0].proto.json + str(app.main)
    assert all(f"{score:.2f}" not in everything for score in factory.SCORES)


def test_finishing_the_first_read_locks_its_nodules_and_shows_the_marks(run, launch):
    decide(run, NODULE)
    app = launch(run.path, "second-reader", "scan-a")
    assert groups(app) == ["added"]
    finish_first_read(app)
    rings = scene_of(app)["rings"]
    assert [(ring["group"], ring["locked"]) for ring in rings] == [
        ("mark", False), ("mark", False), ("added", True),
    ]  # fmt: skip
    assert scene_of(app)["undoable"] == []
    assert "The first one was finished on" in words(app)
    assert "Mark the case as reviewed" in words(app)


def test_a_nodule_of_the_first_read_has_no_buttons_in_the_second(run, launch):
    decide(run, NODULE, finished=True)
    app = launch(run.path, "second-reader", "scan-a")
    press(app, next(b.label for b in app.button if b.label.startswith("Added 1")))
    assert "cannot be changed any more" in words(app)
    assert "Withdraw" not in words(app)


def test_decisions_on_marks_that_were_made_before_the_first_read_are_not_sent(run, launch):
    store = open_store(run.review)  # in the usual mode
    store.add(Decision("scan-a", FIRST_MARK, "anna", "accept"))
    store.close()
    app = launch(run.path, "second-reader", "scan-a")
    assert "at_" not in app.get("bidi_component")[0].proto.json


def test_another_readers_lock_shows_no_marks(run, launch):
    decide(run, finished=True)
    assert groups(launch(run.path, "second-reader", "scan-a", reader="ben")) == []


def test_a_first_read_of_an_image_shows_no_probability(run, launch):
    app = launch(run.path, "second-reader", "xray-1")
    assert not app.dataframe
    assert scene_of(app)["rings"][0]["score"] is None
    press(app, "Accept")
    finish_first_read(app)
    assert len(app.dataframe) == 1
    assert "begun" in words(app)
    press(app, "Reject")
    assert "reviewed" in words(app)
    store = open_store(run.review)
    reads = [(d.verdict, d.read) for d in store.history() if d.mark_id == WHOLE_CASE]
    assert reads == [("accept", "first"), ("reject", "second")]
    store.close()


@pytest.mark.parametrize("mode", ["second-reader", "blinded"])
def test_the_worklist_has_neither_scores_nor_their_order(run, launch, mode):
    app = launch(run.path, mode)
    table = app.dataframe[0].value
    assert "Score" not in table
    assert "highest score first" not in words(app)
    assert list(table["Case"])[1:] != [c.case_id for c in factory.build_cases()]
    assert table["Status"][0] == "NOT ANALYSED"


def test_the_worklist_of_a_second_reader_says_which_read_comes_next(run, launch):
    decide(run, finished=True)
    table = launch(run.path, "second-reader").dataframe[0].value.set_index("Case")
    assert (table["Read"]["scan-a"], table["Read"]["scan-b"]) == ("second", "first")
    assert list(table.index[1:3]) == ["chest-png", "scan-a"]


def test_a_blinded_case_shows_marks_without_scores_and_without_reference(run, launch):
    app = launch(run.path, "blinded", "scan-a")
    rings = scene_of(app)["rings"]
    assert [(ring["group"], ring["score"], ring["outcome"]) for ring in rings] == [
        ("mark", None, ""), ("mark", None, ""),
    ]  # fmt: skip
    assert not app.radio
    assert "0.93" not in words(app)
    app = launch(run.path, "blinded, no marks", "scan-a")
    assert scene_of(app)["rings"] == []


def exported(monkeypatch):
    """Return what the worklist exports."""
    monkeypatch.syspath_prepend(str(VIEWER))
    import session  # the app's own module

    return list(csv.DictReader(io.StringIO(session.build_export(session.current_review())())))


def test_an_export_during_a_first_read_tells_no_mark(run, launch, monkeypatch):
    mark = Decision("scan-a", FIRST_MARK, "ben", "accept", score=0.93)
    store = open_store(run.review)  # in the usual mode
    for decision in (mark, replace(mark, reader="anna"), NODULE):
        store.add(decision)
    store.close()
    launch(run.path, "second-reader")  # anna is an admin on her own machine
    assert [d["mark_id"] for d in exported(monkeypatch)] == [NODULE.mark_id]
    decide(run, finished=True)
    assert [d["mark_id"] for d in exported(monkeypatch)][:2] == [FIRST_MARK, NODULE.mark_id]


def test_blinded_readers_see_and_export_the_own_decisions_alone(run, launch, monkeypatch):
    decide(
        run, NODULE, Decision("scan-a", FIRST_MARK, "ben", "reject", score=0.93),
        Decision("scan-a", FIRST_MARK, "anna", "accept", score=0.93),
    )  # fmt: skip
    readers = {"admins": ["anna"]}  # an admin who reads is blinded too
    app = launch(run.path, "blinded", "scan-a", readers=readers)
    verdicts = [(ring["group"], ring["verdict"]) for ring in scene_of(app)["rings"]]
    assert ("mark", "accept") in verdicts
    assert "reject" not in dict(verdicts).values()
    seen = [(d["reader"], d["score"]) for d in exported(monkeypatch)]
    assert seen == [("anna", ""), ("anna", "")]


def test_two_blinded_readers_have_their_own_orders(run, launch):
    orders = [list(launch(run.path, "blinded", reader=name).dataframe[0].value["Case"])
              for name in ("anna", "ben", "anna")]  # fmt: skip
    assert orders[0] == orders[2] != orders[1]


def test_a_blinded_reader_of_an_index_sees_no_labels(tmp_path, launch):
    index = write_xray_archive(tmp_path, patients=3)
    assert launch(index, "", "c002").dataframe
    app = launch(index, "blinded", "c002")
    assert not app.dataframe
    assert "the image and its labels" not in words(app)
    assert "Labels present" not in launch(index, "blinded").dataframe[0].value


CHIEF = {"adjudicator": "chief"}


@pytest.fixture
def differing(run):
    """Two readers differ on a mark, on a nodule that one added, and on an image."""
    center, diameter = factory.NODULES[0]
    mark = Decision("scan-a", FIRST_MARK, "anna", "accept", "spiculated", 0.93, center,
                    diameter_mm=diameter)  # fmt: skip
    whole = Decision("xray-1", WHOLE_CASE, "anna", "accept")
    decide(
        run, mark, replace(mark, reader="ben", verdict="reject", note="vessel"),
        NODULE, Decision("scan-a", WHOLE_CASE, "ben", "reviewed"),
        whole, replace(whole, reader="ben", verdict="reject"),
    )  # fmt: skip
    return run


@pytest.mark.parametrize("case", ["", "scan-a"])
def test_nobody_but_the_adjudicator_sees_differing_decisions(differing, launch, case):
    app = launch(differing.path, "adjudication", case, readers=CHIEF)
    assert "for the adjudicator only" in words(app)
    assert "You read as anna" in words(app)
    assert not app.dataframe
    assert not app.get("bidi_component")


def test_the_adjudicator_sees_the_cases_in_which_readers_differ(differing, launch):
    app = launch(differing.path, "adjudication", reader="chief", readers=CHIEF)
    table = app.dataframe[0].value
    assert [list(row) for row in table.values] == [
        ["scan-a", 2, 0, "anna, ben"], ["xray-1", 1, 0, "anna, ben"],
    ]  # fmt: skip
    assert app.dataframe[1].value["Agreed"][0] == "0%"
    press(app, "Open the next case to decide on")
    assert "Case scan-a (scan): 0 of 2 decided" in words(app)


def test_the_adjudicator_decides_on_each_place_and_this_is_the_reference(differing, launch):
    app = launch(differing.path, "adjudication", "scan-a", reader="chief", readers=CHIEF)
    assert "anna\naccepted\n16.0 mm" in words(app)
    assert "ben\nrejected\n16.0 mm" in words(app)
    assert [ring["score"] for ring in scene_of(app)["rings"]] == [None, None]
    press(app, "Reject")
    press(app, next(b.label for b in app.button if b.label.startswith("Place 2")))
    assert "ben\nreviewed the case without deciding here" in words(app)
    press(app, "Accept")
    assert "Case scan-a (scan): 2 of 2 decided" in words(app)
    assert {ring["verdict"] for ring in scene_of(app)["rings"]} == {"accept", "reject"}
    store = open_store(differing.review)
    found = find_consensus(store.history(), adjudicator="chief").marks
    assert {(mark.verdict, mark.readers) for mark in found} == {
        ("rejected", ("chief",)), ("added", ("chief",)),
    }  # fmt: skip
    store.close()


def test_the_adjudicator_decides_on_an_image(differing, launch):
    app = launch(differing.path, "adjudication", "xray-1", reader="chief", readers=CHIEF)
    press(app, "Accept")
    assert "Case xray-1 (image): 1 of 1 decided" in words(app)


def test_a_case_without_differences_is_shown_without_places(differing, launch):
    app = launch(differing.path, "adjudication", "scan-b", reader="chief", readers=CHIEF)
    assert "differ on no place of this case" in words(app)
    app = launch(differing.path, "adjudication", "no-case", reader="chief", readers=CHIEF)
    assert "no case is named 'no-case'" in words(app)
