"""Adds nodules to one real series, alone in its process: time of each part, and peak memory.

    python -m tests.bench.implant_cost N

prints JSON. Needs MEDKD_DATA. The times of reading, measuring and drawing are separate; imports
are not counted.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from medkd.io.scans import read_scan
from medkd.synthetic.implant.make import VERSION, draw_implant
from medkd.synthetic.implant.measured import measure_scan
from medkd.synthetic.implant.settings import ImplantSettings


def measure(n: int) -> dict[str, object]:
    """Read `ct_dicom`, measure it and draw `n` nodules."""
    settings, seconds = ImplantSettings(n=n), {}
    began = time.process_time()

    def lap(name: str) -> None:
        nonlocal began
        now = time.process_time()
        seconds[name], began = round(now - began, 2), now

    scan = read_scan(Path(os.environ["MEDKD_DATA"]) / "ct_dicom")
    lap("reading")
    rng = np.random.default_rng(0)
    measured = measure_scan(scan, rng)
    lap("measuring")
    made = [draw_implant(measured, settings, forms=(), rng=rng) for _ in range(n)]
    lap("nodules")
    return {
        "scan": "ct_dicom",
        "shape": list(scan.voxels_hu.shape),
        "implants_version": VERSION,
        "nodules": sum(implant is not None for implant in made),
        "cpu_seconds": seconds,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]))) + "\n")
