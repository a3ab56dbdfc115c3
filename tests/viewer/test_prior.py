"""Another scan of the patient beside the current one, in the pages and in a real Chromium."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import prior
import pytest

from medkd.review.opened import open_review
from medkd.review.store import Decision, open_store
from medkd.types import RunCase
from tests.viewer import two_scans
from tests.viewer.browsing import served
from tests.viewer.factory import write_bare_run
from tests.viewer.test_pages import launch, scene_of, texts  # noqa: F401  # a fixture
from tests.viewer.test_slice_viewer import eventually, facts, press, settle, wait_for_viewer

PRIOR = ".pane.prior[data-plane=axial]"
MARK = "added_0123456789abcdef"


@pytest.fixture(scope="module")
def scans():
    return two_scans.build_scans()


@pytest.fixture(scope="module")
def index(scans, tmp_path_factory):
    """Write the archive, with a nodule that the reader added to the earlier scan."""
    index = two_scans.write_two_scans(tmp_path_factory.mktemp("two"), scans=scans)
    store = open_store(open_review(index).decisions)
    nodule = Decision("before", MARK, "anna", "undecided", center_mm=(77.0, -8.0, 400.0),
                      diameter_mm=9.0)  # fmt: skip
    store.add_nodule(nodule)
    store.close()
    return index


@pytest.fixture(scope="module")
def server(index):
    with served(SimpleNamespace(path=index), "--reader", "anna") as (url, _):
        yield url


def open_case(browser, server, case="now"):
    page = browser.new_page()
    page.set_viewport_size({"width": 1366, "height": 768})
    page.goto(f"{server}/case?case={case}")
    wait_for_viewer(page)
    return page


def show_prior(page):
    press(page, "j")
    wait_for_prior(page)


def wait_for_prior(page):
    page.locator(f"{PRIOR}[data-number]").wait_for()
    assert eventually(lambda: "loading" not in title(page))
    settle(page)


def title(page):
    return page.locator(f"{PRIOR} .title").inner_text()


def numbers(page):
    """Return the slices of both scans, counted from 0."""
    return int(facts(page)["k"]), int(page.locator(PRIOR).get_attribute("data-number"))


def z_mm(grid, number):
    return float(grid.voxel_to_world((0, 0, number))[2])


def test_the_scene_names_the_other_scan_and_loads_it_only_when_asked(index, launch):  # noqa: F811
    scene = scene_of(launch(open_review(index), "case.py", case="now"))
    found = scene["prior"]
    assert (found["id"], found["name"], found["when"]) == (
        "before", "Prior", "91 days (3 months) before",
    )  # fmt: skip
    assert found["choices"] == [
        {"id": "before", "words": "91 days (3 months) before, 36 slices, 6 mm, B50f"},
        {"id": "refused", "words": "50 days before, refused"},
    ]
    assert found["volume"] is None
    assert "rings" not in found
    assert "DOE" not in json.dumps(scene)
    assert scene_of(launch(open_review(index), "case.py", case="alone"))["prior"] is None
    later = scene_of(launch(open_review(index), "case.py", case="before"))["prior"]
    assert (later["name"], later["when"]) == ("Other scan", "91 days (3 months) after")


def test_a_run_whose_cases_come_from_an_index_shows_the_other_scan_too(index, tmp_path, launch):  # noqa: F811
    scan = RunCase("now", "p1", "scan", str(index), "test", None, 1, 0.9, "analysed")
    run = write_bare_run(tmp_path / "run", [scan])
    assert scene_of(launch(run, "case.py", case="now"))["prior"]["id"] == "before"


def test_an_index_that_was_changed_leaves_the_scan_visible_and_says_so(scans, tmp_path, launch):  # noqa: F811
    index = two_scans.write_two_scans(tmp_path, scans=scans)
    scan = RunCase("now", "p1", "scan", str(index), "test", None, 1, 0.9, "analysed")
    run = write_bare_run(tmp_path / "run", [scan])
    index.write_text(index.read_text() + "\n")
    app = launch(run, "case.py", case="now")
    assert scene_of(app)["prior"] is None
    assert "Whether the patient has other scans is not known." in texts(app.warning)
    assert "its tables were changed" in texts(app.text)


def test_only_nodules_that_the_reader_accepted_or_added_are_rings_of_the_other_scan():
    fresh = Decision("before", "a", "anna", "accept", center_mm=(1, 2, 3), diameter_mm=8.0)
    rings = prior.decided_rings(
        [
            fresh,
            replace(fresh, mark_id=MARK, verdict="added", diameter_mm=None),
            replace(fresh, mark_id="b", verdict="reject"),
            replace(fresh, mark_id="added_0", verdict="undecided"),
            replace(fresh, mark_id="case", center_mm=None),
        ]
    )
    assert [(ring.group, ring.words) for ring in rings] == [
        ("mark", "accepted 8.0 mm"), ("added", "added"),
    ]  # fmt: skip


def test_both_scans_scroll_together_until_they_are_unlinked(browser, server):
    page = open_case(browser, server)
    show_prior(page)
    assert title(page).startswith("Prior, 91 days (3 months) before\nAxial ")
    assert title(page).endswith("linked by the lungs")
    now, before = numbers(page)
    here, there = two_scans.NOW, two_scans.BEFORE
    # It opens on the nodule, which is at half of the upper lung in both scans.
    assert z_mm(here, now) == pytest.approx(50, abs=4)
    assert z_mm(there, before) == pytest.approx(440, abs=6)
    press(page, "PageUp")
    moved = numbers(page)
    assert moved[0] == now - 10
    assert z_mm(there, moved[1]) == pytest.approx(z_mm(there, before) - 70, abs=6)
    press(page, "k")
    assert title(page).endswith("not linked")
    press(page, "ArrowDown", "ArrowDown")
    assert numbers(page) == (moved[0] + 2, moved[1])
    box = page.locator(PRIOR).bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 200)
    page.mouse.wheel(0, 100)
    settle(page)
    assert numbers(page) == (moved[0] + 2, moved[1] + 1)
    press(page, "k")  # from now on with the shift that the reader has chosen
    assert title(page).endswith("linked by the reader")
    press(page, "Home")
    shift_mm = z_mm(there, moved[1] + 1) - z_mm(here, moved[0] + 2)
    wanted = np.clip((z_mm(here, 0) + shift_mm - z_mm(there, 0)) / 6, 0, 35)
    assert numbers(page) == (0, pytest.approx(wanted, abs=0.6))


def reading(page, x, y):
    page.mouse.move(x, y)
    settle(page)
    text = page.locator(".readout").inner_text()
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    return text, int(numbers[0]), tuple(map(float, numbers[1:4]))


def test_each_pane_shows_its_own_voxels_at_the_same_scale(browser, server, scans):
    page = open_case(browser, server)
    show_prior(page)
    left = page.locator(".pane[data-plane=axial]:not(.prior)").bounding_box()
    right = page.locator(PRIOR).bounding_box()
    assert left["width"] == pytest.approx(right["width"], abs=2)
    assert left["height"] == right["height"]
    for _ in range(2):
        places = []
        for dx, dy in ((0, 0), (120, -90), (-140, 80)):
            for box, scan in ((left, scans[0]), (right, scans[1])):
                x = box["x"] + box["width"] / 2 + dx
                text, hu, mm = reading(page, x, box["y"] + box["height"] / 2 + dy)
                assert text.startswith("Prior: ") == (scan is scans[1])
                voxel = np.round(scan.grid.world_to_voxel(mm)).astype(int)
                assert hu == scan.voxels_hu[tuple(voxel)]
                places.append(mm)
        # The same way on the screen is the same way in the body, within two voxels.
        ways = [np.subtract(places[n], places[n % 2]) for n in range(2, 6)]
        np.testing.assert_allclose(ways[0][:2], ways[1][:2], atol=11)
        np.testing.assert_allclose(ways[2][:2], ways[3][:2], atol=11)
        page.keyboard.down("Control")
        page.mouse.wheel(0, -200)  # over the other scan: both zoom
        page.keyboard.up("Control")
        settle(page)


def test_dragging_the_other_scan_moves_both_or_only_itself_when_unlinked(browser, server):
    page = open_case(browser, server)
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    show_prior(page)
    left = page.locator(".pane[data-plane=axial]:not(.prior)").bounding_box()
    right = page.locator(PRIOR).bounding_box()

    def places():
        """Return the LPS mm in the middle of both panes."""
        middles = [(box["x"] + box["width"] / 2, box["y"] + 300) for box in (left, right)]
        return [np.array(reading(page, *middle)[2][:2]) for middle in middles]

    def drag_right():
        page.mouse.move(right["x"] + 100, right["y"] + 300)
        page.mouse.down(button="right")
        page.mouse.move(right["x"] + 180, right["y"] + 300, steps=3)
        page.mouse.up(button="right")
        settle(page)

    start = places()
    drag_right()
    moved = places()
    assert moved[0][0] < start[0][0] - 30
    assert moved[1][0] < start[1][0] - 30
    press(page, "k")
    drag_right()
    alone = places()
    assert alone[0][0] == moved[0][0]
    assert alone[1][0] < moved[1][0] - 30
    assert faults == []


def test_the_window_is_the_same_and_planes_change_together(browser, server):
    page = open_case(browser, server)
    show_prior(page)
    shot = page.locator(f"{PRIOR} .image").screenshot()
    press(page, "2")
    assert page.locator(f"{PRIOR} .image").screenshot() != shot
    page.get_by_role("button", name="Coronal").click()
    settle(page)
    assert page.locator(".pane.prior[data-plane=coronal]").is_visible()
    assert page.locator(".pane:visible").count() == 2
    press(page, "v")  # three planes of the current scan alone
    assert page.locator(".pane.prior:visible").count() == 0
    press(page, "j")
    assert page.locator(".pane:visible").count() == 2
    press(page, "j")
    assert page.locator(".pane:visible").count() == 1
    press(page, "j")  # from the browser's memory
    assert page.locator(".pane:visible").count() == 2


def test_the_screen_is_filled_and_the_other_scan_comes_with_the_next_case(browser, server):
    page = open_case(browser, server)
    show_prior(page)
    for width, height in ((1366, 768), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        settle(page)
        box = page.locator(".planes").bounding_box()
        assert box["height"] >= 0.66 * height
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("(main) => main.scrollHeight - main.clientHeight") <= 0
    page.get_by_role("button", name="Previous case").click()  # the earlier scan itself
    page.get_by_text("Case before").wait_for()
    page.locator(f"{PRIOR} .title", has_text="Other scan, 91 days (3 months) after").wait_for()


def test_rings_of_the_other_scan_show_and_nothing_is_decided_on_it(browser, server, index):
    page = open_case(browser, server)
    show_prior(page)

    def drawn():
        return page.locator(f"{PRIOR} .overlay").evaluate(
            """(canvas) => { const data = canvas.getContext("2d").getImageData(
                0, 0, canvas.width, canvas.height * 0.9).data;
                return data.filter((value, place) => place % 4 === 3 && value > 127).length; }"""
        )

    assert drawn() > 50  # the reference nodule of the earlier scan
    press(page, "h")
    assert drawn() == 0
    press(page, "h")
    box = page.locator(PRIOR).bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    press(page, "a")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 30, middle[1], steps=3)
    page.mouse.up()
    settle(page)
    assert facts(page)["draft"] == ""
    press(page, "Escape", "n", "x", "y")
    page.get_by_label("Note").first.fill("looked at")
    page.get_by_label("Note").first.press("Enter")
    page.get_by_text("undecided, saved").wait_for()
    store = open_store(open_review(index).decisions)
    rows = [row for row in store.history() if row.case_id == "before"]
    store.close()
    assert [row.mark_id for row in rows] == [MARK]


def test_a_refused_scan_can_be_chosen_and_says_why_it_is_not_shown(browser, server):
    page = open_case(browser, server)
    show_prior(page)
    page.get_by_label("Other scan of the patient").select_option("refused")
    page.locator(".beside .note", has_text=two_scans.REASON).wait_for()
    assert page.locator(".pane:visible").count() == 1
    page.get_by_label("Other scan of the patient").select_option("before")
    wait_for_prior(page)
    press(page, "PageUp", "k", "Home")  # the keys are those of the slices again
    assert title(page).endswith("not linked")


def test_where_the_other_scan_ends_the_page_says_so(browser, server):
    page = open_case(browser, server, "before")
    show_prior(page)  # the current scan is taller
    press(page, "k")
    box = page.locator(PRIOR).bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 200)
    page.mouse.wheel(0, 100)
    page.wait_for_selector(f"{PRIOR}.active")  # an event of the wheel arrives late
    press(page, "End", "k", "ArrowDown")
    assert page.locator(f"{PRIOR} .wait").inner_text() == "beyond the end of this scan"
    assert page.locator(PRIOR).get_attribute("data-number") == "39"
    press(page, "ArrowUp")
    assert page.locator(f"{PRIOR} .wait").is_hidden()


def test_voxels_of_the_other_scan_go_only_to_the_reader_who_has_it_open(browser, server):
    reader = browser.new_context()
    page = open_case(reader, server)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    show_prior(page)
    slabs = [url for url in asked if "/voxels/" in url]
    assert len(slabs) == len(set(slabs)) == 4
    assert reader.request.get(slabs[0]).status == 200
    stranger = browser.new_context()
    assert stranger.request.get(slabs[0]).status == 403
    open_case(stranger, server)  # the same case, without the other scan
    assert stranger.request.get(slabs[0]).status == 403
    page.goto(f"{server}/case?case=alone")
    wait_for_viewer(page)
    assert eventually(lambda: reader.request.get(slabs[0]).status == 403)
    assert page.locator("button[data-key=j]").is_hidden()
    assert not [url for url in asked for word in ("before", "DOE") if word in url]
