"""Measuring and reading aids of the slice viewer in a real Chromium, on an oblique DICOM series."""

from dataclasses import replace

import display
import numpy as np
import pytest

from medkd.io.dicom.write import write_dicom_series
from medkd.io.luna16_tables import write_annotations, write_seriesuids
from medkd.jsonio import write_json
from medkd.review.store import open_store
from medkd.types import Candidate, CaseResult, Nodule, RunCase
from tests.viewer import factory, oblique
from tests.viewer.browsing import served
from tests.viewer.test_slice_viewer import (
    drag,
    eventually,
    facts,
    open_viewer,
    place_of,
    press,
    settle,
    wait_for_viewer,
)

pytestmark = pytest.mark.slow

CENTER = (20, 30, 12)
CASE = "scan-supine"


@pytest.fixture(scope="module")
def scan():
    tilted = oblique.build_scan(CASE)
    i, j, k = np.indices(oblique.SHAPE)
    # A smooth scan: a series whose slices do not fit each other is refused.
    return replace(tilted, voxels_hu=(i * 10 + j * 5 + k * 20 - 900).astype(np.int16))


@pytest.fixture(scope="module")
def run(scan, tmp_path_factory):
    path = tmp_path_factory.mktemp("dicom") / "run"
    window = {"WindowCenter": "-500", "WindowWidth": "1300"}
    write_dicom_series(scan, path / "data" / "ct", patient_name="Doe^Jane", patient_id="17",
                       extra=window)  # fmt: skip
    case = RunCase(CASE, "p", "scan", "data/ct", "test", None, None, 0.9, "analysed")
    run = factory.write_bare_run(path, [case])
    place = tuple(map(float, scan.grid.voxel_to_world(CENTER)))
    for arm, score in (("student", 0.9), ("teacher", 0.8), ("control", 0.7)):
        mark = Candidate(CASE, place, score, 14.0)
        write_json(run.result(arm, CASE), CaseResult(CASE, (mark,), "analysed"))
    write_annotations(run.reference / "annotations.csv", [Nodule(CASE, place, 14.0)])
    write_seriesuids(run.reference / "seriesuids.csv", [CASE])
    return run


@pytest.fixture(scope="module")
def server(run):
    with served(run, "--reader", "anna") as (url, _):
        yield url


def said(page):
    return page.locator(".said").inner_text()


def measured(page):
    """Return long axis, short axis and mean of the last measurement, in mm."""
    words = facts(page)["ruler"].replace(" mm", "").replace("mean ", "").replace(" x", ",")
    return [float(word) for word in words.split(",")]


def from_center(page, across_mm, down_mm):
    x, y, px_per_mm = place_of(page, display.PLANES[0], CENTER)
    return x + across_mm * px_per_mm, y + down_mm * px_per_mm


def test_two_axes_are_measured_and_their_mean_becomes_the_diameter(browser, server, run):
    page = open_viewer(browser, server)
    press(page, "D")
    assert said(page) == "No diameter was measured on this mark (d)."
    press(page, "d")
    assert facts(page)["tool"] == "diameter"
    # 3-4-5 triangles: a long axis of 15 mm, and a drag of 8 mm across it and 6 mm along it.
    drag(page, from_center(page, -6, -4.5), from_center(page, 6, 4.5))
    start = np.array([2.4, -3.2])
    end = start + 8 * np.array([-0.6, 0.8]) + 6 * np.array([0.8, 0.6])
    drag(page, from_center(page, *start), from_center(page, *end))
    assert facts(page)["tool"] == "window"
    long_mm, short_mm, mean_mm = measured(page)
    assert (long_mm, short_mm) == pytest.approx((15.0, 8.0), abs=0.2)
    assert mean_mm == pytest.approx((long_mm + short_mm) / 2, abs=0.0501)
    press(page, "D")
    page.get_by_role("button", name=f"Mark 1: 0.900, {mean_mm:.1f} mm").wait_for()
    store = open_store(run.review)
    assert [row.diameter_mm for row in store.latest(case_id=CASE)] == [mean_mm]
    store.close()
    press(page, "u")
    page.get_by_role("button", name="Mark 1: 0.900, 14.0 mm").wait_for()
    press(page, "Backspace")
    assert facts(page)["ruler"] == ""


def test_clicks_measure_too_and_escape_forgets_what_was_begun(browser, server):
    page = open_viewer(browser, server)
    press(page, "d")
    for place in ((-5, 0), (5, 0)):
        page.mouse.click(*from_center(page, *place))
    page.mouse.click(*from_center(page, 1, 3))  # halved by the long axis: 3 mm on either side
    assert measured(page) == pytest.approx([10.0, 6.0, 8.0], abs=0.2)
    press(page, "d")
    page.mouse.click(*from_center(page, -5, 0))
    press(page, "Escape", "Escape")
    assert facts(page)["tool"] == "window"
    assert measured(page) == pytest.approx([10.0, 6.0, 8.0], abs=0.2)


def test_the_header_gives_a_window_and_image_numbers_and_a_line_for_the_pacs(browser, server):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{server}/case?case={CASE}")
    wait_for_viewer(page)
    press(page, "5", "c")
    assert (facts(page)["level"], facts(page)["width"]) == ("-500", "1300")
    # InstanceNumber falls from 30 to 1 while the slices rise: the 13th slice is image 18.
    line = "slice 13 (image 18), 14.0 mm"
    assert (
        page.locator(".pane[data-plane=axial] .title")
        .inner_text()
        .startswith("Axial 13/30 (image 18)")
    )
    assert eventually(lambda: said(page) == f"Copied: {line}")
    assert page.evaluate("navigator.clipboard.readText()") == line
    # A page that was not loaded by HTTPS has no clipboard interface.
    page.evaluate("() => { delete Object.getPrototypeOf(navigator).clipboard; }")
    press(page, "c")
    assert eventually(lambda: said(page) == f"Copied: {line}")
    context.close()


def pixels_of(page, color):
    """Count the overlay's pixels of a colour, up to the blending at edges."""
    return page.locator(".pane[data-plane=axial] .overlay").evaluate(
        """(canvas, [r, g, b]) => {
             const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
             let count = 0;
             for (let i = 0; i < data.length; i += 4)
               count += [r, g, b, 255].every((value, n) => Math.abs(data[i + n] - value) < 12);
             return count; }""",
        color,
    )


def test_the_marks_of_the_other_arms_are_switched_on_with_their_outcome(browser, server):
    page = open_viewer(browser, server)
    teacher, hit = (255, 122, 217), (70, 190, 255)
    assert pixels_of(page, teacher) == 0
    press(page, "O")
    assert pixels_of(page, teacher) > 20
    press(page, "g")
    settle(page)
    assert pixels_of(page, teacher) == 0
    assert pixels_of(page, hit) > 20
    page.get_by_text("Scores here: student 0.900, teacher 0.800, control 0.700").wait_for()


def test_a_message_and_long_texts_do_not_move_the_image(browser, server):
    page = open_viewer(browser, server)
    box = page.locator(".planes").bounding_box()
    press(page, "D", "d", "O")
    assert said(page)
    assert page.locator(".planes").bounding_box() == box
