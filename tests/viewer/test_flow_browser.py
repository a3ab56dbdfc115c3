"""A session of reading in a real Chromium: by keyboard alone, by clicks on rows, over a reload."""

import time
from urllib.parse import parse_qs

import pytest

from medkd.review.store import open_store
from medkd.runs import write_cases
from tests.viewer import factory
from tests.viewer.browsing import served
from tests.viewer.test_slice_viewer import eventually, facts, press, wait_for_viewer

pytestmark = pytest.mark.slow

READ = ("scan-refused", "scan-a", "scan-gone", "xray-1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Write a run with a refused scan, marks, a scan that cannot be shown, and a radiograph."""
    run = factory.write_review_run(tmp_path_factory.mktemp("flow") / "run")
    write_cases(run.cases, [case for case in factory.build_cases() if case.case_id in READ])
    return run


@pytest.fixture(scope="module")
def url(run):
    with served(run, "--reader", "anna") as (address, _):
        yield address


def parameters(page):
    query = page.evaluate("location.search.slice(1)")
    return {name: values[0] for name, values in parse_qs(query).items()}


def at_case(page, name, *, after_finishing=True):
    """Wait until a case is open and drawn, and until it is too late for a double click."""
    page.get_by_text(f"Case {name} ").wait_for()
    page.locator("[data-test-script-state='notRunning']").wait_for()
    if name != "scan-gone":
        wait_for_viewer(page)
    if after_finishing:
        time.sleep(1.0)


def whole_verdicts(run):
    store = open_store(run.review)
    found = {d.case_id: d.verdict for d in store.latest(reader="anna") if d.mark_id == "case"}
    store.close()
    return found


def open_worklist(browser, url, size=(1366, 768)):
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(url)
    page.get_by_text("Click a row").first.wait_for()
    page.locator(".st-key-worklist canvas").first.wait_for()
    page.locator("[data-test-script-state='notRunning']").wait_for()
    return page


def click_row(page, row, *, x=500):
    """Click into a row of the table, counted from 1; rows are 35 px high."""
    box = page.locator(".st-key-worklist").bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + 35 * row + 17)


def test_a_click_anywhere_on_a_row_opens_its_case(browser, url):
    page = open_worklist(browser, url)
    for x in (40, 1200):
        click_row(page, 2, x=x)
        page.get_by_text("Case scan-a ").wait_for()
        page.get_by_role("button", name="Worklist").click()
        page.get_by_text("Click a row").first.wait_for()
        page.locator(".st-key-worklist canvas").first.wait_for()
        page.locator("[data-test-script-state='notRunning']").wait_for()


def test_window_planes_and_place_survive_a_reload_the_worklist_and_the_next_case(browser, url):
    page = open_worklist(browser, url)
    click_row(page, 2)
    wait_for_viewer(page)
    press(page, "3", "v", "Home", "PageDown")
    assert eventually(lambda: parameters(page).get("at", "").endswith(".11"))
    assert (parameters(page)["window"], parameters(page)["planes"]) == ("mediastinum", "three")
    before = facts(page)
    page.reload()
    wait_for_viewer(page)
    wanted = ("i", "j", "k", "level", "width", "layout")
    assert {name: facts(page)[name] for name in wanted} == {name: before[name] for name in wanted}
    press(page, "w")
    page.get_by_text("Click a row").first.wait_for()
    assert eventually(lambda: "at" not in parameters(page) and "window" in parameters(page))
    page.reload()
    click_row(open_worklist_again(page), 1)
    page.get_by_text("Case scan-refused ").wait_for()
    wait_for_viewer(page)
    found = facts(page)
    assert (found["layout"], found["width"]) == ("three", before["width"])
    assert found["k"] == "20"  # the middle: the place was that of another case


def open_worklist_again(page):
    page.get_by_text("Click a row").first.wait_for()
    page.locator(".st-key-worklist canvas").first.wait_for()
    page.locator("[data-test-script-state='notRunning']").wait_for()
    return page


def test_the_back_button_of_the_browser_goes_back_to_the_worklist(browser, url):
    page = open_worklist(browser, url)
    click_row(page, 2)
    page.get_by_text("Case scan-a ").wait_for()
    wait_for_viewer(page)
    for _ in range(2):
        page.go_back()
        page.wait_for_timeout(700)
    page.get_by_text("Click a row").first.wait_for()


WATCH = """(root) => {
  let host = root;
  while (!host.mounted) host = host.parentNode ?? host.host;
  const { viewer } = host.mounted;
  const send = viewer.sendSelected;
  window.events = [];
  viewer.sendSelected = (report) => { window.events.push("selected"); send(report); };
  document.addEventListener("click", () => window.events.push("click"), true);
}"""
"""Notes presses of buttons, and reports of the chosen ring until the page has answered."""


def test_nothing_else_is_sent_before_the_page_has_reacted_to_a_button(browser, url):
    page = open_worklist(browser, url)
    click_row(page, 2)
    at_case(page, "scan-a", after_finishing=False)
    page.locator(".viewer").evaluate(WATCH)
    press(page, "n", "e")  # it would be interrupted, and forgotten
    page.locator(".ask", has_text="marks are undecided").wait_for()
    assert page.evaluate("window.events") == ["click"]
    page.locator(".st-key-chosen_mark").wait_for()
    page.get_by_role("button", name="Mark 2").locator("xpath=self::*[@kind='primary']").wait_for()


def test_a_session_is_read_by_keyboard_alone(browser, run, url):
    page = open_worklist(browser, url)
    page.keyboard.press("s")
    at_case(page, "scan-refused", after_finishing=False)
    press(page, "e")
    at_case(page, "scan-a")
    press(page, "y", "n", "e")  # the second mark is undecided
    asked = page.locator(".ask", has_text="1 mark is undecided. Mark the case as reviewed?")
    asked.wait_for()
    press(page, "n")
    page.locator(".ask").wait_for(state="hidden")
    page.locator("[data-test-script-state='notRunning']").wait_for()
    press(page, "n", "p", "x", "e")
    at_case(page, "xray-1")
    press(page, "e")  # an image is reviewed by a verdict
    page.get_by_text("Accept or reject the image first.").wait_for()
    press(page, "x", "e")
    at_case(page, "scan-gone")
    page.keyboard.press("b")
    at_case(page, "xray-1", after_finishing=False)
    press(page, "f")
    at_case(page, "scan-gone", after_finishing=False)
    page.keyboard.press("e")
    page.get_by_text("No other case of this list is unread.").wait_for()
    scans = {name: "reviewed" for name in READ if name.startswith("scan")}
    assert whole_verdicts(run) == {**scans, "xray-1": "reject"}
