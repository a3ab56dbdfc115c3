"""One way of reading a DICOM series, alone in its process: time and peak memory.

    python -m tests.bench.reading medkd FOLDER

prints JSON: seconds of processor time of each run (the first, cold one left out) and the peak
memory that reading added, in MiB.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

RUNS = 5


def by_medkd(folder: Path) -> object:
    from medkd.io.dicom.gate import GateSettings
    from medkd.io.dicom.series import read_dicom_folder

    return read_dicom_folder(folder, gate=GateSettings())


def by_simpleitk(folder: Path) -> object:
    import SimpleITK as sitk  # noqa: N813  # its customary name

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def by_monai(folder: Path) -> object:
    from monai.transforms import LoadImage

    return LoadImage(reader="PydicomReader", image_only=True)(str(folder))


WAYS: dict[str, Callable[[Path], object]] = {
    "medkd": by_medkd, "simpleitk": by_simpleitk, "monai": by_monai,
}  # fmt: skip


def measure(way: str, folder: Path) -> dict[str, object]:
    """Read `RUNS` + 1 times; nothing is kept between runs."""
    read = WAYS[way]
    read(folder)
    seconds, added = [], []
    for _ in range(RUNS):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        before, start = _status_kib("VmHWM"), time.process_time()
        read(folder)
        seconds.append(time.process_time() - start)
        added.append((_status_kib("VmHWM") - before) / 1024)
    return {
        "seconds": [round(value, 4) for value in seconds],
        "median_s": round(statistics.median(seconds), 4),
        "peak_added_mib": round(max(added), 1),
    }


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))  # noqa: T201  # its answer
