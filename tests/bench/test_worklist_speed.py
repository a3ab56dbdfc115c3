"""Speed of the worklist and of X-rays in Chromium: from the request of a page to what it shows.

The worklist has 10,000 cases, of an INDEX and of RESULTS with five marks in each scan. It counts as
drawn when its first row is there. The X-rays are 1,000 of 2,048 x 2,500 pixels; an image counts as
shown when the slice viewer has loaded it. The first reader waits for what the app reads once; every
later one does not. The limit is for a browser that has seen the app before. For one that has not,
the same is measured beside Streamlit alone, with a table of two rows. Nothing else may run.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.jsonio import write_json
from medkd.runs import ResultsFolder, SearchRecord
from medkd.types import Candidate, CaseResult, Nodule
from tests.data.archives import READY, write_archive
from tests.viewer.browsing import FLAGS, chromium_path, served
from tests.viewer.nginx import free_port

pytestmark = pytest.mark.bench

CASES = 10_000
IMAGES = 1_000
IMAGE_SHAPE = (2_500, 2_048)
LIMIT_S = 2.0
SCREEN = {"width": 1920, "height": 1080}
TABLE = "[id^='glide-cell']"
REFUSED = ("few_slices: 5, at least 20",)


def write_big_index(folder: Path) -> Path:
    """Write an INDEX of 10,000 scans; each 50th is refused, each second has a nodule."""
    cases = [
        Case(
            f"c{number:05d}", f"p{number // 2:05d}", "scan",
            "ready" if number % 50 else "not_analysed",
            reasons=() if number % 50 else REFUSED, origin="test", site=f"s{number % 3}",
        )
        for number in range(CASES)
    ]  # fmt: skip
    nodules = [Nodule(case.case_id, (1.0, 2.0, 3.0), 5.0) for case in cases[1::2]]
    labels = [CaseLabel(case.case_id, "nodule", n % 2) for n, case in enumerate(cases)]
    index = folder / "index.csv"
    write_index(index, ArchiveIndex(tuple(cases), tuple(nodules), tuple(labels)))
    return index


def write_big_results(folder: Path) -> Path:
    """Write RESULTS of 10,000 scans with five marks each; each 50th is refused."""
    rng = np.random.default_rng(0)
    for number in range(CASES):
        name = f"c{number:05d}"
        marks = [
            Candidate(name, (x, y, z), score, 6.0) for x, y, z, score in rng.random((5, 4)).tolist()
        ]
        found = CaseResult(name, tuple(marks), "analysed", path=f"../{name}.mhd")
        if number % 50 == 0:
            found = replace(found, candidates=(), status="not_analysed", reasons=REFUSED)
        write_json(folder / f"{name}.json", found)
    record = SearchRecord("scan", "m", "i", CASES, threshold=0.5, notes=())
    write_json(ResultsFolder(folder).record, record)
    return folder


def write_big_xrays(folder: Path) -> Path:
    """Write an INDEX of 1,000 X-rays, which are links to ten files."""
    rows, columns = np.mgrid[: IMAGE_SHAPE[0], : IMAGE_SHAPE[1]]
    paths = []
    for number in range(10):
        pixels = 80 + 60 * np.sin(rows / (90 + number)) * np.cos(columns / 110)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    cases = []
    for number in range(IMAGES):
        place = folder / f"x{number}.png"
        place.hardlink_to(paths[number % 10])
        case = replace(
            READY, case_id=f"x{number:04d}", patient_id=f"p{number}", content=f"{number}"
        )
        cases.append((case, (place,)))
    return write_archive(folder / "work", cases)


@contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield opened
        opened.close()


def time_of(page: Any, address: str, shown: str) -> float:
    """Open an address and return the seconds until an element is shown."""
    start = time.monotonic()
    page.goto(address)
    page.locator(shown).first.wait_for(state="attached")
    return time.monotonic() - start


def new_times(browser: Any, address: str, shown: str, count: int) -> list[float]:
    """Open an address in browsers that have never seen it; returns the seconds of each."""
    times = []
    for _ in range(count):
        context = browser.new_context(viewport=SCREEN)
        times.append(time_of(context.new_page(), address, shown))
        context.close()
    return times


@contextmanager
def streamlit_alone(folder: Path) -> Iterator[str]:
    """Serve a page that has nothing but a table of two rows; yields its address."""
    page, port = folder / "alone.py", free_port()
    page.write_text("import streamlit\nstreamlit.dataframe({'a': [1, 2]})\n")
    words = ["--server.port", str(port), "--server.headless", "true"]
    command = [sys.executable, "-m", "streamlit", "run", str(page), *words]
    process = subprocess.Popen(command)  # noqa: S603  # nothing of it comes from outside
    try:
        time.sleep(5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def measure(place: Path, path: str, shown: str) -> dict[str, float]:
    """Start the app and open a page as the first reader, in new browsers and in a known one."""
    with served(SimpleNamespace(path=place)) as (url, _), chromium() as browser:
        new_times(browser, f"{url}/_stcore/health", "body", 1)  # the browser itself has started
        (first,) = new_times(browser, url + path, shown, 1)
        cold = new_times(browser, url + path, shown, 5)
        page = browser.new_context(viewport=SCREEN).new_page()
        known = [time_of(page, url + path, shown) for _ in range(6)][1:]
    return {
        "first_reader_new_browser_s": first,
        "new_browser_s": float(np.median(cold)),
        "known_browser_s": float(np.median(known)),
    }


def record(name: str, row: dict[str, Any], tmp_path: Path) -> None:
    """Write the figures beside those of Streamlit alone, and check that a page opens in time."""
    with streamlit_alone(tmp_path) as url, chromium() as browser:
        alone = new_times(browser, url, TABLE, 6)[1:]
    row["streamlit_alone_new_browser_s"] = float(np.median(alone))
    row |= {"machine": platform.machine(), "cores": os.cpu_count()}
    row["load_average"] = os.getloadavg()[0]
    text = json.dumps(row, indent=1) + "\n"
    folder = Path(os.environ.get("MEDKD_BENCH_OUT", tmp_path))
    (folder / f"{name}.json").write_text(text)
    assert row["known_browser_s"] < LIMIT_S, text


@pytest.mark.parametrize("write", [write_big_index, write_big_results])
def test_a_worklist_of_10000_cases_opens_in_two_seconds(write, tmp_path):
    place = write(tmp_path)
    row = measure(place, "", TABLE)
    record(f"worklist_speed_{write.__name__.removeprefix('write_big_')}", row, tmp_path)


def test_the_first_of_1000_xrays_is_shown_in_two_seconds(tmp_path):
    index = write_big_xrays(tmp_path)
    row = measure(index, "/case?case=x0500", ".viewer[data-loaded=all]")
    record("xray_speed", row, tmp_path)
