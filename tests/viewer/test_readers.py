"""Who is reading, in the app: a name by choice or from the proxy, never by accident."""

import csv
import io
import json

import pytest
from streamlit.testing.v1 import AppTest

from medkd.review.store import Decision, open_store
from tests.viewer import factory
from tests.viewer.conftest import VIEWER


@pytest.fixture
def launch(tmp_path, monkeypatch):
    run = factory.write_review_run(tmp_path / "run")

    def open_app(**readers):
        monkeypatch.setenv("MEDKD_REVIEW_PATH", str(run.path))
        monkeypatch.setenv("MEDKD_REVIEW_READER", "root")
        monkeypatch.setenv("MEDKD_REVIEW_READERS", json.dumps(readers))
        app = AppTest.from_file(str(VIEWER / "app.py"), default_timeout=30).run()
        assert not app.exception
        return run, app

    return open_app


def words(app):
    return "\n".join(str(element.value) for element in (*app.text, *app.error))


def test_no_page_is_shown_before_a_reader_chose_a_name(launch):
    _, app = launch(name_from="choice", names=["anna", "ben"])
    assert "choose your name" in words(app)
    assert "xray-1" not in str(app.main)
    app.selectbox(key="chosen_reader").select("ben").run()
    assert "choose your name" not in words(app)
    assert "ben" in [text.value for text in app.sidebar.text]


def test_a_request_without_the_proxys_header_is_refused(launch):
    _, app = launch(name_from="header")
    assert "the proxy sent no name" in words(app)
    assert "root" not in words(app)


def test_a_log_in_that_is_not_configured_is_refused_with_the_remedy(launch):
    _, app = launch(name_from="oidc")
    assert "add the section [auth]" in words(app)
    assert "xray-1" not in str(app.main)


def test_decisions_are_read_from_the_store_that_was_given(launch, tmp_path, monkeypatch):
    place = tmp_path / "elsewhere.sqlite"
    monkeypatch.setenv("MEDKD_REVIEW_STORE", str(place))
    run, _ = launch()
    assert place.is_file()
    assert not run.review.exists()


def test_a_reader_exports_the_own_decisions_alone(launch, monkeypatch):
    run, _ = launch()
    store = open_store(run.review)
    for name in ("anna", "ben"):
        store.add(Decision("xray-1", "case", name, "accept"))
    store.close()
    monkeypatch.syspath_prepend(str(VIEWER))
    import session  # the app's own module

    from medkd.review.opened import open_review

    seen = {}
    for admins in ([], ["chief"]):
        launch(admins=admins)
        monkeypatch.setenv("MEDKD_REVIEW_READER", "anna")
        export = session.build_export(open_review(run.path))
        seen[len(admins)] = [row["reader"] for row in csv.DictReader(io.StringIO(export()))]
    assert seen == {0: ["anna", "ben"], 1: ["anna"]}
