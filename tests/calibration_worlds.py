"""A detector with weights that were set by hand, and an INDEX of chests with balls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from medkd.index.case import Case
from medkd.io.metaimage import write_mhd
from medkd.models.detector import DetectorSettings
from medkd.models.package import (
    WHOLE_SCAN,
    Calibration,
    ModelInfo,
    Preprocessing,
    save_model,
    whole_scan_point,
)
from medkd.models.table import build_model
from medkd.types import Nodule, OperatingPoint
from tests.data.archives import write_archive
from tests.detect_cases import BALLS_MM, chest_with_balls
from tests.spheres import sphere_mask

STEPS = (
    {"kind": "load"},
    {"kind": "orientation"},
    {"kind": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
    {"kind": "intensity", "hu_window": [-1000.0, 400.0]},
)
FALSE_MM = (55.0, -112.0, 425.0)
"""LPS mm of a ball that is no nodule."""
POINTS = {
    WHOLE_SCAN: OperatingPoint(0.5, "fp_per_scan", fp_per_scan=1.0),
    whole_scan_point(4.0): OperatingPoint(0.1, "fp_per_scan", fp_per_scan=4.0),
}


def write_density_model(folder: Path, **facts: object) -> Path:
    """Write a point detector: logit = 24 * (density of a cell less that of its 8 corners) - 10."""
    settings = DetectorSettings(channels=(2, 2, 2), blocks=(1, 1))
    network = build_model(settings, seed=0)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 5 or name.startswith("up"):
                value.zero_()
        network.stem[0].weight[0, :, 1, 1, 1] = 1 / 8
        network.join2[0].weight[0, 0, ::2, ::2, ::2] = -1 / 8
        network.join2[0].weight[0, 0, 1, 1, 1] = 1.0
        network.head.weight[0, 0] = 24.0
        network.head.bias.copy_(torch.tensor([-10.0, 0.0, 0.0, 0.0, 2.0]))
    info = ModelInfo(
        settings=settings.model_dump(mode="json"),
        preprocessing=Preprocessing(steps=STEPS),
        calibration=Calibration((1.5,), (0.5,)),
        operating_points=POINTS,
    )
    save_model(folder, network, replace(info, **facts))
    return folder


def write_ball_archive(folder: Path, *, scans: int = 3, refused: bool = False) -> Path:
    """Write scans with balls of varied density, each with a ball that is no nodule; the last has
    none that is. With `refused` one more scan is unreadable."""
    cases, nodules = [], []
    for number in range(scans + refused):
        scan = chest_with_balls(balls=number < scans - 1)
        rng = np.random.default_rng(number)
        for place in (*BALLS_MM, FALSE_MM)[-1 if number >= scans - 1 else 0 :]:
            scan.voxels_hu[sphere_mask(scan.grid, place, 10.0)] = int(rng.integers(-250, 60))
        path = folder / "scans" / f"{number}.mhd"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mhd(scan, path)
        if number == scans:
            path.with_suffix(".raw").write_bytes(b"cut off")
        case = Case(f"s{number}", f"p{number}", "scan", "ready", content=f"d{number}")
        cases.append((case, (path, path.with_suffix(".raw"))))
        name = case.case_id
        if number < scans - 1:
            nodules += [Nodule(name, place, 10.0) for place in BALLS_MM]
        else:
            nodules.append(Nodule(name, (0.0, 0.0, 0.0), 5.0, "excluded"))
    return write_archive(folder / "work", cases, nodules=nodules)
