"""The shipped X-ray bench on the real images: what it trains on, and one step of every arm."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkd.config.load import fill_run_dir, load_settings, shipped_configs
from medkd.config.run_settings import RunSettings
from medkd.train.bench import run_bench
from medkd.train.bench_record import bench_markdown
from medkd.train.domains import build_domain
from tests.real_data import needs_data
from tests.train.test_shipped import short

pytestmark = needs_data
CONFIG = shipped_configs()["bench/pneumoniamnist"]


def test_training_rows_whose_pixels_stand_in_validation_are_dropped(tmp_path: Path) -> None:
    settings = fill_run_dir(load_settings(CONFIG, RunSettings), tmp_path)
    domain = build_domain(settings.target, work_dir=tmp_path, seed=settings.split_seed)
    assert {part: len(source) for part, source in domain.parts.items()} == {
        "train": 4698, "val": 524, "test": 624,
    }  # fmt: skip
    assert any(note.startswith("10 train images dropped") for note in domain.split.notes)
    assert any("unverified" in note for note in domain.index.notes)


@pytest.mark.slow
def test_the_bench_takes_a_step_with_each_arm_and_names_the_prevalence_shift(
    tmp_path: Path,
) -> None:
    overrides = [
        *short("bench.teachers.wide"), *short("student"), *short("bench.teachers.lite0"),
        "bench.seeds=[0]", "bench.teachers.lite0.model.image_size=32", "device=cpu",
        "evaluation.bootstrap=20",
    ]  # fmt: skip
    record = run_bench(load_settings(CONFIG, RunSettings, overrides=overrides), tmp_path / "bench")
    table = bench_markdown(record)
    assert set(record.arms()) == {"lite0", "wide", "control", "from_lite0", "from_wide"}
    assert "74.2 % of the validation samples and 62.5 % of the scored ones" in table
    assert "ResNet-50, 224 px" in table
