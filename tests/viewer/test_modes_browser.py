"""The reading modes in a real Chromium: a locked first read, two blinded readers, adjudication."""

import contextlib
import json
from dataclasses import replace

import pytest

from medkd.review.store import Decision, open_store
from tests.viewer import factory
from tests.viewer.browsing import FLAGS, chromium_path, served
from tests.viewer.test_slice_viewer import facts, press

pytestmark = pytest.mark.slow

FIRST_MARK = "at_-70.00_10.00_-80.00"
NODULE = Decision("scan-a", "added_0011223344556677", "anna", "added", diameter_mm=8.0,
                  center_mm=factory.NODULES[1][0])  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def run(tmp_path):
    return factory.write_review_run(tmp_path / "run")


@contextlib.contextmanager
def history_of(run):
    store = open_store(run.review, two_reads=True)
    yield store
    store.close()


@pytest.fixture
def open_case(chromium):
    """Open a case, and note everything that the server sends to the browser."""

    def open_tab(url, case):
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        page.sent = []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda f: note(page, f)))
        page.goto(f"{url}/case?case={case}")
        wait_until_drawn(page)
        return page

    return open_tab


def note(page, frame):
    page.sent.append(frame if isinstance(frame, bytes) else frame.encode())


def wait_until_drawn(page):
    page.locator(".viewer[data-loaded=all]").wait_for()
    page.locator("[data-test-script-state='notRunning']").wait_for()


def tells_marks(page):
    sent = b"".join(page.sent)
    return FIRST_MARK.encode() in sent or b"0.93" in sent


def test_a_first_read_shows_no_mark_in_any_tab_and_is_locked_for_all(run, open_case):
    with history_of(run) as store:
        store.add_nodule(NODULE)
    with served(run, "--reader", "anna", "--mode", "second-reader") as (url, _):
        page, other = open_case(url, "scan-a"), open_case(url, "scan-a")
        page.get_by_text("Marks are not shown").or_(page.get_by_text("Added nodule 1")).wait_for()
        add_nodule(page)
        page.get_by_role("button", name="Added 2").wait_for()
        page.reload()
        page.get_by_role("button", name="Added 2").wait_for()
        wait_until_drawn(page)
        assert not tells_marks(page)
        page.get_by_role("button", name="Finish the first read").click()
        page.get_by_role("button", name="Finish it and show the marks").click()
        page.get_by_role("button", name="Mark 1: 0.930").wait_for()
        assert tells_marks(page)
        assert not tells_marks(other)
        page.get_by_role("button", name="Added 1").click()
        page.get_by_text("cannot be changed any more").wait_for()
        page.locator(".mark", has_text="Added nodule 1").wait_for()  # chosen in the slices too
        page.locator(".viewer").press("x")
        page.get_by_text("Locked: it belongs to your first read.").wait_for()
        other.get_by_role("button", name="Withdraw", exact=True).first.click()
        other.get_by_text("Your verdict was NOT saved").wait_for()
        other.get_by_text("anna has finished the first read").wait_for()
    with history_of(run) as store:
        assert [(d.verdict, d.read) for d in store.history()] == [
            ("added", "first"), ("added", "first"), ("finished", "first"),
        ]  # fmt: skip


def test_the_first_revealed_mark_is_chosen_and_shown(run, open_case):
    with history_of(run) as store:
        store.add_nodule(NODULE)  # it is chosen in the first read
    with served(run, "--reader", "anna", "--mode", "second-reader") as (url, _):
        page = open_case(url, "scan-a")
        page.get_by_text("Added nodule 1").wait_for()
        press(page, "Home", "e")
        page.locator(".ask", has_text="Finish the first read of this case").wait_for()
        press(page, "n")
        page.locator(".ask").wait_for(state="hidden")
        assert not tells_marks(page)
        press(page, "e")
        page.locator(".ask", has_text="y: yes, n: no").wait_for()
        press(page, "y")
        page.locator(".mark", has_text="Mark 1 (1 of 3), score 0.930").wait_for()
        wanted = factory.GRID.world_to_voxel(factory.NODULES[0][0]).round().astype(int)
        assert [int(facts(page)[axis]) for axis in "ijk"] == list(wanted)
        page.get_by_role("button", name="Accept", exact=True).wait_for()  # beside the slices too
        press(page, "x")
        page.get_by_text("reject, saved").wait_for()
    with history_of(run) as store:
        found = [(d.mark_id, d.verdict, d.read) for d in store.history()]
    assert found[1:] == [("first_read", "finished", "first"), (FIRST_MARK, "reject", "second")]


def test_both_reads_of_an_x_ray_are_finished_by_keyboard(run, open_case):
    with served(run, "--reader", "anna", "--mode", "second-reader") as (url, _):
        page = open_case(url, "xray-1")
        press(page, "e")
        page.get_by_text("Accept or reject the image first.").wait_for()
        press(page, "y", "e")
        page.locator(".ask", has_text="Finish the first read of this case").wait_for()
        press(page, "y")
        page.get_by_role("heading", name="Probability").wait_for()
        wait_until_drawn(page)
        assert "accepted, saved" in page.locator(".verdict").inner_text()
        press(page, "e")
        page.get_by_text("Accept or reject the image in the second read too.").wait_for()
        page.get_by_text("Case xray-1 (image, test): begun").wait_for()
        press(page, "y")  # the same verdict as in the first read
        page.get_by_text("Case xray-1 (image, test): reviewed").wait_for()
        press(page, "e")
        page.get_by_text("Case xray-1 ").wait_for(state="hidden")
    with history_of(run) as store:
        assert [(d.verdict, d.read) for d in store.history()] == [
            ("accept", "first"), ("finished", "first"), ("accept", "second"),
        ]  # fmt: skip


def add_nodule(page):
    """Add a nodule in the middle of the axial slice by two clicks."""
    box = page.locator(".pane").first.bounding_box()
    page.locator(".pane").first.click()
    page.keyboard.press("a")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y, steps=4)
    page.mouse.up()


def test_two_blinded_readers_see_neither_scores_nor_each_others_decisions(chromium, run, tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text("mode: blinded\nreaders: {name_from: choice, names: [anna, ben]}\n")
    with served(run, "--config", str(config)) as (url, _):
        for name, button in (("anna", "Accept"), ("ben", "Reject")):
            page = chromium.new_page(viewport={"width": 1366, "height": 768})
            page.goto(f"{url}/case?case=scan-a")
            choose_reader(page, name)
            page.get_by_role("button", name=button, exact=True).first.wait_for()
            assert page.get_by_text("ed, saved").count() == 0
            assert page.get_by_text("score first").count() == 0
            assert page.get_by_role("link", name="Results").count() == 0
            page.get_by_role("button", name=button, exact=True).first.click()
            page.get_by_text(f"{button.lower()}, saved").first.wait_for()
            page.close()
        page = chromium.new_page()
        page.goto(f"{url}/results")
        page.get_by_text("Page not found").wait_for()
    with history_of(run) as store:
        assert {(d.reader, d.verdict, d.score) for d in store.latest()} == {
            ("anna", "accept", None), ("ben", "reject", None),
        }  # fmt: skip


def choose_reader(page, name):
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_label("Your name").click()
    page.get_by_role("option", name=name).click()


def test_the_adjudicator_settles_a_difference_and_nobody_else_sees_it(chromium, run, tmp_path):
    mark = Decision("scan-a", FIRST_MARK, "anna", "accept", center_mm=factory.NODULES[0][0],
                    diameter_mm=16.0)  # fmt: skip
    with history_of(run) as store:
        store.add(mark)
        store.add(replace(mark, reader="ben", verdict="reject"))
    out = tmp_path / "joined.json"
    config = tmp_path / "adjudication.yaml"
    config.write_text(
        "mode: adjudication\n"
        "readers: {name_from: choice, names: [anna, ben, chief], adjudicator: chief}\n"
    )
    with served(run, "--config", str(config)) as (url, _):
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        page.goto(f"{url}/?case=scan-a")
        choose_reader(page, "ben")
        page.get_by_text("for the adjudicator only").wait_for()
        assert page.get_by_role("button", name="Accept").count() == 0
        page = chromium.new_page(viewport={"width": 1366, "height": 768})
        page.goto(url)
        choose_reader(page, "chief")
        page.get_by_role("button", name="Open the next case to decide on").click()
        page.locator(".viewer[data-loaded=all]").wait_for()
        page.get_by_text("Case scan-a (scan): 0 of 1 decided").wait_for()
        page.locator(".pane").first.click()
        page.keyboard.press("x")
        page.get_by_text("Case scan-a (scan): 1 of 1 decided").wait_for()
    export(run, out)
    marks = json.loads(out.read_text())["marks"]
    assert [(one["verdict"], one["readers"]) for one in marks] == [("rejected", ["chief"])]


def export(run, out):
    from typer.testing import CliRunner

    from medkd.cli import app

    words = ["review", str(run.path), "--export", str(out), "--adjudicator", "chief"]
    assert CliRunner().invoke(app, words).exit_code == 0
