"""A stand-in for the models that ship with medkd: one tiny detector in half precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medkd.models.detector import DetectorSettings
from medkd.models.network import Network
from medkd.models.package import DataSource, ModelInfo, Preprocessing, save_model
from medkd.models.table import build_model
from medkd.types import CaseOrigins, Interval, OperatingPoint

NAME = "ct-nodule-small"
TINY = DetectorSettings(channels=(4, 6, 8), blocks=(1, 1))
STEPS = (
    {"kind": "load"},
    {"kind": "spacing", "spacing_mm": [4.0, 4.0, 4.0]},
    {"kind": "intensity"},
)
INFO = ModelInfo(
    settings=TINY.model_dump(mode="json"),
    preprocessing=Preprocessing(
        steps=STEPS,
        hu_window=(-1000.0, 400.0),
        spacing_mm=(4.0, 4.0, 4.0),
    ),
    operating_points={"whole-scan": OperatingPoint(0.25, "fp_per_scan", fp_per_scan=1.0)},
    trained_on="real and synthetic scans: set A, 3 synthetic and 2 real scans for training",
    trained_on_synthetic=True,
    origins=CaseOrigins(real=2, phantom=3),
    generators=("medkd phantom 2",),
    metrics={"test_cpm": 0.842, "val_loss": 0.1},
    metric_intervals={"test_cpm": Interval(0.811, 0.871)},
    purpose="Finds lung nodules in chest CT.",
    sources=(
        DataSource("Set A", "CC BY 4.0", "A. Author et al. 2017, Set A", counts={"nodules": 1186}),
    ),
    limits=("Nodules below 3 mm were not in the training data.",),
    config="ct_points",
    seed=7,
    licence="Apache-2.0",
)


def trained(settings: DetectorSettings, seed: int = 0) -> Network:
    """A network whose batch-norm statistics are those of a few random views."""
    network = build_model(settings, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(2, 1, 16, 16, 16, generator=generator))
    return network.eval()


def ship(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `root` the folder of the shipped models, and ship one; return its directory."""
    monkeypatch.setattr("medkd.models.shipped.SHIPPED", root)
    save_model(root / NAME, trained(TINY), replace(INFO), half=True)
    return root / NAME
