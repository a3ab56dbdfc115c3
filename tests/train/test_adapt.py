"""Teachers that are adapted to the target domain: what is changed, stored and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.jsonio import read_json
from medkd.models.adapt import batch_norms
from medkd.models.package import load_model, read_info
from medkd.runs import ARMS, RunFolder, read_predictions
from medkd.train import bench as bench_module
from medkd.train.adapt import shuffled_views
from medkd.train.bench import run_bench
from medkd.train.domains import build_domain
from medkd.train.run import run_training
from medkd.types import Evaluation
from tests.train.test_run import interrupt_at
from tests.train.two_sites import two_site_values

Values = dict[str, Any]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Values:
    return two_site_values(tmp_path_factory.mktemp("sites"))


def adapted(values: Values, adapt: str | None, **teacher: Any) -> RunSettings:
    return RunSettings.model_validate(
        values | {"teacher": values["teacher"] | {"adapt": adapt} | teacher}
    )


@pytest.fixture(scope="module")
def plain(values: Values, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("plain") / "run")
    run_training(adapted(values, None), run)
    return run


def state_of(run: RunFolder, arm: str = "teacher") -> dict[str, Tensor]:
    return load_model(run.model(arm)).network.state_dict()


def changed_in(first: dict[str, Tensor], second: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in first.items() if not torch.equal(tensor, second[name])}


@pytest.mark.parametrize(
    ("adapt", "expected"),
    [
        ("batch_norm", {"features.1", "features.4"}),
        ("embedding", {"head"}),
    ],
)
def test_only_what_is_adapted_changes_in_the_teacher_and_nothing_in_the_control(
    values: Values, plain: RunFolder, tmp_path: Path, adapt: str, expected: set[str]
) -> None:
    run = RunFolder(tmp_path / "run")

    run_training(adapted(values, adapt), run)

    changed = changed_in(state_of(plain), state_of(run))
    assert {name.rpartition(".")[0] for name in changed} == expected
    if adapt == "batch_norm":
        assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var"}
    assert changed_in(state_of(plain, "control"), state_of(run, "control")) == set()
    assert changed_in(state_of(plain, "student"), state_of(run, "student"))
    info = read_info(run.model("teacher"))
    assert info.trained_on.endswith("of pneumoniamnist, without their labels")
    first, second = (read_predictions(one.predictions("teacher", "val")) for one in (plain, run))
    assert [row.logits for row in first] != [row.logits for row in second]


def test_a_given_teacher_is_adapted_in_the_run_and_not_where_it_lies(
    values: Values, plain: RunFolder, tmp_path: Path
) -> None:
    given = plain.model("teacher")
    before = read_info(given).weights_sha256
    alone = {key: value for key, value in values.items() if key not in {"source", "teacher"}}
    settings = RunSettings.model_validate(
        alone | {"teacher": {"from": str(given), "adapt": "batch_norm"}}
    )

    run_training(settings, RunFolder(tmp_path / "run"))

    changed = changed_in(state_of(plain), state_of(RunFolder(tmp_path / "run")))
    assert {name.rpartition(".")[2] for name in changed} == {"running_mean", "running_var"}
    assert read_info(given).weights_sha256 == before


def test_an_interrupted_adapted_run_ends_as_one_in_one_go(
    values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = adapted(values, "batch_norm")
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    run_training(settings, whole)
    with monkeypatch.context() as patched:
        interrupt_at(patched, "teacher", 1)
        with pytest.raises(KeyboardInterrupt):
            run_training(settings, parts)

    run_training(settings, parts, resume=True)

    for name in ARMS:
        first, second = (read_info(run.model(name)).weights_sha256 for run in (whole, parts))
        assert first == second


def test_a_teacher_that_a_bench_shares_is_adapted_once(
    values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []
    whole = bench_module.run_arms

    def watched(settings: RunSettings, arms: Any, *rest: Any, **named: Any) -> Evaluation:
        kept.append([arm.adapt for arm in arms if arm.role == "teacher"])
        return whole(settings, arms, *rest, **named)

    monkeypatch.setattr(bench_module, "run_arms", watched)
    shared = values | {"bench": {"seeds": [0], "teacher_seeds": "shared"}}

    run_bench(adapted(shared, "batch_norm"), tmp_path / "bench")

    assert kept == [["batch_norm"], [None]]


LINEAR = {"kind": "linear2d", "image_shape": [12, 12]}


def test_a_network_without_batch_norm_is_refused_before_training(
    values: Values, tmp_path: Path
) -> None:
    settings = adapted(values, "batch_norm", model=LINEAR)

    with pytest.raises(SettingsError, match="LinearClassifier has no batch norm with stored"):
        run_training(settings, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run" / "training").exists()


def test_a_network_without_batch_norm_is_adapted_by_its_embedding(
    values: Values, tmp_path: Path
) -> None:
    plain, run = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "run")
    alone = values | {"student": None, "transfer": None}

    run_training(adapted(alone, None, model=LINEAR), plain)
    run_training(adapted(alone, "embedding", model=LINEAR), run)

    assert changed_in(state_of(plain), state_of(run)) == {"head.weight", "head.bias"}


def test_the_evaluation_of_an_adapted_teacher_says_so(values: Values, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run_training(adapted(values | {"student": None, "transfer": None}, "batch_norm"), run)

    evaluation = read_json(run.evaluation, Evaluation)

    assert "statistics of batch norm from training samples of" in evaluation.source_data
    network = load_model(run.model("teacher")).network
    assert all(int(norm.num_batches_tracked) == 12 for norm in batch_norms(network).values())


def test_every_sample_is_used_once_in_batches_of_nearly_one_size(
    values: Values, tmp_path: Path
) -> None:
    settings = adapted(values, None)
    part = build_domain(settings.target, work_dir=tmp_path, seed=0).parts["train"]

    given = list(shuffled_views(part, 25, seed=1, device="cpu"))

    assert [len(view) for view in given] == [32, 32, 32]  # 96 samples, at least 25 a batch
    seen = sorted(image.numpy().tobytes() for view in given for image in view)
    every = part.__getitems__(range(len(part))).image
    assert seen == sorted(image.numpy().tobytes() for image in every)
    again = list(shuffled_views(part, 25, seed=1, device="cpu"))
    assert all(torch.equal(a, b) for a, b in zip(given, again, strict=True))


def test_batches_hold_at_least_two_samples(values: Values, tmp_path: Path) -> None:
    part = build_domain(adapted(values, None).target, work_dir=tmp_path, seed=0).parts["val"]
    assert len(part) == 24

    assert min(len(view) for view in shuffled_views(part, 1, seed=0, device="cpu")) == 2
