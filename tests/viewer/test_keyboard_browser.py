"""Adding and correcting a nodule by keyboard alone in a real Chromium, with reloads between."""

import numpy as np
import pytest

from medkd.review.store import open_store
from tests.viewer import factory
from tests.viewer.browsing import served
from tests.viewer.test_slice_viewer import facts, press, wait_for_viewer

pytestmark = pytest.mark.slow

FIRST_MARK = "at_-70.00_10.00_-80.00"
SPACING_MM = np.asarray(factory.GRID.spacing_mm)


@pytest.fixture
def opened(tmp_path, browser):
    """Open the case with two marks above the threshold; yields its run and page."""
    run = factory.write_review_run(tmp_path / "run")
    with served(run, "--reader", "anna") as (url, _):
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(f"{url}/case?case=scan-a")
        wait_for_viewer(page)
        yield run, page


def reload(page):
    page.reload()
    wait_for_viewer(page)


def wait_for_mark(page, words):
    page.locator(".mark", has_text=words).wait_for()


def rows(run):
    store = open_store(run.review)
    found = store.history()
    store.close()
    return found


def test_a_nodule_is_added_resized_withdrawn_and_restored_by_keys(opened):
    run, page = opened
    start = np.array([int(facts(page)[axis]) for axis in "ijk"])
    press(page, "A", *["ArrowLeft"] * 3, "ArrowDown", "PageDown", *["+"] * 4)
    wait_for_mark(page, "New nodule: 8.0 mm")
    assert rows(run) == []  # nothing is saved before Enter
    press(page, "Enter")
    page.locator(".verdict", has_text="added, saved").wait_for()
    (added,) = rows(run)
    place = factory.GRID.voxel_to_world(start + np.array([-3, 1, 1]))
    np.testing.assert_allclose(added.center_mm, place, atol=0.006)
    assert (added.verdict, added.diameter_mm) == ("added", 8.0)
    reload(page)
    wait_for_mark(page, "Added nodule 1 (3 of 3), 8.0 mm")  # the place in the address is its own
    press(page, "R", "-", "ArrowRight")
    wait_for_mark(page, "Correction: 7.5 mm")
    press(page, "Enter")
    wait_for_mark(page, "7.5 mm")
    page.get_by_role("button", name="Added 1, 7.5 mm").wait_for()
    reload(page)
    press(page, "x")
    page.get_by_role("button", name="Added 1").wait_for(state="hidden")
    reload(page)
    press(page, "u")
    page.get_by_role("button", name="Added 1, 7.5 mm").wait_for()
    moved = np.asarray(rows(run)[-1].center_mm) - place
    np.testing.assert_allclose(moved, [SPACING_MM[0], 0, 0], atol=0.006)
    assert [(d.verdict, d.diameter_mm) for d in rows(run)][-2:] == [
        ("undecided", 7.5), ("added", 7.5),
    ]  # fmt: skip


def test_the_diameter_of_a_mark_is_corrected_by_keys_and_taken_back(opened):
    run, page = opened
    press(page, "R", "+", "+", "+")
    wait_for_mark(page, "Correction: 17.5 mm")
    press(page, "y")  # decides nothing meanwhile
    page.get_by_text("Enter saves this ring, Esc discards it.").wait_for()
    press(page, "Escape")
    wait_for_mark(page, "Mark 1 (1 of 2), score 0.930, 16.0 mm")
    assert rows(run) == []
    press(page, "R", "+", "Enter")
    wait_for_mark(page, "16.5 mm")
    page.get_by_role("button", name="Mark 1: 0.930, 16.5 mm").wait_for()
    reload(page)
    wait_for_mark(page, "16.5 mm")
    press(page, "u")
    page.get_by_role("button", name="Mark 1: 0.930, 16.0 mm").wait_for()
    assert [(d.mark_id, d.diameter_mm) for d in rows(run)] == [
        (FIRST_MARK, 16.5), (FIRST_MARK, None),
    ]  # fmt: skip


def test_a_nodule_is_not_moved_out_of_the_scan(opened):
    _, page = opened
    press(page, "Home", "A", "PageUp")
    page.get_by_text("Outside the scan.").wait_for()
    assert facts(page)["k"] == "0"
    press(page, *["-"] * 20)
    wait_for_mark(page, "New nodule: 1.0 mm")
