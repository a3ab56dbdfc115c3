"""The heat map in the real app: at the right place, switched by keys, and guarded like voxels."""

import base64
import io

import display
import numpy as np
import pytest
from PIL import Image

from medkd.geometry import VoxelGrid
from medkd.io.heat_maps import HeatMap, write_heat_map
from tests.viewer import oblique
from tests.viewer.browsing import served
from tests.viewer.test_slice_viewer import open_viewer, place_of, press, settle, show_voxel

pytestmark = pytest.mark.slow

HOT = (40, 22, 13)
"""The voxel of the stack at the middle of the hot cell."""
CELL_MM = 4.0


def build_hot_map(stack, arm):
    """Build a map whose axes are turned against those of the scan, with one hot cell at `HOT`."""
    direction = oblique.turn(20.0, 1) @ stack.grid.direction
    shape, hot = (15, 14, 24), np.array((9, 5, 12))
    origin_mm = stack.grid.voxel_to_world(HOT) - direction @ (hot * CELL_MM)
    grid = VoxelGrid.from_parts(
        shape, spacing_mm=(CELL_MM,) * 3, origin_mm=origin_mm, direction=direction
    )
    values = np.zeros(shape, dtype=np.uint8)
    values[tuple(hot)] = 255
    return HeatMap(values, grid, "probability", arm, "nodule")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("heat") / "run"
    scans = [oblique.build_scan("scan-supine"), oblique.build_scan("scan-without")]
    run = oblique.write_run(path, scans)
    stack = display.build_axial_stack(scans[0].voxels_hu, scans[0].grid)
    for arm in ("student", "teacher"):
        write_heat_map(run.explained.heat_maps("scan-supine"), build_hot_map(stack, arm))
    with served(run, "--reader", "anna") as (url, _):
        yield url


@pytest.fixture
def page(browser, server):
    page = open_viewer(browser, server)
    yield page
    page.close()


def picture(page, plane):
    """Return the pixels of a pane's image; rings and legend are drawn above it."""
    canvas = page.locator(f".pane[data-plane={plane.name}] .image")
    text = canvas.evaluate("(canvas) => canvas.toDataURL().split(',')[1]")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")).astype(int)


def shown(page):
    return page.locator(".heat[data-loaded*=probability]")


def test_a_hot_cell_is_drawn_at_its_place_in_all_three_planes(page):
    press(page, "v")
    show_voxel(page, HOT)
    plain = [picture(page, plane) for plane in display.PLANES]
    press(page, "o")
    shown(page).wait_for(state="attached")
    settle(page)
    for plane, before in zip(display.PLANES, plain, strict=True):
        weight = np.abs(picture(page, plane) - before).sum(axis=2).astype(float)
        assert weight.max() > 60
        rows, columns = np.indices(weight.shape)
        found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        box = page.locator(f".pane[data-plane={plane.name}] .image").bounding_box()
        x, y, px_per_mm = place_of(page, plane, HOT)
        expected = np.array([x - box["x"], y - box["y"]])
        assert np.linalg.norm(found - expected) / px_per_mm < CELL_MM / 2
        reach = np.argwhere(weight > 0) - expected[::-1]
        assert np.abs(reach).max() / px_per_mm < 2.5 * CELL_MM


def test_keys_switch_the_map_its_opacity_and_the_arm(page):
    legend = page.locator(".heat")
    press(page, "o")
    shown(page).wait_for(state="attached")
    assert legend.locator("select").input_value() == "Student: probability, nodule"
    opacity = int(legend.locator("input").input_value())
    press(page, ",", ",")
    assert int(legend.locator("input").input_value()) == opacity - 20
    press(page, "t")
    assert legend.locator("select").input_value() == "Teacher: probability, nodule"
    press(page, "o")
    assert legend.is_hidden()


def test_a_case_without_a_map_says_how_to_get_one(browser, server):
    page = open_viewer(browser, server, "scan-without")
    press(page, "o")
    page.locator(".said").get_by_text("No heat map of this case: `medkd explain RUN`").wait_for()
    assert page.locator(".heat").is_hidden()
    page.close()
