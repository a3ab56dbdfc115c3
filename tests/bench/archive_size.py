"""Index an archive of 100,000 files: time, peak memory, and a kill on the way.

The files are small (CT slices of 32 x 32 pixels in series of 300, pictures, texts), so that what is
measured is the index's own work, not the reading of pixels. Run:
`python -m tests.bench.archive_size FOLDER`; rows go to `results/archive_size.json`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from medkd.archive.build import build_archive_index
from medkd.archive.settings import IndexSettings
from medkd.geometry import VoxelGrid
from medkd.index.table import ArchiveIndex, read_index_record
from medkd.io.dicom.write import write_dicom_series
from medkd.types import Scan

RESULTS = Path(__file__).parent / "results" / "archive_size.json"
SLICES = 300
_SERIES = "1.2.826.0.1.3680043.8.498.1"


def make_archive(root: Path, files: int) -> dict[str, int]:
    """Write an archive of so many files; return how many of each kind."""
    series = files * 72 // 100 // SLICES
    pictures = files // 5
    texts = files - series * SLICES - pictures
    templates = _slices(root.with_name("template"))
    for number in range(series):
        folder = root / f"patient{number % 50}" / f"series{number}"
        folder.mkdir(parents=True)
        for name, content in templates.items():
            # UIDs of equal length: bytes are changed in place, the header stays right.
            mark = f"{number:05d}".encode()
            (folder / name).write_bytes(content.replace(b".77777", b"." + mark))
    folder = root / "films"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(pictures):
        pixels = random.integers(0, 256, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    for number in range(texts):
        place = root / "notes" / f"{number % 100}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.txt").write_text(f"note {number}")
    return {"series": series, "pictures": pictures, "texts": texts}


def _slices(folder: Path) -> Mapping[str, bytes]:
    """Return the bytes of one series whose UIDs hold the number 77777."""
    grid = VoxelGrid.from_parts((32, 32, SLICES), spacing_mm=[10, 10, 1.5], origin_mm=[0, 0, 0])
    voxels = np.random.default_rng(0).integers(-1000, 400, grid.shape).astype(np.int16)
    scan = Scan(f"{_SERIES}.77777", voxels, grid, "p")
    extra = {"StudyInstanceUID": f"{_SERIES}.1.77777", "FrameOfReferenceUID": f"{_SERIES}.2.77777"}
    paths = write_dicom_series(scan, folder, patient_name="A^B", patient_id="7.77777", extra=extra)
    content = {path.name: path.read_bytes() for path in paths}
    shutil.rmtree(folder)
    return content


def index(root: Path, out: Path, workers: int) -> ArchiveIndex:
    """Index the archive; series of coarse pixels are let pass, so that pixels are read."""
    settings = IndexSettings.model_validate({"workers": workers, "gate": {"max_voxel_mm": 20.0}})
    return build_archive_index(root, out, settings, progress=lambda *_: None)


def _index_and_tell(root: Path, out: Path, workers: int, pipe: Connection) -> None:
    begun = time.perf_counter()
    index(root, out, workers)
    pipe.send(time.perf_counter() - begun)


def _peaks_mib(pid: int) -> dict[int, float]:
    """Return the peak resident memory so far of a process and all that it started (Linux)."""
    parents, peaks = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "status").read_text().splitlines()
        except OSError:
            continue
        values = dict(line.split(":", 1) for line in lines if ":" in line)
        parents[int(folder.name)] = int(values["PPid"])
        peaks[int(folder.name)] = int(values.get("VmHWM", "0 kB").split()[0]) / 1024
    family, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return {member: peaks[member] for member in family if member in peaks}


def run(root: Path, out: Path, *, workers: int, kill_after_s: float | None) -> dict[str, float]:
    """Index in a process of its own, killed after some seconds if asked; return what it took."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_index_and_tell, args=(root, out, workers, sending))
    process.start()
    pid = process.pid or 0
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        family = set(_peaks_mib(pid))
        os.kill(pid, signal.SIGKILL)
        process.join()
        time.sleep(3.0)
        return {"processes_left": sum(Path(f"/proc/{member}").exists() for member in family)}
    peaks: dict[int, float] = {}
    while not receiving.poll(0.5):
        for member, mib in _peaks_mib(pid).items():
            peaks[member] = max(mib, peaks.get(member, 0.0))
    seconds = receiving.recv()
    process.join()
    others = [mib for member, mib in peaks.items() if member != pid]
    return {
        "seconds": round(seconds, 1),
        "peak_mib": round(peaks.get(pid, 0.0)),
        "peak_mib_of_a_worker": round(max(others, default=0.0)),
    }


def measure(
    folder: Path, files: int, *, workers: int = 2, kill_after_s: float
) -> dict[str, object]:
    """Make an archive, kill its first run, let the second go on, and run a third for nothing."""
    root, out = folder / f"archive{files}", folder / f"work{files}" / "index.csv"
    made = make_archive(root, files)
    killed = run(root, out, workers=workers, kill_after_s=kill_after_s)
    resumed = run(root, out, workers=workers, kill_after_s=None)
    again = run(root, out, workers=workers, kill_after_s=None)
    counts = read_index_record(out)["counts"]
    shutil.rmtree(root)
    return {"files": files, **made, "killed_after_s": kill_after_s, **killed, "resumed": resumed,
            "unchanged": again, "counts": counts}  # fmt: skip


def main() -> None:
    """Measure 10,000 and 100,000 files and store the rows."""
    folder = Path(sys.argv[1])
    sizes = [int(text) for text in sys.argv[2:]] or [10_000, 100_000]
    rows = [measure(folder, size, kill_after_s=4.0 + size / 2500) for size in sizes]
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
               "python": platform.python_version(), "workers": 2}  # fmt: skip
    RESULTS.write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
