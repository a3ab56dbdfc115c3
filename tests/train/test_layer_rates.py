"""Learning rates per layer, frozen layers and staged unfreezing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medkd.config.run_settings import RunSettings
from medkd.config.training_settings import LayerRate
from medkd.data.sampling import derive_seed
from medkd.errors import SettingsError
from medkd.models.package import load_model, read_info
from medkd.models.table import build_model, parse_model_settings
from medkd.runs import RunFolder
from medkd.train.engine import Engine, learning_rate_at
from medkd.train.layer_rates import LayerRates
from medkd.train.loop import fit
from medkd.train.run import run_training
from medkd.types import PatchBatch
from tests.train.test_run import interrupt_at
from tests.train.toy import ToyLoader, ToyObjective, ToyOutput, make_plan, validate

Build = Callable[..., RunSettings]
Rules = list[dict[str, Any]]
STEM = ["1.weight", "1.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var"]
FROZEN_STEM = [{"match": "[12].*", "rate": 0.0}]


class Recorded(ToyObjective):
    """Notes the progress and the weights and statistics of the student before each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Tensor]] = []

    def forward(self, batch: PatchBatch, progress: float) -> ToyOutput:
        self.seen.append({n: t.clone() for n, t in self.student.state_dict().items()})
        return super().forward(batch, progress)


def trained(folder: Path, rules: Rules, **settings: Any) -> Recorded:
    objective = Recorded()
    fit(objective, ToyLoader(), validate=validate, plan=make_plan(folder, layers=rules, **settings))
    return objective


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("more", [{}, {"average_best": 3}, {"ema_decay": None}])
def test_frozen_layers_and_their_batch_norm_stay_bit_identical(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    objective = trained(tmp_path, FROZEN_STEM, weight_decay=0.5, **more)
    changed = moved(objective.seen[0], objective.student.state_dict())
    assert changed == {"4.weight", "4.bias"}


def test_without_rules_every_tensor_of_the_network_moves(tmp_path: Path) -> None:
    objective = trained(tmp_path, [])
    assert moved(objective.seen[0], objective.student.state_dict()) >= {*STEM, "4.weight"}


def test_a_batch_norm_that_is_trained_in_part_keeps_learning_its_statistics(
    tmp_path: Path,
) -> None:
    objective = trained(tmp_path, [{"match": "2.weight", "rate": 0.0}])
    changed = moved(objective.seen[0], objective.student.state_dict())
    assert "2.running_mean" in changed
    assert "2.weight" not in changed


def test_a_frozen_batch_norm_without_parameters_keeps_its_statistics() -> None:
    norm = nn.BatchNorm1d(2, affine=False)
    network = nn.Sequential(OrderedDict(stem=nn.Linear(2, 2), norm=norm, head=nn.Linear(2, 1)))
    rules = [LayerRate(match="stem.*", rate=0), LayerRate(match="norm.*", rate=0, until=0.5)]
    rates = LayerRates(network.train(), rules)
    modes = []
    for progress in (0.0, 0.4, 0.5):
        rates.apply(progress)
        modes.append(norm.training)
    assert modes == [False, False, True]


def test_layers_are_unfrozen_at_their_step_and_not_before(tmp_path: Path) -> None:
    """4 epochs of 5 steps: half of the training are 10 steps, and step 10 is the first to move."""
    objective = trained(tmp_path, [{"match": "[12].*", "rate": 0.0, "until": 0.5}])
    first, *others = objective.seen
    frozen = [not moved(first, seen) & set(STEM) for seen in others]
    assert frozen == [True] * 10 + [False] * 9


def test_a_rate_that_is_always_one_is_the_training_without_rules(tmp_path: Path) -> None:
    plain, ruled = trained(tmp_path / "a", []), trained(tmp_path / "b", [{"match": "*", "rate": 1}])
    assert not moved(plain.student.state_dict(), ruled.student.state_dict())


def make_engine(rules: Rules) -> Engine:
    settings = make_plan(Path(), layers=rules, warmup_epochs=0).settings
    return Engine(ToyObjective(), settings, batches=5, device="cpu", title="toy")


def test_without_rules_the_optimizer_has_its_two_groups() -> None:
    assert [len(g["params"]) for g in make_engine([]).optimizer.param_groups] == [2, 4]


def test_each_group_has_the_rate_of_the_last_rule_that_matches() -> None:
    rules = [
        {"match": "*", "rate": 0.5},
        {"match": "1.*", "rate": 0.1, "until": 0.5},
        {"match": "4.bias", "rate": 3.0},
    ]
    engine = make_engine(rules)
    names = {id(p): name for name, p in engine.objective.student.named_parameters()}
    for epoch, of_first in [(0, 0.1), (1, 0.1), (2, 1.0), (3, 1.0)]:
        engine.train_epoch(ToyLoader().epoch(epoch), epoch, lambda *_: None)
        last = learning_rate_at(5 * epoch + 4, steps=20, warmup_steps=0, peak=0.01)
        rates = {names[id(p)]: g["lr"] for g in engine.optimizer.param_groups for p in g["params"]}
        factors = {"1": of_first, "2": 0.5, "4.weight": 0.5, "4.bias": 3.0}
        assert rates == pytest.approx(
            {n: last * factors.get(n, factors.get(n[0], 0)) for n in rates}
        )
        assert len(rates) == 6
        assert engine.learning_rate == last


@pytest.mark.parametrize("stop", [(1, 3), (2, 0), (3, 2)], ids=["before", "at", "after"])
def test_a_stopped_training_unfreezes_as_one_in_one_go(
    tmp_path: Path, stop: tuple[int, int]
) -> None:
    rules = [{"match": "[12].*", "rate": 0.0, "until": 0.5}, {"match": "4.*", "rate": 0.3}]
    whole, plan = trained(tmp_path / "whole", rules), make_plan(tmp_path / "parts", layers=rules)
    with pytest.raises(KeyboardInterrupt):
        fit(ToyObjective(), ToyLoader(stop=stop), validate=validate, plan=plan)
    parts = ToyObjective()
    fit(parts, ToyLoader(), validate=validate, plan=plan)
    assert not moved(whole.student.state_dict(), parts.student.state_dict())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, image_settings: Build) -> Path:
    """A trained network of the student's kind, which serves as source model."""
    run = RunFolder(tmp_path_factory.mktemp("source") / "run")
    run_training(image_settings(), run)
    return run.model("control")


def with_layers(values: dict[str, Any], rules: Rules, **more: Any) -> dict[str, Any]:
    training = values["student"]["training"] | {"layers": rules}
    return values["student"] | {"training": training} | more


def test_a_run_keeps_the_frozen_layers_of_its_source_model(
    image_settings: Build, image_values: dict[str, Any], tmp_path: Path, source: Path
) -> None:
    start = {"from": str(source)}
    student = with_layers(image_values, [{"match": "features.*", "rate": 0}], initialise=start)
    run = RunFolder(tmp_path / "run")
    run_training(image_settings(student=student), run)
    first = load_model(source).network.state_dict()
    for arm in ("control", "student"):
        changed = moved(first, load_model(run.model(arm)).network.state_dict())
        assert changed == {"head.weight", "head.bias"}


def test_a_run_that_unfreezes_is_resumed_as_one_in_one_go(
    image_settings: Build,
    image_values: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = [{"match": "features.*", "rate": 0.0, "until": 0.4}]
    settings = image_settings(student=with_layers(image_values, rules))
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    run_training(settings, whole)
    with monkeypatch.context() as patched:
        interrupt_at(patched, "student", 1)
        with pytest.raises(KeyboardInterrupt):
            run_training(settings, parts)
    run_training(settings, parts, resume=True)
    for arm in ("control", "student"):
        one, other = (read_info(run.model(arm)).weights_sha256 for run in (whole, parts))
        assert one == other


def test_a_teacher_has_rates_of_its_own(
    image_settings: Build, image_values: dict[str, Any], tmp_path: Path
) -> None:
    training = image_values["teacher"]["training"]
    training = training | {"layers": [{"match": "features.0.weight", "rate": 0}]}
    teacher = image_values["teacher"] | {"training": training}
    run = RunFolder(tmp_path / "run")
    run_training(image_settings(teacher=teacher, student=None, transfer=None), run)
    found = load_model(run.model("teacher")).network.state_dict()
    seed = derive_seed(image_settings().seed, "teacher")
    first = build_model(parse_model_settings(teacher["model"]), seed=seed).state_dict()
    assert set(first) - moved(first, found) == {"features.0.weight"}


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([{"match": "feature.0.*", "rate": 0}], r"matches no parameter.*features\.0\.weight"),
        ([{"match": "*", "rate": 0}], "nothing would be trained"),
        ([{"match": "*", "rate": 0, "until": 0.5}], "nothing would be trained"),
    ],
)
def test_rules_that_do_not_fit_are_refused_before_the_teacher_is_trained(
    image_settings: Build,
    image_values: dict[str, Any],
    tmp_path: Path,
    rules: Rules,
    reason: str,
) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(SettingsError, match=f"student: .*{reason}"):
        run_training(image_settings(student=with_layers(image_values, rules)), run)
    assert not run.model("teacher").exists()
