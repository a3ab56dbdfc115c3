"""`medkd review` in a real Chromium: every page, a decision that survives reload and kill -9."""

import os
import signal
import time
from types import SimpleNamespace

import pytest

from medkd.review.store import open_store
from tests.data.archives import write_xray_archive
from tests.viewer import factory
from tests.viewer.browsing import FLAGS, chromium_path, served

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    return factory.write_review_run(tmp_path / "run")


def test_every_page_opens_and_a_decision_is_found_after_a_reload(browser, run):
    with served(run, "--reader", "anna") as (url, _):
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("heading", name="Worklist").wait_for()
        page.goto(f"{url}/case?case=scan-a")
        page.get_by_role("button", name="Accept").first.click()
        page.get_by_text("accept, saved").wait_for()
        page.reload()
        page.get_by_text("accept, saved").wait_for()
        page.get_by_role("link", name="Results").click()
        page.get_by_role("radio", name="Detection").click()
        page.get_by_role("heading", name="Detection, whole scans").first.wait_for()
        page.locator(".js-plotly-plot").first.wait_for()


def test_a_decision_survives_a_killed_app(browser, run):
    with served(run, "--reader", "anna") as (url, process):
        page = browser.new_page()
        page.goto(f"{url}/case?case=scan-b")
        page.get_by_role("button", name="Mark the case as reviewed").click()
        page.get_by_text("reviewed, saved").wait_for()
        os.killpg(process.pid, signal.SIGKILL)
    store = open_store(run.review)
    assert [decision.verdict for decision in store.latest(reader="anna")] == ["reviewed"]
    store.close()


def test_the_app_asks_nothing_of_any_other_machine(browser, run):
    foreign = []
    with served(run) as (url, _):
        page = browser.new_page()
        page.on("request", lambda request: foreign.append(request.url))
        for path, word in (("", "Click a row"), ("/case?case=scan-refused", "onerror"),
                           ("/results", "Differences and thresholds")):  # fmt: skip
            page.goto(url + path)
            page.get_by_text(word).first.wait_for()
    local = (url, url.replace("http", "ws"), "data:", "blob:")
    assert [address for address in foreign if not address.startswith(local)] == []


def test_ctrl_c_ends_the_app_and_says_where_the_decisions_are(run):
    with served(run) as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "review.sqlite" in process.stdout.read()


def test_an_index_opens_with_pictures_labels_and_refusals(browser, tmp_path):
    index = write_xray_archive(tmp_path, patients=3)
    with served(SimpleNamespace(path=index), "--reader", "anna") as (url, _):
        page = browser.new_page()
        page.goto(url)
        page.get_by_text("1 of 6 cases are not analysed").wait_for()
        page.goto(f"{url}/case?case=c000")
        page.get_by_text("colour: channels differ").wait_for()
        page.goto(f"{url}/case?case=c002")
        page.get_by_role("heading", name="Labels").wait_for()
        page.locator(".viewer[data-loaded=all]").wait_for()
        page.get_by_role("button", name="Accept").first.click()
        page.get_by_text("accept, saved").wait_for()


def note_of(page):
    return page.get_by_label("Note").first


def type_note(page, text):
    from playwright.sync_api import expect  # the browser fixture has skipped where it is absent

    note_of(page).click()
    note_of(page).press("Control+a")
    page.keyboard.type(text)
    expect(note_of(page)).to_have_value(text)


def wait_until_saved(run, wanted):
    """Wait until the latest decision on the first mark is what the reader did."""
    store = open_store(run.review)
    found = None
    deadline = time.monotonic() + 15
    while found != wanted and time.monotonic() < deadline:
        decisions = [d for d in store.latest(case_id="scan-a") if d.mark_id == FIRST_MARK]
        found = (decisions[0].verdict, decisions[0].note) if decisions else None
    store.close()
    return found


FIRST_MARK = "at_-70.00_10.00_-80.00"


def open_case(browser, url, case="scan-a"):
    page = browser.new_page()
    page.goto(f"{url}/case?case={case}")
    page.get_by_text(f"Case {case}").wait_for()
    note_of(page).wait_for()
    # Until the page is drawn as a whole, its fields may be drawn anew and lose the focus.
    page.locator("[data-test-script-state='notRunning']").wait_for()
    return page


@pytest.mark.parametrize("delay_ms", [0, 10, 40])
def test_a_note_is_kept_when_a_verdict_is_clicked_right_after_typing(browser, run, delay_ms):
    from playwright.sync_api import expect  # the browser fixture has skipped where it is absent

    with served(run, "--reader", "anna") as (url, _):
        page = open_case(browser, url)
        for turn in range(20):
            label, verdict = (("Accept", "accept"), ("Reject", "reject"))[turn % 2]
            type_note(page, f"note {turn}")
            page.wait_for_timeout(delay_ms)
            page.get_by_role("button", name=label, exact=True).first.click()
            wanted = (verdict, f"note {turn}")
            assert wait_until_saved(run, wanted) == wanted
            page.get_by_role("button", name=f"{label}ed").first.wait_for()
            expect(note_of(page)).to_have_value(f"note {turn}")


@pytest.mark.parametrize(
    ("role", "name"),
    [("button", "Next case"), ("button", "Mark 2"), ("button", "Mark the case as reviewed"),
     ("button", "Sagittal"), ("link", "Worklist")],
)  # fmt: skip
def test_a_note_is_kept_when_anything_else_is_clicked_right_after_typing(browser, run, role, name):
    from playwright.sync_api import expect  # the browser fixture has skipped where it is absent

    with served(run, "--reader", "anna") as (url, _):
        page = open_case(browser, url)
        type_note(page, "spiculated")
        page.get_by_role(role, name=name).first.click()
        found = wait_until_saved(run, ("undecided", "spiculated"))
        assert found == ("undecided", "spiculated"), page.inner_text("body")
        page = open_case(browser, url)
        expect(note_of(page)).to_have_value("spiculated")


def test_a_stale_tab_undoes_nothing(browser, run):
    from playwright.sync_api import expect  # the browser fixture has skipped where it is absent

    with served(run, "--reader", "anna") as (url, _):
        stale, other = open_case(browser, url), open_case(browser, url)
        type_note(other, "vessel")
        other.get_by_role("button", name="Reject", exact=True).first.click()
        other.get_by_text("reject, saved").wait_for()
        stale.get_by_role("button", name="Accept", exact=True).first.click()
        stale.get_by_text("Your verdict was NOT saved").wait_for()
        assert wait_until_saved(run, ("reject", "vessel")) == ("reject", "vessel")
        expect(note_of(stale)).to_have_value("vessel")
        stale.get_by_role("button", name="Save mine instead").click()
        assert wait_until_saved(run, ("accept", "vessel")) == ("accept", "vessel")


def test_a_case_that_is_not_there_is_refused_and_the_worklist_is_one_click_away(browser, run):
    with served(run) as (url, _):
        page = browser.new_page()
        page.goto(f"{url}/case?case=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
        page.get_by_text("no case is named '<img src=x onerror=alert(1)>' here").wait_for()
        assert page.get_by_role("button", name="Accept").count() == 0
        page.get_by_role("link", name="Back to the worklist").click()
        page.get_by_role("heading", name="Worklist").wait_for()
        page.goto(f"{url}/no-such-page")
        page.get_by_text("Page not found").wait_for()


def test_the_app_opens_whatever_proxy_variables_are_set(browser, run, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served(run) as (url, _):
        again = browser.browser_type.launch(executable_path=chromium_path(), args=FLAGS)
        page = again.new_page()
        page.goto(url)
        page.get_by_role("heading", name="Worklist").wait_for()
        again.close()
