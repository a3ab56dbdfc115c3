"""The slice viewer in the real app and a real Chromium: pixels, keys, decisions, the route."""

import os
import re
import signal
import time

import display
import numpy as np
import pytest

from medkd.review.store import open_store
from tests.viewer import factory, oblique
from tests.viewer.browsing import served

pytestmark = pytest.mark.slow

MARKS = (((20, 30, 12), 0.9, 14.0), ((45, 20, 22), 0.7, 8.0), ((10, 40, 5), 0.5, 6.0))
CASES = {pose: f"scan-{pose.replace(' ', '-')}" for pose in oblique.POSES}


@pytest.fixture(scope="module")
def scans():
    return [oblique.build_scan(name, pose=pose) for pose, name in CASES.items()]


@pytest.fixture(scope="module")
def server(scans, tmp_path_factory):
    """Serve four tilted scans, in four poses, for tests that decide nothing."""
    path = tmp_path_factory.mktemp("oblique") / "run"
    with served(oblique.write_run(path, scans, marks=MARKS), "--reader", "anna") as (url, _):
        yield url


@pytest.fixture
def deciding(tmp_path, scans):
    """Serve one scan, for tests that decide; yields the run, the address and the process."""
    tilted = oblique.write_run(tmp_path / "run", scans[:1], marks=MARKS)
    with served(tilted, "--reader", "anna") as (url, process):
        yield tilted, url, process


def open_viewer(browser, url, case="scan-supine", size=(1366, 768)):
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(f"{url}/case?case={case}")
    wait_for_viewer(page)
    return page


def wait_for_viewer(page):
    page.locator(".viewer[data-loaded=all]").wait_for()
    page.locator("[data-test-script-state='notRunning']").wait_for()
    height = "document.documentElement.style.getPropertyValue('--medkd-reading-height')"
    assert eventually(lambda: page.evaluate(height))


def settle(page):
    """Wait until the viewer has drawn what was asked of it."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)
    settle(page)


def facts(page):
    return page.locator(".viewer").evaluate("(viewer) => ({...viewer.dataset})")


def place_of(page, plane, index):
    """Return the screen position of a voxel's middle, from the size of the pane alone."""
    box = page.locator(f".pane[data-plane={plane.name}]").bounding_box()
    spacing = oblique.SPACING_MM
    size = [oblique.SHAPE[axis] for axis in (plane.across, plane.down)]
    mm = [size[0] * spacing[plane.across], size[1] * spacing[plane.down]]
    px_per_mm = min(box["width"] / mm[0], box["height"] / mm[1])
    down = index[plane.down]
    row = size[1] - 1 - down if plane.upward else down
    across_mm = (index[plane.across] + 0.5) * spacing[plane.across] - mm[0] / 2
    down_mm = (row + 0.5) * spacing[plane.down] - mm[1] / 2
    x = box["x"] + box["width"] / 2 + across_mm * px_per_mm
    return x, box["y"] + box["height"] / 2 + down_mm * px_per_mm, px_per_mm


def reading(page, plane, index):
    """Hover over a voxel and return the HU and LPS mm that are shown."""
    page.mouse.move(*place_of(page, plane, index)[:2])
    settle(page)
    text = page.locator(".readout").inner_text()
    hu, x, y, z = map(float, re.findall(r"-?\d+(?:\.\d+)?", text))
    return hu, (x, y, z)


def show_voxel(page, index):
    """Show a voxel in all three planes."""
    press(page, "Home", *["ArrowDown"] * index[2])
    page.mouse.click(*place_of(page, display.PLANES[0], index)[:2])
    settle(page)


@pytest.mark.parametrize("pose", oblique.POSES)
def test_hu_and_millimetres_under_the_cursor_are_those_of_the_scan(browser, server, scans, pose):
    scan = scans[list(oblique.POSES).index(pose)]
    stack = display.build_axial_stack(scan.voxels_hu, scan.grid)
    page = open_viewer(browser, server, CASES[pose])
    press(page, "v")
    rng = np.random.default_rng(3)
    for _ in range(5):
        index = [int(rng.integers(2, count - 2)) for count in oblique.SHAPE]
        show_voxel(page, index)
        place_mm = stack.grid.voxel_to_world(index)
        stored = tuple(np.round(scan.grid.world_to_voxel(place_mm)).astype(int))
        for plane in display.PLANES:
            hu, mm = reading(page, plane, index)
            assert hu == scan.voxels_hu[stored]
            np.testing.assert_allclose(mm, place_mm, atol=0.051)


def test_the_reading_follows_the_slice_and_the_slab_under_a_resting_pointer(browser, server, scans):
    stack = display.build_axial_stack(scans[0].voxels_hu, scans[0].grid)
    page = open_viewer(browser, server)
    axial = display.PLANES[0]
    press(page, "Home")
    reading(page, axial, (20, 30, 0))
    press(page, "PageDown")
    text = page.locator(".readout").inner_text()
    assert text.startswith(f"{stack.voxels_hu[20, 30, 10]} HU at ")
    press(page, "m")  # 10 mm of slices of 2.5 mm: 8 to 11, counted from 0
    text = page.locator(".readout").inner_text()
    assert text.startswith(f"max {stack.voxels_hu[20, 30, 8:12].max()} HU at ")


def test_a_slab_has_the_same_thickness_in_all_planes(browser, server):
    page = open_viewer(browser, server)
    press(page, "v", "m", "+", "+")  # six axial slices of 2.5 mm
    assert page.locator(".thickness").inner_text() == "15.0 mm"
    box = page.locator(".pane[data-plane=sagittal]").bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + 40)
    settle(page)
    # 17 sagittal layers of 0.9 mm are nearest to 15 mm.
    assert page.locator(".thickness").inner_text() == "15.3 mm"


def test_the_patients_right_side_is_left_in_every_pose(browser, server):
    for pose, name in CASES.items():
        page = open_viewer(browser, server, name)
        press(page, "v")
        letters = page.locator(".pane[data-plane=axial] .letter").all_inner_texts()
        assert letters[:2] == ["R", "L"], pose
        (_, left), (_, right) = (
            reading(page, display.PLANES[0], (i, 20, int(facts(page)["k"]))) for i in (5, 55)
        )
        assert right[0] > left[0]
        page.close()


def canvas_pixels(page, plane, kind, points):
    """Return the RGBA of screen positions in a canvas of a pane."""
    box = page.locator(f".pane[data-plane={plane.name}]").bounding_box()
    inside = [[x - box["x"], y - box["y"]] for x, y in points]
    read = """(canvas, points) => { const context = canvas.getContext("2d");
        const ratio = canvas.width / canvas.clientWidth;
        return points.map(([x, y]) => Array.from(context.getImageData(
            Math.floor(x * ratio), Math.floor(y * ratio), 1, 1).data)); }"""
    return page.locator(f".pane[data-plane={plane.name}] .{kind}").evaluate(read, inside)


def test_the_canvas_shows_the_windowed_voxels(browser, server, scans):
    stack = display.build_axial_stack(scans[0].voxels_hu, scans[0].grid)
    page = open_viewer(browser, server)
    axial = display.PLANES[0]
    rng = np.random.default_rng(4)
    for key, name in zip("1234", display.WINDOWS, strict=True):
        table = display.build_look_up(display.WINDOWS[name])
        number = int(rng.integers(0, 30))
        press(page, "h", key, "Home", *["ArrowDown"] * number)
        voxels = [(int(rng.integers(0, 64)), int(rng.integers(0, 56)), number) for _ in range(50)]
        points = [place_of(page, axial, voxel)[:2] for voxel in voxels]
        shown = [pixel[0] for pixel in canvas_pixels(page, axial, "image", points)]
        assert shown == [int(table[int(stack.voxels_hu[voxel]) + 32768]) for voxel in voxels]
        press(page, "h")


def test_rings_have_the_place_and_diameter_of_their_marks(browser, server):
    page = open_viewer(browser, server)
    press(page, "v", "n", "p")
    index, _, diameter_mm = MARKS[0]
    for plane in display.PLANES:
        x, y, px_per_mm = place_of(page, plane, index)
        radius = diameter_mm / 2 * px_per_mm
        for angle in np.radians([45, 135, 225, 315]):  # beside the crosshair
            steps = np.arange(radius - 6, radius + 6, 0.5)
            line = [(x + np.cos(angle) * r, y + np.sin(angle) * r) for r in steps]
            alpha = np.array([pixel[3] for pixel in canvas_pixels(page, plane, "overlay", line)])
            inner = steps[np.flatnonzero(alpha > 127)[0]]
            assert inner == pytest.approx(radius, abs=1.0)


def test_keys_and_wheel_scroll_and_never_the_page(browser, server):
    page = open_viewer(browser, server)
    moves = [("Home", 0), ("ArrowDown", 1), ("PageDown", 11), ("ArrowUp", 10), ("End", 29),
             ("PageUp", 19), ("PageDown", 29), ("ArrowDown", 29)]  # fmt: skip
    for key, expected in moves:
        press(page, key)
        assert facts(page)["k"] == str(expected)
    press(page, "Home")
    box = page.locator(".planes").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    for _ in range(3):
        page.mouse.wheel(0, 100)
    page.locator(".viewer[data-k='3']").wait_for()
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 0


def test_windows_are_chosen_dragged_inverted_and_reset(browser, server):
    page = open_viewer(browser, server)
    for key, window in zip("1234", display.WINDOWS.values(), strict=True):
        press(page, key)
        found = facts(page)
        assert (float(found["level"]), float(found["width"])) == (window.center_hu, window.width_hu)
    before = page.locator(".pane .image").first.screenshot()
    press(page, "i")
    assert page.locator("button[data-key=i]").get_attribute("aria-pressed") == "true"
    assert page.locator(".pane .image").first.screenshot() != before
    box = page.locator(".planes").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 200, steps=4)
    page.mouse.up()
    settle(page)
    assert float(facts(page)["width"]) > 2000
    press(page, "0")
    assert (facts(page)["level"], facts(page)["width"]) == ("-600", "1500")
    assert page.locator("button[data-key=i]").get_attribute("aria-pressed") == "false"


def test_zoom_keeps_the_place_under_the_cursor_and_the_right_button_moves_the_picture(
    browser, server
):
    page = open_viewer(browser, server)
    axial, voxel = display.PLANES[0], (40, 30, int(facts(page)["k"]))
    before = reading(page, axial, voxel)
    x, y, _ = place_of(page, axial, voxel)
    page.keyboard.down("Control")
    for _ in range(3):
        page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    settle(page)
    assert reading(page, axial, voxel) == before
    page.mouse.move(x, y)
    page.mouse.down(button="right")
    page.mouse.move(x + 80, y - 50, steps=4)
    page.mouse.up(button="right")
    settle(page)
    hu, mm = before
    assert (hu, *mm) == (*read_at(page, x + 80, y - 50),)


def read_at(page, x, y):
    page.mouse.move(x, y)
    settle(page)
    text = page.locator(".readout").inner_text()
    return tuple(map(float, re.findall(r"-?\d+(?:\.\d+)?", text)))


def test_a_ruler_measures_millimetres_and_can_be_removed(browser, server):
    page = open_viewer(browser, server)
    press(page, "l")
    axial, k = display.PLANES[0], int(facts(page)["k"])
    page.mouse.move(*place_of(page, axial, (10, 10, k))[:2])
    page.mouse.down()
    page.mouse.move(*place_of(page, axial, (40, 50, k))[:2], steps=4)
    page.mouse.up()
    settle(page)
    # 30 columns of 0.9 mm and 40 rows of 0.7 mm: sqrt(27^2 + 28^2) = 38.9 mm.
    assert facts(page)["ruler"] == "38.9 mm"
    press(page, "Backspace", "l")
    assert facts(page)["ruler"] == ""


def test_an_oblique_scan_says_that_its_planes_are_tilted(browser, server):
    page = open_viewer(browser, server)
    # The third axis was tilted by 14 degrees.
    assert page.locator(".pane[data-plane=axial] .title").inner_text().endswith(", oblique 14°")


def test_the_help_card_lists_the_keys_and_streamlits_own_keys_do_nothing(browser, server):
    page = open_viewer(browser, server)
    press(page, "?")
    assert "accept the mark" in page.locator(".help").inner_text()
    press(page, "Escape")
    assert page.locator(".help").is_hidden()
    press(page, "c", "r")
    page.wait_for_timeout(300)
    assert page.get_by_role("dialog").count() == 0
    assert page.locator("[data-test-script-state='notRunning']").count() == 1


def test_marks_are_visited_by_key_and_by_the_list_and_hidden_by_one_key(browser, server):
    page = open_viewer(browser, server)
    slices = []
    for key in ("n", "n", "n", "p"):
        press(page, key)
        slices.append(int(facts(page)["k"]))
    assert slices == [22, 5, 12, 5]
    # The list follows the last key a moment later, and its buttons move.
    chosen = "xpath=self::*[@kind='primary']"
    page.get_by_role("button", name="Mark 3: ").locator(chosen).wait_for()
    page.locator("[data-test-script-state='notRunning']").wait_for()
    page.get_by_role("button", name="Mark 2: 0.700, 8.0 mm, slice 23, undecided").click()
    page.locator(".viewer[data-k='22']").wait_for()
    press(page, "ArrowDown")  # the list has given the focus back to the slices
    assert facts(page)["k"] == "23"
    press(page, "ArrowUp")
    axial = display.PLANES[0]
    x, y, px_per_mm = place_of(page, axial, MARKS[1][0])
    edge = [(x + 4.0 * px_per_mm + 1.5, y)]
    assert canvas_pixels(page, axial, "overlay", edge)[0][3] > 127
    press(page, "h")
    assert canvas_pixels(page, axial, "overlay", edge)[0][3] == 0
    press(page, "h")


def test_a_mark_outside_the_scan_is_not_moved_into_it(browser, tmp_path, scans):
    outside = ((20, 30, 45), 0.95, 10.0)
    run = oblique.write_run(tmp_path / "run", scans[:1], marks=(outside, MARKS[1]))
    with served(run) as (url, _):
        page = open_viewer(browser, url)
        assert page.locator(".mark").inner_text().endswith("outside the scan")
        press(page, "n", "Home", "p")
        assert facts(page)["k"] == "0"


def test_three_planes_show_the_clicked_point(browser, server):
    page = open_viewer(browser, server)
    press(page, "v")
    show_voxel(page, (33, 21, 9))
    page.mouse.click(*place_of(page, display.PLANES[1], (50, 21, 17))[:2])
    settle(page)
    assert [facts(page)[axis] for axis in "ijk"] == ["50", "21", "17"]
    press(page, "ArrowDown")  # scrolls the plane that was clicked
    assert [facts(page)[axis] for axis in "ijk"] == ["50", "22", "17"]
    numbers = [page.locator(f".pane[data-plane={p.name}]").get_attribute("data-number")
               for p in display.PLANES]  # fmt: skip
    assert numbers == ["17", "22", "50"]


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_slice_and_the_list_of_marks_fill_one_screen(browser, server, size, scheme):
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
    )
    page = context.new_page()
    page.goto(f"{server}/case?case=scan-supine")
    wait_for_viewer(page)
    settle(page)
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("(main) => main.scrollHeight - main.clientHeight") <= 0
    box = page.locator(".planes").bounding_box()
    assert box["y"] + box["height"] <= size[1]
    assert box["height"] >= 0.66 * size[1]
    listed = page.get_by_role("button", name="Mark 1: 0.900").bounding_box()
    assert listed["y"] + listed["height"] <= size[1]
    colour = page.locator(".bar.top").evaluate("(bar) => getComputedStyle(bar).color")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) > 384) == (scheme == "dark")
    context.close()


def test_eight_marks_and_the_reviewed_button_are_visible_on_a_small_screen(
    browser, tmp_path, scans
):
    marks = [((5 + 4 * n, 20, 2 * n), 0.95 - n / 50, 6.0) for n in range(14)]
    run = oblique.write_run(tmp_path / "run", scans[:1], marks=marks)
    with served(run, "--reader", "anna") as (url, _):
        page = open_viewer(browser, url)
        press(page, *["p"] * 2)  # the last but one: the list scrolls to it
        page.locator(".st-key-chosen_mark").wait_for()
        chosen = page.locator(".st-key-mark_list button[kind=primary]")
        chosen.filter(has_text="Mark 13").wait_for()
        assert page.get_by_role("button", name="Mark the case as reviewed").is_visible()
        box = page.locator(":has(> .st-key-mark_list)").last.bounding_box()

        def count_visible():
            rows = page.get_by_role("button", name=re.compile(r"^Mark \d")).all()
            tops = [row.bounding_box() for row in rows]
            return sum(
                box["y"] - 1 <= row["y"]
                and row["y"] + row["height"] <= box["y"] + box["height"] + 1
                for row in tops
            )

        assert eventually(lambda: count_visible() >= 8), count_visible()
        button = page.get_by_role("button", name="Mark the case as reviewed").bounding_box()
        assert 0 < button["y"] < 768


def test_voxels_travel_once_and_a_page_drawn_again_requests_none(browser, server):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server}/case?case=scan-prone")
    wait_for_viewer(page)
    slabs = [url for url in asked if "/voxels/" in url]
    assert len(slabs) == len(set(slabs)) == 3
    asked.clear()
    page.get_by_label("Note").first.fill("drawn again")
    page.get_by_label("Note").first.press("Enter")
    page.get_by_text("undecided, saved").wait_for()
    assert not [url for url in asked if "/voxels/" in url]


def test_a_browser_without_the_readers_cookie_gets_no_voxel(browser, server):
    reader = browser.new_context()
    page = reader.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server}/case?case=scan-supine")
    wait_for_viewer(page)
    slab = next(url for url in asked if "/voxels/" in url)
    assert reader.request.get(slab).status == 200
    stranger = browser.new_context()
    assert stranger.request.get(slab).status == 403
    stranger.new_page().goto(server)  # now with a cookie of its own, but without a grant
    assert stranger.request.get(slab).status == 403
    page.close()
    assert eventually(lambda: reader.request.get(slab).status == 403)
    named = [url for url in asked for word in (".mhd", "patient", "/data") if word in url]
    assert named == []


def test_two_volumes_that_differ_in_one_voxel_are_not_mixed_up(browser, tmp_path):
    one, other = oblique.build_scan("one"), oblique.build_scan("other")
    other.voxels_hu[20, 30, 15] = 1234
    run = oblique.write_run(tmp_path / "run", [one, other])
    with served(run) as (url, _):
        page = open_viewer(browser, url, "one")
        for case, expected in (("one", one), ("other", other), ("one", one)):
            page.goto(f"{url}/case?case={case}")
            wait_for_viewer(page)
            press(page, "Home", *["ArrowDown"] * 15)
            hu, _ = reading(page, display.PLANES[0], (20, 30, 15))
            assert hu == expected.voxels_hu[20, 30, 15]
        page.get_by_role("button", name="Next case").click()
        page.get_by_text("Case other").wait_for()
        wait_for_viewer(page)
        press(page, "Home", *["ArrowDown"] * 15)
        assert reading(page, display.PLANES[0], (20, 30, 15))[0] == 1234


def eventually(is_so, seconds=10):
    """Return whether something becomes so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
    return True


def latest(run, wanted, case="scan-supine"):
    """Wait until the latest verdicts on the marks, in the order of their score, are as wanted."""
    store = open_store(run.review)
    found, deadline = None, time.monotonic() + 15
    while found != wanted and time.monotonic() < deadline:
        verdicts = {d.score: d.verdict for d in store.latest(case_id=case)}
        found = [verdicts.get(score) for _, score, _ in MARKS]
    store.close()
    return found


def test_decisions_are_made_and_undone_by_key_and_by_button(browser, deciding):
    run, url, _ = deciding
    page = open_viewer(browser, url)
    press(page, "y", "n", "x")
    assert latest(run, ["accept", "reject", None]) == ["accept", "reject", None]
    page.locator(".verdict", has_text="rejected, saved").wait_for()
    page.get_by_role("button", name="Rejected", exact=True).wait_for()  # the list shows it too
    page.get_by_role("button", name="Accept mark").click()
    assert latest(run, ["accept", "accept", None]) == ["accept", "accept", None]
    press(page, "u")
    assert latest(run, ["accept", "reject", None]) == ["accept", "reject", None]
    page.get_by_role("button", name="Undo").click()
    found = latest(run, ["accept", "undecided", None])
    assert found == ["accept", "undecided", None], page.inner_text("body")
    page.reload()
    wait_for_viewer(page)  # at the place of mark 2, which the address kept
    press(page, "p")
    page.locator(".verdict", has_text="accepted, saved").wait_for()


def test_decisions_that_are_close_together_are_all_saved(browser, deciding):
    run, url, _ = deciding
    page = open_viewer(browser, url)
    for number in range(12):
        page.keyboard.press("yx"[number % 2])
    page.keyboard.press("n")
    page.keyboard.press("y")
    assert latest(run, ["reject", "accept", None]) == ["reject", "accept", None]
    page.locator(".verdict", has_text="accepted, saved").wait_for()
    store = open_store(run.review)
    made = [decision.verdict for decision in store.history()]
    store.close()
    assert made == ["accept", "reject"] * 6 + ["accept"]


def test_a_decision_against_another_tab_is_not_saved_silently(browser, deciding):
    run, url, _ = deciding
    stale, other = open_viewer(browser, url), open_viewer(browser, url)
    press(other, "x")
    other.locator(".verdict", has_text="rejected, saved").wait_for()
    press(stale, "y")
    stale.get_by_text("Your verdict was NOT saved").wait_for()
    stale.locator(".verdict", has_text="NOT saved").wait_for()
    assert latest(run, ["reject", None, None]) == ["reject", None, None]
    stale.get_by_role("button", name="Save mine instead").click()
    assert latest(run, ["accept", None, None]) == ["accept", None, None]


def test_when_the_server_is_gone_nothing_can_be_decided_and_the_page_says_so(browser, deciding):
    run, url, process = deciding
    page = open_viewer(browser, url)
    press(page, "y")
    page.locator(".verdict", has_text="accepted, saved").wait_for()
    os.killpg(process.pid, signal.SIGKILL)
    lost = page.get_by_text("connection lost, nothing is being saved")
    lost.wait_for()
    covered, button = lost.bounding_box(), page.locator("button[data-key=y]").bounding_box()
    assert covered["x"] <= button["x"]
    assert covered["y"] <= button["y"]
    assert covered["y"] + covered["height"] >= button["y"] + button["height"]
    press(page, "x", "ArrowDown")
    assert facts(page)["k"] == "13"  # reading goes on
    assert page.locator(".verdict").get_attribute("data-verdict") == "accept"
    assert latest(run, ["accept", None, None]) == ["accept", None, None]


def test_the_place_and_the_voxels_are_kept_when_the_reader_comes_back(browser, server):
    page = open_viewer(browser, server, "scan-feet-first")  # the first of the worklist
    press(page, "3", "Home", "PageDown", "PageDown")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("link", name="Worklist").click()
    page.get_by_role("heading", name="Worklist").wait_for()
    page.get_by_role("link", name="Case").click()
    wait_for_viewer(page)
    settle(page)
    assert (facts(page)["k"], facts(page)["level"]) == ("20", "50")
    assert not [url for url in asked if "/voxels/" in url]


def test_a_radiograph_is_decided_on_by_key_and_has_no_ruler_without_a_scale(browser, tmp_path):
    run = factory.write_review_run(tmp_path / "run")
    with served(run, "--reader", "anna") as (url, _):
        page = open_viewer(browser, url, "chest-png")
        press(page, "l", "v", "m", "a")
        assert facts(page)["tool"] == "window"
        assert page.locator(".pane:visible").count() == 1
        assert page.locator("button[data-key=l]").is_hidden()
        press(page, "?")
        listed = page.locator(".help dt").all_inner_texts()
        assert {"y", "i", "?"} <= set(listed)
        assert not {"l", "d", "D", "o", "n", "A", "Diameter: drag", "Wheel"} & set(listed)
        press(page, "?", "2", "y")
        page.locator(".verdict", has_text="accepted, saved").wait_for()
        press(page, "x")
        page.locator(".verdict", has_text="rejected, saved").wait_for()
        press(page, "u")
        page.locator(".verdict", has_text="accepted, saved").wait_for()
        page.get_by_role("button", name="Accepted", exact=True).wait_for()
        page.locator("[data-test-script-state='notRunning']").wait_for()
        box = page.locator(".pane[data-plane=axial]").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        settle(page)
        assert re.fullmatch(r"grey \d+, column 4[56], row 6[01]", page.inner_text(".readout"))
        assert page.locator("[data-test-script-state='notRunning']").count() == 1


def test_no_page_breaks_its_content_security_policy(browser, tmp_path):
    said = []
    pages = {
        "": "Click a row",
        "/case?case=scan-a": "Whole scan",
        "/case?case=xray-1": "Probability",
        "/results": "Differences and thresholds",
    }
    with served(factory.write_review_run(tmp_path / "run")) as (url, _):
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        for path, word in pages.items():
            page.goto(url + path)
            page.get_by_text(word).first.wait_for()
            page.wait_for_timeout(500)
    # Streamlit looks for its own health page below the address of a page first.
    assert [text for text in said if "404" not in text] == []


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()
    settle(page)


def rows_of(run, wanted, case="scan-supine"):
    """Wait until the store has this many rows on added nodules; return them."""
    store = open_store(run.review)

    def read():
        return [row for row in store.history(case_id=case) if row.is_added]

    eventually(lambda: len(read()) >= wanted)
    found = read()
    store.close()
    return found


def add_nodule(page, index, radius_mm):
    """Add a nodule at a voxel of the axial plane by dragging from its middle to its edge."""
    x, y, px_per_mm = place_of(page, display.PLANES[0], index)
    press(page, "a")
    drag(page, (x, y), (x + radius_mm * px_per_mm, y))


def test_a_nodule_is_added_by_dragging_and_found_after_a_reload(browser, deciding, scans):
    run, url, _ = deciding
    page = open_viewer(browser, url)
    k = int(facts(page)["k"])
    add_nodule(page, (40, 30, k), 6.0)
    assert facts(page)["tool"] == "window"
    (row,) = rows_of(run, 1)
    assert (row.verdict, row.reader) == ("added", "anna")
    assert row.diameter_mm == pytest.approx(12.0, abs=0.5)  # a pixel is about .07 mm
    grid = display.build_axial_stack(scans[0].voxels_hu, scans[0].grid).grid
    np.testing.assert_allclose(row.center_mm, grid.voxel_to_world((40, 30, k)), atol=0.15)
    listed = f"Added 1, {row.diameter_mm:.1f} mm, slice {k + 1}, added"
    page.get_by_role("button", name=listed).wait_for()
    page.reload()
    wait_for_viewer(page)
    page.get_by_role("button", name=listed).click()
    page.locator(".mark", has_text=f"Added nodule 1 (4 of 4), {row.diameter_mm:.1f} mm").wait_for()
    page.locator(".verdict", has_text="added, saved").wait_for()
    page.get_by_text("UTC: added, diameter").wait_for()


def test_two_clicks_add_a_nodule_and_escape_forgets_what_was_begun(browser, deciding):
    run, url, _ = deciding
    page = open_viewer(browser, url)
    k = int(facts(page)["k"])
    x, y, px_per_mm = place_of(page, display.PLANES[0], (40, 30, k))
    press(page, "a")
    page.mouse.click(x, y)
    page.mouse.move(x + 5 * px_per_mm, y)
    settle(page)
    assert float(facts(page)["draft"]) == pytest.approx(10.0, abs=0.5)
    press(page, "Escape")
    assert (facts(page)["draft"], facts(page)["tool"]) == ("", "add")
    page.mouse.click(x, y)
    page.mouse.click(x, y + 4 * px_per_mm)
    (row,) = rows_of(run, 1)
    assert row.diameter_mm == pytest.approx(8.0, abs=0.5)


def test_an_added_nodule_is_corrected_withdrawn_and_given_back(browser, deciding):
    run, url, _ = deciding
    page = open_viewer(browser, url)
    k = int(facts(page)["k"])
    add_nodule(page, (40, 30, k), 6.0)
    x, y, px_per_mm = place_of(page, display.PLANES[0], (40, 30, k))
    press(page, "a")
    drag(page, (x, y), (x - 5 * px_per_mm, y))  # its middle moves it
    drag(page, (x + 1 * px_per_mm, y), (x - 1 * px_per_mm, y))  # its edge changes the diameter
    press(page, "Escape", "x", "u", "u")
    rows = rows_of(run, 6)
    assert [row.verdict for row in rows] == ["added"] * 3 + ["undecided", "added", "added"]
    sizes = [row.diameter_mm for row in rows]
    assert sizes == pytest.approx([12.0, 12.0, 8.0, 8.0, 8.0, 12.0], abs=0.5)
    assert rows[1].center_mm != rows[0].center_mm
    assert [row.undoes for row in rows[4:]] == [rows[3].number, rows[2].number]
    press(page, "u", "u")
    assert rows_of(run, 8)[-1].verdict == "undecided"
    page.get_by_role("button", name="Added 1").wait_for(state="detached")


def test_two_tabs_of_one_reader_add_a_nodule_each(browser, deciding):
    run, url, _ = deciding
    one, other = open_viewer(browser, url), open_viewer(browser, url)
    add_nodule(one, (40, 30, 12), 4.0)
    chosen = one.locator(".st-key-mark_list button[kind=primary]")
    chosen.filter(has_text="Added 1").wait_for()  # its page runs again for this
    one.locator("[data-test-script-state='notRunning']").wait_for()
    settle(one)  # from here on this tab knows its own nodule alone
    add_nodule(other, (50, 45, 12), 5.0)
    rows = rows_of(run, 2)
    assert len({row.mark_id for row in rows}) == len(rows) == 2
    other.get_by_role("button", name="Added 2").wait_for()
    press(one, "u")  # the latest decision is the one of the other tab
    one.get_by_text("Nothing was undone.").wait_for()
    assert len(rows_of(run, 2)) == 2
    one.get_by_role("button", name="Added 2").wait_for()
    one.locator("[data-test-script-state='notRunning']").wait_for()
    settle(one)
    press(one, "u")
    assert [row.verdict for row in rows_of(run, 3)] == ["added", "added", "undecided"]


def test_the_list_follows_the_keys_of_the_slices(browser, server):
    page = open_viewer(browser, server)
    chosen = page.locator(".st-key-mark_list button[kind=primary]")
    for key, name in (("n", "Mark 2"), ("n", "Mark 3"), ("p", "Mark 2")):
        press(page, key)
        chosen.filter(has_text=name).wait_for()
