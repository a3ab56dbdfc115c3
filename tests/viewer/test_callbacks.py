"""Every callback of the app runs to its end, although other events wait for it."""

import ast
import re
from collections.abc import MutableMapping
from types import SimpleNamespace

import display
import gallery
import panels
import pytest
import slice_viewer
import streamlit as st
from heat import Heat
from scene import Reading
from streamlit.runtime.scriptrunner import RerunData, RerunException, get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import (
    ScriptRequest,
    ScriptRequests,
    ScriptRequestType,
)
from streamlit.runtime.scriptrunner_utils.script_run_context import RunLocation, ThreadState
from streamlit.testing.v1 import AppTest

from medkd.review.store import WHOLE_CASE, Decision, open_store
from tests.report.run_factory import write_example_run
from tests.viewer import oblique
from tests.viewer.conftest import VIEWER
from tests.viewer.test_modes import differing, launch, scene_of, words  # noqa: F401  # fixtures

TESTED = {
    "decide", "_drop", "deciding.decide", "deciding.save_note", "go_to", "go_to_unread", "finish",
    "keep_reading", "flow.put_question", "flow.reopen", "_finish", "slice_viewer.jump_to",
    "_list_more", "ask_for_chosen", "open_case", "st.session_state.__setitem__", "on_decisions",
    "on_selected",
}  # fmt: skip
"""The callbacks as the app passes them to Streamlit."""

NOT_OURS = {"'rerun'", "st.login", "st.logout", "lambda: None"}
"""What needs no protection: Streamlit's own functions, and what does nothing."""


class Waiting:
    """Events that come while a callback runs: its nth try is stopped at the nth access."""

    def __init__(self):
        self.tries, self.accesses = 1, 0

    def stops(self):
        self.accesses += 1
        if self.accesses < self.tries:
            return False
        self.tries, self.accesses = self.tries + 1, 0
        return True


def is_in_callback():
    return ThreadState.get().run_location is RunLocation.CALLBACK


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function from whose call on events wait for each callback."""

    def begin():
        waiting = Waiting()
        answer = ScriptRequests.on_scriptrunner_yield

        def on_yield(requests):
            if not is_in_callback() or not waiting.stops():
                return answer(requests)
            context = get_script_run_ctx()
            event = RerunData(context.query_string, page_script_hash=context.page_script_hash)
            return ScriptRequest(ScriptRequestType.RERUN, event)

        monkeypatch.setattr(ScriptRequests, "on_scriptrunner_yield", on_yield)
        return waiting

    return begin


class InterruptedSession(MutableMapping):
    """A session outside a page, at whose accesses `waiting` stops a callback."""

    def __init__(self):
        self.values, self.waiting = {}, None

    def _access(self):
        if self.waiting and self.waiting.stops():
            raise RerunException(RerunData())

    def __getitem__(self, key):
        self._access()
        return self.values[key]

    def __setitem__(self, key, value):
        self._access()
        self.values[key] = value

    def __delitem__(self, key):
        self._access()
        del self.values[key]

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)


@pytest.fixture
def interrupted_session(monkeypatch):
    session = InterruptedSession()
    monkeypatch.setattr(st, "session_state", session)
    return session


def press(app, beginning):
    next(button for button in app.button if button.label.startswith(beginning)).click()
    app.run()
    assert not app.exception


def history(run):
    store = open_store(run.review)
    rows = [(row.case_id, row.verdict, row.note) for row in store.history() if row.reader == "anna"]
    store.close()
    return rows


def reject_elsewhere(run):
    store = open_store(run.review)
    store.add(Decision("xray-1", WHOLE_CASE, "anna", "reject"))
    store.close()


@pytest.fixture
def example(tmp_path):
    return write_example_run(tmp_path / "example", kind="scan")


@pytest.fixture
def opened(run, launch):  # noqa: F811
    """Open a case, at the address that lists it alone."""

    def open_case(case, mode="concurrent", *, alone=False):
        app = launch(run.path, mode, case)
        if alone:
            app.query_params["text"] = case
            app.run()
        return app

    return open_case


def open_results(launch, run, part):  # noqa: F811
    app = launch(run.path, "concurrent")
    app.switch_page("results.py")
    app.session_state["results_part"] = part
    app.run()
    assert not app.exception
    return app


def test_another_case_is_opened(opened, interrupt):
    app = opened("xray-0")
    interrupt()
    press(app, "Previous case")
    assert "Case xray-0 " not in words(app)
    assert "Case " in words(app)


def test_the_next_unread_case_is_opened(opened, interrupt):
    app = opened("xray-0")
    interrupt()
    press(app, "Next unread")
    assert "Case xray-0 " not in words(app)
    assert "Case " in words(app)


def test_a_case_is_finished_once(run, opened, interrupt):
    app = opened("scan-b")
    interrupt()
    press(app, "Mark the case as reviewed")
    assert history(run) == [("scan-b", "reviewed", "")]
    assert "scan-b: reviewed, saved" in words(app)
    assert "Case scan-b " not in words(app)


def test_a_case_with_undecided_marks_is_asked_about_and_not_finished(run, opened, interrupt):
    app = opened("scan-a")
    interrupt()
    press(app, "Mark the case as reviewed")
    assert "2 marks are undecided. Mark the case as reviewed?" in words(app)
    assert history(run) == []


def test_a_question_is_answered_with_no(run, opened, interrupt):
    app = opened("scan-a")
    press(app, "Mark the case as reviewed")
    interrupt()
    press(app, "Keep reading")
    assert "2 marks are undecided" not in words(app)
    assert history(run) == []


def test_a_case_is_reopened_once(run, opened, interrupt):
    app = opened("scan-b", alone=True)
    press(app, "Mark the case as reviewed")
    interrupt()
    press(app, "Reopen the case")
    assert [verdict for _, verdict, _ in history(run)] == ["reviewed", "undecided"]


def test_a_first_read_is_asked_about_and_finished(opened, interrupt):
    app = opened("scan-a", "second-reader")
    interrupt()
    press(app, "Finish the first read")
    interrupt()
    press(app, "Finish it and show the marks")
    assert "The first one was finished on" in words(app)
    assert "NOT finished" not in words(app)


def test_a_verdict_is_saved_once(run, opened, interrupt):
    app = opened("xray-1")
    interrupt()
    press(app, "Accept")
    assert history(run) == [("xray-1", "accept", "")]


def test_a_note_is_saved_once(run, opened, interrupt):
    app = opened("xray-1")
    interrupt()
    app.text_input[0].set_value("spiculated").run()
    assert history(run) == [("xray-1", "undecided", "spiculated")]


def test_a_change_that_was_not_saved_is_saved_once(run, opened, interrupt):
    app = opened("xray-1")
    reject_elsewhere(run)
    press(app, "Accept")
    interrupt()
    press(app, "Save mine instead")
    assert [verdict for _, verdict, _ in history(run)] == ["reject", "accept"]
    assert "NOT saved" not in words(app)


def test_a_change_that_was_not_saved_is_dropped(run, opened, interrupt):
    app = opened("xray-1")
    reject_elsewhere(run)
    press(app, "Accept")
    interrupt()
    press(app, "Keep the saved one")
    assert "NOT saved" not in words(app)
    assert [verdict for _, verdict, _ in history(run)] == ["reject"]


def test_a_mark_of_the_list_is_shown(opened, interrupt):
    app = opened("scan-a")
    before = scene_of(app)["jump"]["count"]
    interrupt()
    press(app, "Mark 2")
    scene = scene_of(app)
    assert scene["jump"] == scene["jump"] | {"id": scene["chosen"], "count": before + 1}
    assert scene["chosen"] == scene["rings"][1]["id"]


def test_more_marks_are_listed(opened, interrupt, monkeypatch):
    monkeypatch.setattr(panels, "LISTED_AT_ONCE", 1)
    app = opened("scan-a")
    interrupt()
    press(app, "List 1 more")
    assert "Mark 2" in words(app)


def test_a_case_that_is_chosen_from_all_is_opened(opened, interrupt):
    app = opened("no-case")
    interrupt()
    app.selectbox(key="chosen_case").select("xray-0").run()
    assert "Case xray-0 " in words(app)


def test_a_case_to_adjudicate_is_opened_and_left(differing, launch, interrupt):  # noqa: F811
    app = launch(differing.path, "adjudication", reader="chief", readers={"adjudicator": "chief"})
    interrupt()
    press(app, "Open the next case to decide on")
    assert "Case scan-a (scan): 0 of 2 decided" in words(app)
    interrupt()
    press(app, "All differences")
    assert "Readers differ in 2 cases." in words(app)


def test_more_pictures_are_shown(example, launch, interrupt, monkeypatch):  # noqa: F811
    monkeypatch.setattr(gallery, "AT_ONCE", 1)
    app = open_results(launch, example, "Mistakes")
    interrupt()
    press(app, "Next 1")
    assert "2 to 2 of 3" in words(app)


def test_the_threshold_is_set_back(example, launch, interrupt):  # noqa: F811
    app = open_results(launch, example, "Threshold")
    start = app.select_slider[0].value
    app.select_slider[0].set_value(float(app.select_slider[0].options[0])).run()
    assert app.select_slider[0].value != start
    interrupt()
    press(app, "Back to the threshold")
    assert app.select_slider[0].value == start


SCAN_A = SimpleNamespace(case_id="scan-a")


@pytest.fixture
def draw_viewer(monkeypatch, interrupted_session):
    """Draw the slice viewer outside a page; returns the arguments of the component."""

    def draw(save):
        drawn = {}
        component = lambda *_, **__: lambda **words: drawn.update(words)  # noqa: E731
        monkeypatch.setattr(st.components.v2, "component", component)
        scan = oblique.build_scan("scan-a")
        stack = display.build_axial_stack(scan.voxels_hu, scan.grid)
        interrupted_session[slice_viewer.viewer_key(SCAN_A)] = {}
        slice_viewer.show_viewer(SCAN_A, stack, [], reading=Reading(True), save=save, heat=Heat())
        return drawn

    return draw


def send(session, callback, **sent):
    """Report a state of the component while events wait."""
    session[slice_viewer.viewer_key(SCAN_A)] = sent
    session.waiting = Waiting()
    with pytest.raises(RerunException):
        callback()
    session.waiting = None


def test_the_slice_viewer_saves_each_of_its_actions_once(draw_viewer, interrupted_session):
    saved = []

    def save(action, rows):
        interrupted_session.get("anything")
        saved.append(action.number)
        return action.number

    on_decisions = draw_viewer(save)["on_decisions_change"]
    actions = [{"number": number, "kind": "undo"} for number in (1, 2)]
    send(interrupted_session, on_decisions, decisions={"client": "c", "list": actions})
    assert saved == [1, 2]
    assert slice_viewer.read_answered(SCAN_A).rows == {1: 1, 2: 2}


def test_the_slice_viewer_reports_the_chosen_mark_but_the_list_may_be_newer(
    draw_viewer, interrupted_session
):
    on_selected = draw_viewer(lambda action, rows: 0)["on_selected_change"]
    send(interrupted_session, on_selected, selected={"id": "at_1", "jump": 0})
    assert slice_viewer.chosen_ring(SCAN_A) == "at_1"
    slice_viewer.jump_to(SCAN_A, "at_2")
    send(interrupted_session, on_selected, selected={"id": "at_3", "jump": 0})
    assert slice_viewer.chosen_ring(SCAN_A) == "at_2"
    send(interrupted_session, on_selected, selected={"id": "at_3", "jump": 1})
    assert slice_viewer.chosen_ring(SCAN_A) == "at_3"


def passed_callbacks():
    """Return every callback that the app passes to Streamlit, as it is written there."""
    for path in sorted(VIEWER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and re.fullmatch("on_[a-z_]+", node.arg or ""):
                yield ast.unparse(node.value)


def test_every_callback_of_the_app_is_protected_and_has_its_test_above():
    assert set(passed_callbacks()) - NOT_OURS == {f"uninterrupted({name})" for name in TESTED}


def buttons():
    import streamlit as st
    from callbacks import uninterrupted
    from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
    from streamlit.runtime.scriptrunner import RerunData, get_script_run_ctx

    def first():
        if not st.session_state.get("waits"):
            pressed = WidgetState(id=st.session_state["second"], trigger_value=True)
            event = RerunData(widget_states=WidgetStates(widgets=[pressed]))
            st.session_state["waits"] = True
            get_script_run_ctx().script_requests.request_rerun(event)
        st.session_state["first"] = True

    def second():
        st.session_state["done"] = st.session_state.get("first")

    st.button("First", on_click=uninterrupted(first))
    st.button("Second", on_click=uninterrupted(second))


def test_streamlit_handles_the_waiting_button_after_the_callback():
    app = AppTest.from_function(buttons).run()
    app.session_state["second"] = app.button[1].proto.id
    app.button[0].click().run()
    assert app.session_state["done"] is True
