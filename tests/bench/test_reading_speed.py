"""Speed of reading DICOM series against SimpleITK and MONAI, and of slab spacing against MONAI's.

Processor time on one thread, both sides in one run on the same input, so that a busy machine
changes little. What is compared gives the same result, which is asserted first.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name
import torch

from medkd.data.monai_bridge import to_meta_tensor
from medkd.data.resample import SlabSpacingd
from medkd.geometry import VoxelGrid
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.dicom.write import write_dicom_series
from medkd.types import Scan
from tests.bench.reading import WAYS
from tests.io.dicom_helper import write_encoded_series

pytestmark = pytest.mark.bench

ROOT = Path(__file__).resolve().parents[2]
CHEST = VoxelGrid.from_parts((512, 512, 300), spacing_mm=[0.7, 0.7, 1.25], origin_mm=[0, 0, 0])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before, itk = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    yield
    torch.set_num_threads(before)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(itk)


def seconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and interquartile range of the processor time."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    low, middle, high = statistics.quantiles(times, n=4)
    return middle, high - low


def write_row(name: str, tmp_path: Path, row: dict[str, Any]) -> None:
    row |= {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "simpleitk_version": sitk.Version.VersionString(),
        "threads": torch.get_num_threads(),
    }
    folder = Path(os.environ.get("MEDKD_BENCH_OUT", tmp_path))
    (folder / name).write_text(json.dumps(row, indent=1) + "\n")


def chest() -> Scan:
    hu = np.random.default_rng(0).integers(-1000, 400, CHEST.shape[::-1], np.int16).T
    return Scan("1.2.3", hu, CHEST, patient_id="p")


def measured(way: str, folder: Path) -> dict[str, Any]:
    """Read in a process of its own, on one thread, and take what it measured of itself."""
    command = [sys.executable, "-m", "tests.bench.reading", way, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603  # our own module
        command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    return json.loads(done.stdout.splitlines()[-1])


def read_by_all(scan: Scan, folder: Path) -> dict[str, dict[str, Any]]:
    """Check that all read the same voxels, then measure each."""
    for way in ("medkd", "simpleitk"):
        voxels = WAYS[way](folder)
        voxels = voxels.voxels_hu if isinstance(voxels, Scan) else voxels.T
        np.testing.assert_array_equal(voxels, scan.voxels_hu)
    return {way: measured(way, folder) for way in WAYS}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory needs Linux")
def test_an_uncompressed_series_reads_in_a_fraction_of_the_others_time(tmp_path: Path) -> None:
    scan = chest()
    write_dicom_series(scan, tmp_path / "series", patient_name="A^B", patient_id="1")
    found = read_by_all(scan, tmp_path / "series")
    seconds_of = {way: row["median_s"] for way, row in found.items()}
    row = {
        "what": f"DICOM series, 512 x 512 x {CHEST.shape[2]}, uncompressed, with the gate",
        "volume_mib": round(scan.voxels_hu.nbytes / 2**20, 1),
        **found,
        "of_simpleitk": round(seconds_of["medkd"] / seconds_of["simpleitk"], 3),
        "of_monai": round(seconds_of["medkd"] / seconds_of["monai"], 3),
        "peak_of_volume": round(
            found["medkd"]["peak_added_mib"] / (scan.voxels_hu.nbytes / 2**20), 3
        ),
    }
    write_row("reading_dicom.json", tmp_path, row)
    assert row["of_simpleitk"] <= 0.6, row
    assert row["of_monai"] <= 0.2, row
    assert row["peak_of_volume"] <= 1.3, row


@pytest.mark.parametrize(
    ("syntax", "limit"),
    # GDCM's Python binding hands out pixels as text: JPEG lossless takes longer than SimpleITK's.
    [("rle", 0.2), ("jpegls", 1.2), ("jpeg_lossless", 1.7), ("jpeg2000", 1.2)],
)
def test_a_compressed_series_reads_about_as_fast_as_by_simpleitk(
    tmp_path: Path, syntax: str, limit: float
) -> None:
    grid = VoxelGrid.from_parts((512, 512, 30), spacing_mm=[0.7, 0.7, 1.2], origin_mm=[0, 0, 0])
    i, j = np.indices(grid.shape[:2])
    body = np.where(np.hypot(i - 256, j - 256) < 180, -850, -1000)[..., None]
    noise = np.random.default_rng(0).integers(-20, 20, grid.shape)
    scan = Scan("1.2.3", (body + noise).astype(np.int16), grid, patient_id="p")
    scan.voxels_hu[200:300, 200:260] += 890
    folder = tmp_path / "series"
    write_encoded_series(scan, folder, syntax=syntax)
    np.testing.assert_array_equal(read_dicom_folder(folder).voxels_hu, scan.voxels_hu)
    ours, our_iqr = seconds(lambda: WAYS["medkd"](folder), repeats=5)
    theirs, their_iqr = seconds(lambda: WAYS["simpleitk"](folder), repeats=5)
    row = {"what": f"DICOM series, 512 x 512 x 30, {syntax}",
           "medkd_s": round(ours, 3), "medkd_iqr": round(our_iqr, 3),
           "simpleitk_s": round(theirs, 3), "simpleitk_iqr": round(their_iqr, 3),
           "of_simpleitk": round(ours / theirs, 3)}  # fmt: skip
    write_row(f"reading_dicom_{syntax}.json", tmp_path, row)
    assert row["of_simpleitk"] < limit, row


def added_mib(work: Callable[[], object]) -> int | None:
    """Peak memory that the work adds; None where the kernel does not say (not Linux)."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    reset.write_text("5")  # the peak begins anew (proc(5))
    start = _status_kib("VmHWM")
    work()
    return round((_status_kib("VmHWM") - start) / 1024)


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def test_slab_spacing_is_several_times_faster_than_monai(tmp_path: Path) -> None:
    from monai.transforms import Spacingd

    data = {"image": to_meta_tensor(chest())}
    ours = SlabSpacingd("image", (1.0, 1.0, 1.0))
    theirs = Spacingd("image", pixdim=(1.0, 1.0, 1.0), mode="bilinear")
    np.testing.assert_allclose(ours(data)["image"].numpy(), theirs(data)["image"].numpy(), atol=0.6)
    our_mib, their_mib = added_mib(lambda: ours(data)), added_mib(lambda: theirs(data))
    our_s, our_iqr = seconds(lambda: ours(data), repeats=5)
    their_s, their_iqr = seconds(lambda: theirs(data), repeats=3)
    row = {"what": "spacing .7 x .7 x 1.25 to 1 mm, 512 x 512 x 300, int16",
           "medkd_s": round(our_s, 3), "medkd_iqr": round(our_iqr, 3),
           "monai_s": round(their_s, 3), "monai_iqr": round(their_iqr, 3),
           "ratio": round(their_s / our_s, 1),
           "medkd_added_mib": our_mib,
           "monai_added_mib": their_mib}  # fmt: skip
    write_row("resampling.json", tmp_path, row)
    assert row["ratio"] > 5, row
