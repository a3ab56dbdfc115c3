"""Time and memory of whole-scan searches, each measurement in a process of its own.

    python -m tests.bench.detect_speed search MODEL INPUT RUNS
    python -m tests.bench.detect_speed network MODEL INPUT
    python -m tests.bench.detect_speed retinanet

Each prints JSON. `search` searches all scans of INPUT, from the files to the written results, as
`medkd detect` does with a model that is loaded. `network` runs the network alone over the lungs of
one scan. `retinanet` runs one window of MONAI's detector at the settings of its LUNA16 bundle, with
random weights.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

WINDOW = (192, 192, 80)
"""Voxels of .703125 x .703125 x 1.25 mm, from MONAI's lung_nodule_ct_detection bundle."""
OVERLAP = 0.25


def measure_search(model: Path, place: Path, runs: int) -> dict[str, Any]:
    """Search all scans `runs` times after a first, cold time; memory is that of all runs."""
    from medkd.detect.jobs import run_job, scan_job
    from medkd.models.package import load_model

    loaded = load_model(model)
    memory_mib: list[float] = []

    def search() -> None:
        with tempfile.TemporaryDirectory() as out:
            run_job(
                scan_job([place], loaded),
                Path(out) / "out",
                progress=lambda *_: memory_mib.append(_resident_mib()),
            )

    found = timed(search, runs)
    return {
        **found,
        "peak_mib": round(_peak_mib()),
        "after_scans_mib": {str(n): round(memory_mib[n - 1]) for n in _some(len(memory_mib))},
    }


def measure_network(model: Path, place: Path) -> dict[str, Any]:
    """Run the network over the lungs of one scan, in each precision."""
    from medkd.data.prepared import prepare_lungs, to_unit_range
    from medkd.detect.fast import fast_copy, has_bfloat16
    from medkd.detect.points import MARGIN_VOX, run_detector
    from medkd.detect.view import DetectSettings, check_model
    from medkd.io.scans import read_scan
    from medkd.models.package import load_model

    loaded = load_model(model)
    scan = read_scan(place)
    prepared = prepare_lungs(scan, check_model(loaded), margin_vox=(MARGIN_VOX,) * 3)
    image = to_unit_range(prepared.voxels_hu, (-1000.0, 400.0))[None]
    size_mm = (scan.grid.spacing_mm * scan.grid.shape).tolist()
    found: dict[str, Any] = {
        "lung_voxels": list(image.shape[2:]),
        "windows_of_retinanet": count_windows(size_mm),
        "processor_has_bfloat16": has_bfloat16(),
    }
    tile = DetectSettings().tile_voxels
    for precision in ("float32", "bfloat16"):
        network = fast_copy(loaded.network, precision)
        view = image.to(next(network.parameters()).dtype)
        with torch.inference_mode():
            found[precision] = timed(lambda n=network, v=view: run_detector(n, v, tile_voxels=tile))
    return found


def measure_retinanet() -> dict[str, Any]:
    """Run one window of MONAI's RetinaNet: a 3-D ResNet-50 with a feature pyramid."""
    from monai.apps.detection.networks.retinanet_network import (
        RetinaNet,
        resnet_fpn_feature_extractor,
    )
    from monai.networks.nets import resnet50

    backbone = resnet50(
        spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7]
    )
    pyramid = resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)
    network = RetinaNet(
        spatial_dims=3, num_classes=1, num_anchors=3, feature_extractor=pyramid,
        size_divisible=[16, 16, 8],
    ).eval().to(memory_format=torch.channels_last_3d)  # fmt: skip
    window = torch.rand(1, 1, *WINDOW).contiguous(memory_format=torch.channels_last_3d)

    def forward(*, bfloat16: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            network(window)

    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "window": list(WINDOW),
        "float32": timed(lambda: forward(bfloat16=False), 2),
        "bfloat16": timed(lambda: forward(bfloat16=True), 2),
    }


def count_windows(size_mm: list[float]) -> int:
    """Return how many windows MONAI's sliding window lays over a scan of this size.

    Example:
        >>> count_windows([360.0, 360.0, 375.0])
        80
    """
    count = 1
    for mm, spacing_mm, side in zip(size_mm, (0.703125, 0.703125, 1.25), WINDOW, strict=True):
        voxels, step = round(mm / spacing_mm), int(side * (1 - OVERLAP))
        count *= max(-(-(voxels - side) // step), 0) + 1
    return count


def timed(work: Callable[[], object], runs: int = 3) -> dict[str, Any]:
    """Return seconds on the clock and of the processor; the first run is not counted."""
    work()
    clock, processor = [], []
    for _ in range(runs):
        start, used = time.perf_counter(), time.process_time()
        work()
        clock.append(round(time.perf_counter() - start, 3))
        processor.append(round(time.process_time() - used, 3))
    if not runs:
        return {}
    return {
        "seconds": clock,
        "median_s": statistics.median(clock),
        "least_s": min(clock),
        "processor_s": statistics.median(processor),
        "load_average": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
    }


def _some(count: int) -> list[int]:
    return sorted({n for n in (1, 20, 100, count) if 0 < n <= count})


def _peak_mib() -> float:
    """Return the peak of this program; getrusage would include that of the process before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main(what: str, *words: str) -> dict[str, Any]:
    """Run one measurement."""
    if what == "search":
        return measure_search(Path(words[0]), Path(words[1]), int(words[2]))
    if what == "network":
        return measure_network(Path(words[0]), Path(words[1]))
    return measure_retinanet()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
