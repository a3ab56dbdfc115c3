"""Going from case to case: the order in the address, the next unread case, and finishing a case."""

import time

import flow
import pytest

from medkd.review.store import WHOLE_CASE, Decision, open_store
from tests.viewer import factory
from tests.viewer.test_addresses import open_address, shows_a_case, values  # noqa: F401  # a fixture
from tests.viewer.test_pages import press


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return factory.write_review_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def fresh_run(tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "DOUBLE_CLICK_S", 0.0)
    return factory.write_review_run(tmp_path / "run")


def case_of(app):
    return next(t.value.split()[1] for t in app.text if t.value.startswith("Case "))


def listed(app):
    return list(app.dataframe[0].value["Case"])


def reviewed(run):
    store = open_store(run.review)
    rows = [d.case_id for d in store.history() if d.verdict == "reviewed"]
    store.close()
    return rows


def test_the_address_chooses_order_and_filters_and_the_page_writes_them_back(run, open_address):  # noqa: F811
    app = open_address(run, "", order="case", split="test", text="x")
    assert listed(app) == ["xray-0", "xray-1"]
    assert app.query_params == {"order": "case", "split": "test", "text": "x"}
    app.text_input[0].set_value("").run()
    assert listed(app)[:3] == ["scan-refused", "chest-png", "scan-a"]
    assert app.query_params == {"order": "case", "split": "test"}


def test_a_text_that_no_case_id_contains_stays_out_of_the_address(run, open_address):  # noqa: F811
    app = open_address(run, "")
    app.text_input[0].set_value("DOE^JANE").run()
    assert "No case matches" in values(app.info)
    assert app.query_params == {"order": "suspicion"}
    assert "No case matches" in values(app.run().info)


def test_a_random_order_is_the_same_in_every_session_of_a_reader(run, open_address):  # noqa: F811
    first = listed(open_address(run, "", order="random"))
    assert listed(open_address(run, "", order="random")) == first
    assert first[0] == "scan-refused"
    assert sorted(first) == sorted(case.case_id for case in factory.build_cases())


def test_the_case_page_follows_the_order_of_the_address(run, open_address):  # noqa: F811
    app = open_address(run, case="xray-0", order="case", text="xray")
    press(app, "Next case")
    assert case_of(app) == "xray-1"
    assert app.query_params == {"case": "xray-1", "order": "case", "text": "xray"}
    assert "2 of 2" in values(app.caption)


def test_what_the_slice_viewer_wrote_is_known_and_kept(run, open_address):  # noqa: F811
    written = {"window": "bone", "planes": "three", "at": "14f992dc.1.2.3"}
    app = open_address(run, case="scan-a", **written)
    assert "ignores unknown parts" not in values(app.warning)
    press(app, "Next case")
    assert {name: app.query_params[name] for name in written} == written


def test_a_finished_case_opens_the_next_unread_one(fresh_run, open_address):  # noqa: F811
    store = open_store(fresh_run.review)
    store.add(Decision("chest-png", WHOLE_CASE, "anna", "accept"))
    store.close()
    app = open_address(fresh_run, case="scan-refused", order="case")
    press(app, "Mark the case as reviewed")
    assert case_of(app) == "scan-a"  # chest-png, which is accepted, is read
    assert "scan-refused: reviewed, saved 20" in values(app.text)
    press(app, "Previous case")
    assert case_of(app) == "chest-png"


def test_undecided_marks_are_asked_about_before_a_case_is_finished(fresh_run, open_address):  # noqa: F811
    app = open_address(fresh_run, case="scan-a")
    press(app, "Mark the case as reviewed")
    assert "2 marks are undecided. Mark the case as reviewed?" in values(app.caption)
    press(app, "Keep reading")
    assert (case_of(app), reviewed(fresh_run)) == ("scan-a", [])
    press(app, "Reject")
    press(app, "Mark the case as reviewed")
    assert "1 mark is undecided. Mark the case as reviewed?" in values(app.caption)
    press(app, "Mark anyway")
    assert (case_of(app), reviewed(fresh_run)) == ("xray-1", ["scan-a"])


def test_a_question_is_forgotten_when_another_case_is_opened(fresh_run, open_address):  # noqa: F811
    app = open_address(fresh_run, case="scan-a")
    press(app, "Mark the case as reviewed")
    press(app, "Previous case")
    press(app, "Next case")
    assert "undecided. Mark" not in values(app.caption)


def test_a_double_click_does_not_finish_the_next_case_too(fresh_run, open_address, monkeypatch):  # noqa: F811
    monkeypatch.setattr(flow, "DOUBLE_CLICK_S", 1.0)
    now = time.monotonic()
    monkeypatch.setattr(flow.time, "monotonic", lambda: now)
    app = open_address(fresh_run, case="scan-refused", text="scan", order="case")
    press(app, "Next case")
    press(app, "Next case")
    press(app, "Mark the case as reviewed")
    press(app, "Mark the case as reviewed")
    assert reviewed(fresh_run) == ["scan-b"]


def test_the_last_unread_case_stays_open_and_the_page_says_so(fresh_run, open_address):  # noqa: F811
    app = open_address(fresh_run, case="scan-b", text="scan-b")
    press(app, "Mark the case as reviewed")
    assert case_of(app) == "scan-b"
    assert flow.ALL_READ in values(app.text)
    press(app, "Next unread")
    assert case_of(app) == "scan-b"
    press(app, "Reopen the case")
    assert "reviewed, saved" not in values(app.text)
    assert "Mark the case as reviewed" in [button.label for button in app.button]


def test_a_case_that_is_reopened_at_once_is_no_longer_called_reviewed(fresh_run, open_address):  # noqa: F811
    app = open_address(fresh_run, case="scan-b", text="scan-b")
    press(app, "Mark the case as reviewed")
    assert "scan-b: reviewed, saved" in values(app.text)
    press(app, "Reopen the case")
    assert "scan-b: reviewed, saved" not in values(app.text)
    assert "Mark the case as reviewed" in [button.label for button in app.button]


def test_a_long_case_id_leaves_room_for_the_buttons():
    assert flow.shorten("1.3.6.1.4.1.14519.5.2.1.6279.6001.1242") == "1.3.6.1....001.1242"
    assert flow.shorten("scan-a") == "scan-a"
