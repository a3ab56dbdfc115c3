"""What a search costs: seconds and memory for one scan, a long scan and many scans."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.io.dicom.write import write_dicom_series
from medkd.io.volume import write_mhd
from medkd.models.detector import DetectorSettings
from medkd.models.package import ModelInfo, Preprocessing, save_model
from medkd.models.table import build_model
from medkd.synthetic.phantom import PhantomSettings, generator_stamp, make_phantom
from medkd.types import Scan
from tests.detect_cases import chest_with_balls

ROOT = Path(__file__).resolve().parents[2]
RESULT = Path(__file__).parent / "results" / "detect_speed.json"
SCAN_SECONDS, SCAN_MIB = 4.0, 2048
LONG_SLICES, MANY = 1200, 200
MOST_GROWTH_MIB = 64
"""Most memory that a search may gain between its 20th and its last scan."""
STEPS = (
    {"kind": "load"},
    {"kind": "orientation"},
    {"kind": "spacing", "spacing_mm": [1.0, 1.0, 1.0]},
    {"kind": "intensity", "hu_window": [-1000.0, 400.0]},
)
NOTE = (
    "Network with random weights; the number of its peaks is limited, as for a trained one. Where "
    "load_average is above the number of cores, other work ran: seconds on the clock are then too "
    "long, compare processor_s and the ratios of one run. RetinaNet: one window times the number "
    "of windows."
)


def measured(*words: str) -> dict[str, Any]:
    done = subprocess.run(  # noqa: S603  # our own module
        [sys.executable, "-m", "tests.bench.detect_speed", *words],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def longer(scan: Scan) -> Scan:
    """The same chest in `LONG_SLICES` thinner slices."""
    i, j, k = scan.grid.shape
    nearest = (np.arange(LONG_SLICES) * k) // LONG_SLICES
    affine = scan.grid.affine_lps_mm.copy()
    affine[:3, 2] *= k / LONG_SLICES
    voxels = np.asfortranarray(scan.voxels_hu[:, :, nearest])
    return replace(
        scan, seriesuid="2.25.1200", voxels_hu=voxels, grid=VoxelGrid((i, j, LONG_SLICES), affine)
    )


def write_inputs(folder: Path) -> dict[str, Path]:
    """Write a model, a series of 512 x 512 pixels, a long one, and many small volumes."""
    settings = DetectorSettings()
    facts = Preprocessing(steps=STEPS, hu_window=(-1000.0, 400.0))
    info = ModelInfo(settings=settings.model_dump(mode="json"), preprocessing=facts)
    save_model(folder / "model", build_model(settings, seed=0), info)
    scan = make_phantom(PhantomSettings(site="a", size="full"), 0).scan
    write_dicom_series(scan, folder / "scan", patient_name="A^B", patient_id="1")
    write_dicom_series(longer(scan), folder / "long", patient_name="A^B", patient_id="1")
    for number in range(MANY):
        write_mhd(chest_with_balls(), folder / "many" / f"2.25.{number}.mhd")
    return {name: folder / name for name in ("model", "scan", "long", "many")}


def measure_all(folder: Path) -> dict[str, Any]:
    paths = {name: str(path) for name, path in write_inputs(folder).items()}
    network = measured("network", paths["model"], paths["scan"])
    retinanet = measured("retinanet")
    scan = measured("search", paths["model"], paths["scan"], "3")
    windows = network["windows_of_retinanet"]
    times: Callable[[str], float] = lambda name: windows * retinanet[name]["processor_s"]  # noqa: E731
    return {
        "what": "searching a DICOM series of 512 x 512 x 319, from files to written results",
        "note": NOTE,
        "phantom": generator_stamp(),
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("torch", "monai", "numpy")},
        "scan": scan,
        "long_scan": {"slices": LONG_SLICES,
                      **measured("search", paths["model"], paths["long"], "0")},
        "many_scans": {"scans": MANY, **measured("search", paths["model"], paths["many"], "0")},
        "network": network,
        "retinanet": retinanet,
        "retinanet_of_network": {
            name: round(times(name) / network[name]["processor_s"], 1)
            for name in ("float32", "bfloat16")
        },
        "retinanet_of_whole_search": {
            name: round(times(name) / scan["processor_s"], 1) for name in ("float32", "bfloat16")
        },
    }  # fmt: skip


@pytest.mark.bench
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory needs Linux")
def test_a_search_keeps_to_its_time_and_memory(tmp_path: Path) -> None:
    result = measure_all(tmp_path)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    many = result["many_scans"]["after_scans_mib"]
    assert result["scan"]["peak_mib"] <= SCAN_MIB
    assert result["long_scan"]["peak_mib"] <= SCAN_MIB
    assert many[str(MANY)] - many["20"] <= MOST_GROWTH_MIB
    assert result["scan"]["processor_s"] / 2 <= SCAN_SECONDS  # of two cores that nobody else uses
