"""Speed of reading a DICOM series against SimpleITK, and of slab spacing against MONAI's.

Processor time on one thread, both sides in one run on the same input, so that a busy machine
changes little. What is compared gives the same result, which is asserted first.
"""

import json
import os
import platform
import statistics
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
from medkd.io.dicom import read_dicom_folder
from medkd.types import Scan
from tests.io.dicom_helper import write_ct_series

pytestmark = pytest.mark.bench

CHEST = VoxelGrid.from_parts((512, 512, 200), spacing_mm=[0.7, 0.7, 1.25], origin_mm=[0, 0, 0])


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
        "simpleitk": sitk.Version.VersionString(),
        "threads": torch.get_num_threads(),
    }
    folder = Path(os.environ.get("MEDKD_BENCH_OUT", tmp_path))
    (folder / name).write_text(json.dumps(row, indent=1) + "\n")


def chest() -> Scan:
    hu = np.random.default_rng(0).integers(-1000, 400, CHEST.shape[::-1], np.int16).T
    return Scan("1.2.3", hu, CHEST, patient_id="p")


def by_simpleitk(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def test_an_uncompressed_series_reads_faster_than_by_simpleitk(tmp_path: Path) -> None:
    scan = chest()
    write_ct_series(tmp_path / "series", scan.voxels_hu, CHEST)
    np.testing.assert_array_equal(by_simpleitk(tmp_path / "series").T, scan.voxels_hu)
    np.testing.assert_array_equal(read_dicom_folder(tmp_path / "series").voxels_hu, scan.voxels_hu)
    ours, our_iqr = seconds(lambda: read_dicom_folder(tmp_path / "series"), repeats=7)
    theirs, their_iqr = seconds(lambda: by_simpleitk(tmp_path / "series"), repeats=7)
    row = {"what": f"DICOM series, 512 x 512 x {CHEST.shape[2]}, uncompressed",
           "medkd_s": round(ours, 3), "medkd_iqr": round(our_iqr, 3),
           "simpleitk_s": round(theirs, 3), "simpleitk_iqr": round(their_iqr, 3),
           "ratio": round(theirs / ours, 1)}  # fmt: skip
    write_row("reading_dicom.json", tmp_path, row)
    assert row["ratio"] > 1.3, row


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
    row = {"what": "spacing .7 x .7 x 1.25 to 1 mm, 512 x 512 x 200, int16",
           "medkd_s": round(our_s, 3), "medkd_iqr": round(our_iqr, 3),
           "monai_s": round(their_s, 3), "monai_iqr": round(their_iqr, 3),
           "ratio": round(their_s / our_s, 1),
           "medkd_added_mib": our_mib,
           "monai_added_mib": their_mib}  # fmt: skip
    write_row("resampling.json", tmp_path, row)
    assert row["ratio"] > 5, row
