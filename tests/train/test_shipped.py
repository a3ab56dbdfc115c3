"""Every shipped configuration runs: one step an arm, on phantoms or made-up images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medkd.config.load import load_settings, shipped_configs
from medkd.config.run_settings import RunSettings
from medkd.models.package import ModelInfo, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.runs import RunFolder
from medkd.synthetic.phantom import PhantomSettings, write_phantom_set
from medkd.train.bench import run_bench
from medkd.train.run import run_training
from tests.data.archives import write_scan_archive, write_xray_archive
from tests.train.conftest import write_images

SHIPPED = shipped_configs()
ONE_STEP = {
    "epochs": 1, "warmup_epochs": 0, "max_steps_per_epoch": 1, "batch_size": 8,
    "early_stop_patience": "null", "workers": 0, "mixed_precision": "'no'",
}  # fmt: skip
TINY_3D = "{kind: compact3d, stem_channels: 4, channels: [4, 4, 4, 4]}"
SPLIT = "target.split={kind: fractions, val: 0.3, test: 0.3}"
CROPS = (
    "target.loading=[{kind: load}, {kind: spacing, spacing_mm: [1, 1, 1]}, "
    "{kind: crop, patch_shape: [16, 16, 16]}, {kind: intensity}]"
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MEDKD_DATA and LUNA16_ROOT in one: made-up images, a phantom set, a random teacher."""
    root = tmp_path_factory.mktemp("data")
    (root / "pneumoniamnist").mkdir()
    write_images(root / "pneumoniamnist" / "pneumoniamnist.npz", rows=28)
    (root / "nodulemnist3d").mkdir()
    write_cubes(root / "nodulemnist3d" / "nodulemnist3d.npz")
    (root / "chestmnist").mkdir()
    write_findings(root / "chestmnist" / "chestmnist.npz")
    (root / "candidates2d").mkdir()
    write_images(root / "candidates2d" / "candidates2d.npz", rows=50)
    (root / "crops3d").mkdir()
    write_cubes(root / "crops3d" / "crops3d.npz")
    for name in ("candidates2d", "crops3d"):
        patients = f"seriesuid,patient_id\n{name}-train-000000,run-0\n"
        (root / name / "patients.csv").write_text(patients)
    write_phantom_set(root / "luna16", PhantomSettings(scans=10, nodules_per_scan="1-2"))
    settings = parse_model_settings({"kind": "luna_classifier"})
    info = ModelInfo(
        settings.model_dump(mode="json"),
        licence="none stated",
        initialisation="imported from luna.state",
        origin="luna.state, sha256 0f2af1",
    )
    save_model(root / "luna_classifier", build_model(settings, seed=0), info)
    write_scan_archive(root / "ct", scans=5)
    write_xray_archive(root / "xray")
    return root


def write_cubes(path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 16), ("val", 8), ("test", 8)):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, 28, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    np.savez(path, **arrays)


def write_findings(path: Path) -> None:
    """Write images in ChestMNIST's layout: 14 labels, each present and absent in every part."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 24), ("val", 16), ("test", 16)):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count)[:, None] >> (np.arange(14) % 3)) % 2
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
    np.savez(path, **arrays)


def short(section: str) -> list[str]:
    return [f"{section}.training.{key}={value}" for key, value in ONE_STEP.items()]


OVERRIDES: dict[str, Callable[[Path], list[str]]] = {
    "bench/nodulemnist3d": lambda _: [
        *short("teacher"), *short("student"), "teacher.model.width=0.1", "bench.seeds=[0]",
    ],
    "bench/pneumoniamnist": lambda _: [
        *short("bench.teachers.lite0"), *short("bench.teachers.wide"), *short("student"),
        "bench.seeds=[0]", "bench.teachers.lite0.model.image_size=32",
    ],
    **{
        name: lambda _: [
            *short("student"), "target.split.limit.labelled_fraction=0.8", "bench.seeds=[0]",
            "bench.teachers.probe.backbone.image_size=32",
            "bench.teachers.probe.views=1", "evaluation.views=1",
        ]
        for name in ("bench/few_labels_xray", "bench/few_labels_ct")
    },
    "bench/few_labels_ct3d": lambda _: [
        *short("student"), "target.split.limit.labelled_fraction=0.8", "bench.seeds=[0]",
        "student.initialise=null", f"bench.teachers.large={{model: {TINY_3D}}}",
        *short("bench.teachers.large"),
    ],
    "demo/phantom": lambda _: [
        *short("student"), "target.data.scans=4", "target.data.nodules_per_scan=2-3",
        "target.split.val=0.25", "target.split.test=0.25", "target.crops.mining.per_scan=2",
        "target.split.limit.labelled_cases=1",
    ],
    "source/ct_nodule": lambda root: [
        *short("teacher"), *short("student"), "teacher.model.channels=[4,6,8]",
        "student.model.channels=[4,6,8]", "target.data.size=region", "target.data.scans=4",
        "target.data.nodules_per_scan=2-3", "target.split.val=0.25", "target.split.test=0.25",
        CROPS,
        f"target.crops.more.nodules.data.index={root / 'ct' / 'work' / 'index.csv'}",
        f"target.crops.more.lung.data.index={root / 'ct' / 'work' / 'index.csv'}",
        "target.crops.more.coarse.data.scans=2", "target.crops.phantoms.scans=1",
        "target.crops.phantoms.new_per_epoch=0", "detection=null",
    ],
    "transfer/chestmnist": lambda _: [
        *short("teacher"), *short("student"), "teacher.model.image_size=32",
    ],
    "transfer/hospital_ct": lambda root: [
        *short("student"), f"target.data.index={root / 'ct' / 'work' / 'index.csv'}", SPLIT,
        CROPS, "target.crops.mining=null", "detection=null",
    ],
    "transfer/hospital_xray": lambda root: [
        *short("teacher"), *short("student"), "teacher.model.image_size=32",
        f"target.data.index={root / 'xray' / 'work' / 'index.csv'}", SPLIT,
    ],
    "transfer/source_to_site": lambda root: [
        *short("student"), *short("bench.teachers.adapted"), "bench.seeds=[0]",
        "target.crops.per_epoch=8",
        f"target.data.index={root / 'ct' / 'work' / 'index.csv'}", SPLIT, CROPS,
        "target.split.limit={labelled_fraction: 0.6, unlabelled: keep}", "detection=null",
    ],
    "transfer/few_label_xray": lambda root: [
        *short("student"), "teacher.backbone.image_size=32", "teacher.views=1",
        "target.loading=[{kind: image, source: file, size_px: [32, 32]}]",
        f"target.data.index={root / 'xray' / 'work' / 'index.csv'}", SPLIT,
        "target.split.limit={labelled_fraction: 0.5, unlabelled: keep}",
    ],
    "teacher/crops3d": lambda _: [*short("teacher"), f"teacher.model={TINY_3D}"],
    "teacher/luna16_resnet3d": lambda _: [*short("teacher"), "teacher.model.width=0.1"],
    "teacher/phantom_resnet3d": lambda _: [
        *short("teacher"), "target.data.scans=3", "teacher.model.width=0.1",
        "target.split.val=0.3", "target.split.test=0.3",
    ],
    "teacher/pneumonia_lite0": lambda _: [*short("teacher"), "teacher.model.image_size=32"],
    "transfer/imported_teacher": lambda root: [
        *short("student"), "target.data.scans=3", f"teacher.from={root / 'luna_classifier'}",
        "target.data.nodules_per_scan=2-2", "target.split.val=0.3", "target.split.test=0.3",
    ],
    "transfer/luna16_candidates": lambda _: [
        *short("teacher"), *short("student"), "teacher.model.width=0.1", "detection=null",
    ],
}  # fmt: skip


def test_every_shipped_configuration_has_its_short_run() -> None:
    assert set(OVERRIDES) == {name for name in SHIPPED if not name.startswith("data/")}


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_shipped_configuration_runs(
    name: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDKD_DATA", str(data_root))
    monkeypatch.setenv("LUNA16_ROOT", str(data_root / "luna16"))
    overrides = [*OVERRIDES[name](data_root), "device=cpu", "evaluation.bootstrap=10"]
    settings = load_settings(SHIPPED[name], RunSettings, overrides=overrides)
    if settings.bench:
        assert len(run_bench(settings, tmp_path / "bench").rows) >= 3
    else:
        evaluation = run_training(settings, RunFolder(tmp_path / "run"))
        assert evaluation.arms[0].classification["test"][0].samples
        said = any("not reproducible without the file" in w for w in evaluation.warnings)
        assert said == (name == "transfer/imported_teacher")
