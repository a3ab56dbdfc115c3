"""Speed of the slice viewer in Chromium without a GPU: 300 wheel events at 60 a second.

A slice counts as drawn when the pixels of the canvas have changed. The scan has 512 x 512 x 300
voxels, and every slice looks different. Events are sent without waiting for the answer to the last
one, which takes two frames. The clock is that of the machine, so nothing else may run.
"""

import asyncio
import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playwright.async_api import async_playwright
from scipy import ndimage

from medkd.geometry import VoxelGrid
from medkd.index.case import Case
from medkd.io.heat_maps import HeatMap, write_heat_map
from medkd.io.volume import write_mhd
from medkd.types import Scan
from tests.data.archives import write_archive
from tests.viewer.browsing import FLAGS, chromium_path, served
from tests.viewer.conftest import VIEWER  # noqa: F401  # its import makes the app importable
from tests.viewer.oblique import write_run

pytestmark = pytest.mark.bench

SHAPE = (512, 512, 300)
EVENTS = 300
PER_SECOND = 60.0
MARKS = 100

WATCH = """() => {
  const find = (root) => root.querySelector(".pane[data-plane=axial] .image") ??
    [...root.querySelectorAll("*")].map((e) => e.shadowRoot && find(e.shadowRoot)).find(Boolean);
  const image = find(document);
  const context = image.getContext("2d");
  window.seen = [];
  const look = () => {
    const middle = context.getImageData(image.width / 2 - 24, image.height / 2, 48, 1).data;
    const text = middle.join();
    if (window.seen.at(-1)?.text !== text) window.seen.push({text, at: performance.now()});
    window.watching = requestAnimationFrame(look);
  };
  look();
}"""


def build_noise_scan(name: str = "noise", seed: int = 0) -> Scan:
    """Build a chest-sized scan of smooth noise, different in every slice."""
    rng = np.random.default_rng(seed)
    tile = rng.integers(-1000, 400, (512, 512), dtype=np.int16)
    voxels = np.empty(SHAPE[::-1], dtype=np.int16)
    for k in range(SHAPE[2]):
        voxels[k] = np.roll(tile, (k * 7, k * 13), axis=(0, 1))
    grid = VoxelGrid.from_parts(SHAPE, spacing_mm=(0.7, 0.7, 1.25), origin_mm=(0, 0, 0))
    return Scan(name, voxels.transpose(2, 1, 0), grid, "p")


@pytest.fixture(scope="module")
def served_noise(tmp_path_factory):
    scan = build_noise_scan()
    rng = np.random.default_rng(1)
    places = [tuple(int(rng.integers(20, count - 20)) for count in SHAPE) for _ in range(MARKS)]
    marks = [(place, 0.99 - number / 200, 12.0) for number, place in enumerate(places)]
    run = write_run(tmp_path_factory.mktemp("noise") / "run", [scan], marks=marks)
    write_heat_map(run.explained.heat_maps("noise"), build_heat_map())
    with served(run) as (url, _):
        yield url, scan


def build_heat_map() -> HeatMap:
    """Build a map with a cell for 4 x 4 x 2 voxels; lumps of a tenth of the cells are warm."""
    grid = VoxelGrid.from_parts((128, 128, 150), spacing_mm=(2.8, 2.8, 2.5), origin_mm=(0, 0, 0))
    noise = np.random.default_rng(2).standard_normal(grid.shape)
    smooth = ndimage.gaussian_filter(noise, 4)
    warm = (smooth / np.quantile(smooth, 0.9) - 1).clip(0, 1)
    return HeatMap((255 * warm).astype(np.uint8), grid, "probability", "student", "nodule")


@pytest.fixture(scope="module")
def served_pair(tmp_path_factory):
    """Serve an INDEX with two chest-sized scans of one patient."""
    folder = tmp_path_factory.mktemp("pair")
    ready = Case("", "p", "scan", "ready", shape=SHAPE, synthetic=True, generator="test")
    cases = []
    for day, name in enumerate(("before", "noise")):
        scan, path = build_noise_scan(name, seed=day), folder / f"{name}.mhd"
        write_mhd(scan, path)
        case = replace(ready, case_id=name, content=name, day=100 * day)
        cases.append((case, (path, path.with_suffix(".raw"))))
    with served(SimpleNamespace(path=write_archive(folder / "work", cases))) as (url, _):
        yield url


async def open_case(chromium: Any, url: str) -> tuple[Any, float]:
    """Open the case in a new page; returns the page, and the seconds to the first slice."""
    page = await chromium.new_page(viewport={"width": 1920, "height": 1080})
    start = time.monotonic()
    await page.goto(f"{url}/case?case=noise")
    await page.locator(".viewer[data-loaded]:not([data-loaded='0'])").wait_for()
    first_s = time.monotonic() - start
    await page.locator(".viewer[data-loaded=all]").wait_for()
    return page, first_s


async def send_wheel_events(page: Any, x: float, y: float) -> float:
    """Send the wheel events at their rate; returns the rate in events per second."""
    devtools = await page.context.new_cdp_session(page)
    event = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": 100}
    start = time.monotonic()
    sent = []
    for number in range(EVENTS):
        sent.append(asyncio.ensure_future(devtools.send("Input.dispatchMouseEvent", event)))
        await asyncio.sleep(max(start + (number + 1) / PER_SECOND - time.monotonic(), 0))
    await asyncio.gather(*sent)
    return EVENTS / (time.monotonic() - start)


async def scroll(page: Any) -> dict[str, float]:
    """Send the wheel events and return what was drawn."""
    box = await page.locator(".pane[data-plane=axial]").first.bounding_box()
    await page.mouse.move(box["x"] + 300, box["y"] + 300)
    await page.keyboard.press("Home")
    await page.wait_for_timeout(500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.evaluate(WATCH)
    rate = await send_wheel_events(page, box["x"] + 300, box["y"] + 300)
    await page.wait_for_timeout(300)
    seen = await page.evaluate(
        "() => { cancelAnimationFrame(window.watching); return window.seen; }"
    )
    times = np.array([one["at"] for one in seen[1:]]) / 1000
    in_each_second = np.histogram(times, bins=np.arange(times[0], times[-1], 1.0))[0]
    return {
        "wheel_events": EVENTS,
        "events_per_second": rate,
        "distinct_slices": len({one["text"] for one in seen}) - 1,
        "slices_per_second_median": float(np.median(in_each_second)),
        # Chromium asks for the icon again when the address changes, which keeps the place.
        "requests": sum(not url.endswith("/favicon.png") for url in asked),
    }


def renderer_mib() -> float:
    """Return the resident memory of the largest renderer process of Chromium."""
    sizes = [0.0]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
            status = (path.parent / "status").read_text()
        except OSError:
            continue
        if b"--type=renderer" in words:
            sizes.append(float(status.split("VmRSS:")[1].split()[0]) / 1024)
    return max(sizes)


async def check_pixels(page: Any, scan: Scan) -> None:
    """Compare ten sampled canvases with the windowed voxels."""
    import display

    table = display.build_look_up(display.WINDOWS["lung"])
    stack = display.build_axial_stack(scan.voxels_hu, scan.grid)
    # The pixels before they are scaled to the screen, one for each voxel.
    read = """(viewer, number) => {
        const pane = viewer.getRootNode().mounted.viewer.panes[0];
        const row = pane.colors.subarray(number * 512, number * 512 + 512);
        return Array.from(row, (color) => color & 255); }"""
    for number in range(0, 300, 30):
        await page.keyboard.press("Home")
        for _ in range(number // 10):
            await page.keyboard.press("PageDown")
        await page.wait_for_timeout(100)
        row = await page.locator(".viewer").evaluate(read, number)
        expected = table[stack.voxels_hu[:, number, number].astype(int) + 32768]
        np.testing.assert_array_equal(row, expected)


async def measure(url: str, scan: Scan) -> dict[str, Any]:
    """Open the case in Chromium, scroll, and compare the pixels; returns the figures."""
    async with async_playwright() as started:
        chromium = await started.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        cold, cold_s = await open_case(chromium, url)
        await cold.close()
        page, first_s = await open_case(chromium, url)
        row: dict[str, Any] = {"first_slice_s": first_s}
        row["first_slice_of_the_first_reader_s"] = cold_s
        row["one_plane"] = await scroll(page)
        await page.keyboard.press("v")
        row["three_planes"] = await scroll(page)
        row["renderer_mib"] = renderer_mib()
        await check_pixels(page, scan)
        row["browser"] = chromium.version
        await chromium.close()
    return row


LOADED = ".pane.prior[data-number] .title:text('linked'):not(:text('loading'))"


async def measure_beside(url: str, key: str, shown: str) -> dict[str, Any]:
    """Switch something on by a key, and scroll when it is shown; returns the figures."""
    async with async_playwright() as started:
        chromium = await started.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        page, _ = await open_case(chromium, url)
        await page.locator(".viewer").press(key)
        await page.locator(shown).first.wait_for(state="attached")
        row: dict[str, Any] = {"one_plane": await scroll(page)}
        await page.keyboard.press("v")
        row["three_planes"] = await scroll(page)
        row["renderer_mib"] = renderer_mib()
        await chromium.close()
    return row


def record(name: str, row: dict[str, Any], tmp_path: Path) -> str:
    """Write the figures and check how many slices were drawn; returns the text."""
    row |= {"machine": platform.machine(), "cores": os.cpu_count()}
    row["load_average"] = os.getloadavg()[0]
    text = json.dumps(row, indent=1) + "\n"
    (Path(os.environ.get("MEDKD_BENCH_OUT", tmp_path)) / f"{name}.json").write_text(text)
    for planes in ("one_plane", "three_planes"):
        assert row[planes]["distinct_slices"] >= 250, text
        assert row[planes]["slices_per_second_median"] >= 50, text
        assert row[planes]["requests"] == 0, text
    return text


def test_300_wheel_events_draw_at_least_250_slices(served_noise, tmp_path):
    row = asyncio.run(measure(*served_noise)) | {"marks": MARKS}
    text = record("viewer_speed", row, tmp_path)
    assert row["first_slice_s"] < 2.0, text
    assert row["renderer_mib"] < 1024, text


def test_a_heat_map_over_the_slices_does_not_slow_them(served_noise, tmp_path):
    row = asyncio.run(measure_beside(served_noise[0], "o", ".heat[data-loaded*=probability]"))
    record("viewer_speed_heat_map", row | {"marks": MARKS}, tmp_path)


def test_a_prior_scan_beside_does_not_slow_the_slices(served_pair, tmp_path):
    row = asyncio.run(measure_beside(served_pair, "j", LOADED))
    record("viewer_speed_prior_scan", row, tmp_path)
