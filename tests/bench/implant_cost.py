"""Puts nodules into one real series, alone in its process: time, peak memory, share of each part.

    python -m tests.bench.implant_cost N

prints JSON. Needs MEDKD_DATA. Reading the series and making it ready are told apart from each
nodule that is put in; imports are left out.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from medkd.synthetic.implant.rehearse import rehearse
from medkd.synthetic.implant.site import ImplantSite, slice_axis

from medkd.io.scans import read_scan
from medkd.synthetic.implant.make import VERSION
from medkd.synthetic.implant.settings import ImplantSettings


def measure(n: int) -> dict[str, object]:
    """Read `ct_dicom`, measure it, rehearse and draw `n` nodules."""
    settings, seconds = ImplantSettings(n=n), {}
    began = time.process_time()

    def lap(name: str) -> None:
        nonlocal began
        now = time.process_time()
        seconds[name], began = round(now - began, 2), now

    scan = read_scan(Path(os.environ["MEDKD_DATA"]) / "ct_dicom")
    lap("reading")
    rng = np.random.default_rng(0)
    site = ImplantSite.of(scan, slice_axis(scan.grid), rng)
    lap("measuring")
    site = rehearse(site, settings)
    lap("rehearsal")
    made = [site.implant(settings, forms=(), rng=rng) for _ in range(n)]
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
