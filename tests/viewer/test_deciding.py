"""Decisions in the app: one field at a time, two tabs, what could not be saved."""

import sqlite3

import pytest
from streamlit.testing.v1 import AppTest

from medkd.review.store import WHOLE_CASE, Decision, open_store
from tests.viewer import factory
from tests.viewer.conftest import VIEWER

CASE = "xray-1"  # an image: one decision, one note


@pytest.fixture
def open_tab(run, monkeypatch):
    """Open the case in a tab of its own, as one reader."""

    def open_case(reader="anna"):
        monkeypatch.setenv("MEDKD_REVIEW_PATH", str(run.path))
        monkeypatch.setenv("MEDKD_REVIEW_READER", reader)
        app = AppTest.from_file(str(VIEWER / "app.py"), default_timeout=30)
        app.query_params["case"] = CASE
        app.run()
        assert not app.exception
        return app

    return open_case


def button(app, label):
    return next(button for button in app.button if button.label == label)


def said(app):
    kinds = (app.error, app.warning, app.info, app.text, app.caption)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def decided(run):
    store = open_store(run.review)
    found = [(decision.verdict, decision.note) for decision in store.latest()]
    store.close()
    return found


def test_a_note_and_a_verdict_that_arrive_together_are_both_saved(run, open_tab):
    app = open_tab()
    app.text_input[0].set_value("spiculated")
    button(app, "Accept").click().run()
    assert decided(run) == [("accept", "spiculated")]


def test_a_note_of_a_stale_tab_keeps_the_newer_verdict_and_says_so(run, open_tab):
    stale, other = open_tab(), open_tab()
    button(other, "Reject").click().run()
    stale.text_input[0].set_value("vessel").run()
    assert decided(run) == [("reject", "vessel")]
    assert "verdict: rejected" in said(stale)


def test_a_verdict_of_a_stale_tab_keeps_the_newer_note_and_shows_it(run, open_tab):
    stale, other = open_tab(), open_tab()
    other.text_input[0].set_value("vessel").run()
    button(stale, "Reject").click().run()
    assert decided(run) == [("reject", "vessel")]
    assert stale.text_input[0].value == "vessel"
    assert "note: vessel" in said(stale)


def test_a_stale_tab_does_not_overwrite_a_newer_verdict(run, open_tab):
    stale, other = open_tab(), open_tab()
    button(other, "Reject").click().run()
    button(stale, "Accept").click().run()
    assert decided(run) == [("reject", "")]
    assert "NOT saved" in said(stale)
    assert "Yours: accepted\nSaved: rejected" in said(stale)
    assert "reject, saved" in said(stale)


def test_the_reader_can_then_save_the_own_verdict_or_keep_the_saved_one(run, open_tab):
    stale, other = open_tab(), open_tab()
    button(other, "Reject").click().run()
    button(stale, "Accept").click().run()
    button(stale, "Save mine instead").click().run()
    assert decided(run) == [("accept", "")]
    assert "NOT saved" not in said(stale)
    button(other, "Clear").click().run()
    button(other, "Keep the saved one").click().run()
    assert decided(run) == [("accept", "")]
    assert "NOT saved" not in said(other)


def test_a_stale_note_does_not_overwrite_a_newer_one_and_is_not_lost(run, open_tab):
    stale, other = open_tab(), open_tab()
    other.text_input[0].set_value("vessel").run()
    stale.text_input[0].set_value("spiculated").run()
    assert decided(run) == [("undecided", "vessel")]
    assert "Yours: spiculated\nSaved: vessel" in said(stale)
    assert stale.text_input[0].value == "spiculated"
    button(stale, "Keep the saved one").click().run()
    assert stale.text_input[0].value == "vessel"


def test_a_note_saved_in_another_tab_is_shown_at_the_next_look(run, open_tab):
    stale, other = open_tab(), open_tab()
    other.text_input[0].set_value("vessel").run()
    assert stale.run().text_input[0].value == "vessel"


def test_one_tab_that_changes_its_mind_meets_no_conflict(run, open_tab):
    app = open_tab()
    for label in ("Accept", "Reject", "Clear", "Accept"):
        button(app, label).click().run()
    for note in ("one", "two", ""):
        app.text_input[0].set_value(note).run()
    assert "NOT saved" not in said(app)
    assert decided(run) == [("accept", "")]


def test_a_decision_counts_for_the_reader_whose_name_the_page_shows(run, open_tab, monkeypatch):
    app = open_tab("anna")
    monkeypatch.setenv("MEDKD_REVIEW_READER", "ben")
    button(app, "Accept").click().run()
    store = open_store(run.review)
    assert [decision.reader for decision in store.history()] == ["anna"]
    store.close()


def test_what_a_held_store_refuses_stays_on_the_page_until_it_is_saved(run, open_tab, monkeypatch):
    monkeypatch.setattr("medkd.review.databases.BUSY_SECONDS", 0.1)
    app = open_tab()
    foreign = sqlite3.connect(run.review, isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    app.text_input[0].set_value("spiculated")
    button(app, "Accept").click().run()
    assert said(app).count("NOT saved.") == 2
    assert "Yours: spiculated" in said(app.run())
    assert "another program has held the file" in said(app)
    foreign.execute("ROLLBACK")
    foreign.close()
    for _ in range(2):
        button(app, "Try again").click().run()
    assert decided(run) == [("accept", "spiculated")]
    assert "NOT" not in said(app)


def test_what_was_not_saved_stays_on_every_page(run, open_tab):
    stale, other = open_tab(), open_tab()
    other.text_input[0].set_value("vessel").run()
    stale.text_input[0].set_value("spiculated").run()
    stale.switch_page("results.py").run()
    assert "Yours: spiculated" in said(stale)


def test_text_of_a_note_is_never_markdown(run, open_tab):
    stale, other = open_tab(), open_tab()
    other.text_input[0].set_value(factory.EVIL).run()
    stale.text_input[0].set_value("mine").run()
    assert factory.EVIL in "\n".join(text.value for text in stale.text)
    others = [*stale.error, *stale.info, *stale.markdown, *stale.caption]
    assert not [element for element in others if "onerror" in element.value]


def test_a_decision_of_an_earlier_session_is_carried_on_with(run, open_tab):
    store = open_store(run.review)
    store.add(Decision(CASE, WHOLE_CASE, "anna", "accept", "old note"))
    store.close()
    app = open_tab()
    assert app.text_input[0].value == "old note"
    button(app, "Reject").click().run()
    assert decided(run) == [("reject", "old note")]
