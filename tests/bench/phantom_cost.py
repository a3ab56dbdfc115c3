"""Makes one phantom, alone in its process: processor time, peak memory, and what came out.

    python -m tests.bench.phantom_cost SIZE SITE SEED

prints JSON. Time covers making and writing it as `medkd phantom` does; imports are left out.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from medkd.io.volume import read_grid
from medkd.synthetic.phantom import PhantomSettings, write_phantom_set


def measure(size: str, site: str, seed: int) -> dict[str, object]:
    """Write a set of one scan into a folder that is removed again."""
    settings = PhantomSettings.model_validate(
        {"size": size, "site": site, "seed": seed, "scans": 1}
    )
    with tempfile.TemporaryDirectory() as folder:
        started, wall = time.process_time(), time.perf_counter()
        write_phantom_set(Path(folder) / "set", settings)
        seconds, waited = time.process_time() - started, time.perf_counter() - wall
        (header,) = Path(folder).rglob("*.mhd")
        grid = read_grid(header)
    return {
        "size": size,
        "site": site,
        "seed": seed,
        "cpu_seconds": round(seconds, 2),
        "wall_seconds": round(waited, 2),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "shape": list(grid.shape),
        "spacing_mm": [round(float(mm), 4) for mm in grid.spacing_mm],
    }


if __name__ == "__main__":
    size, site, seed = sys.argv[1:]
    sys.stdout.write(json.dumps(measure(size, site, int(seed))) + "\n")
