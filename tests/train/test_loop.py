"""The loop on a toy objective: resume, keeping, stopping, averaging."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from medkd.errors import CheckpointError, SettingsError
from medkd.train.engine import TrainingError, build_accelerator
from medkd.train.layer_rates import parameter_groups
from medkd.train.loop import fit
from medkd.types import PatchBatch
from tests.train.toy import (
    ToyLoader,
    ToyObjective,
    ToyOutput,
    make_network,
    make_plan,
    validate,
)


def weights_of(objective: ToyObjective) -> list[torch.Tensor]:
    return list(objective.student.state_dict().values())


def run(folder: Path, *, stop: tuple[int, int] | None = None, **settings: object) -> ToyObjective:
    objective = ToyObjective()
    fit(objective, ToyLoader(stop=stop), validate=validate, plan=make_plan(folder, **settings))
    return objective


@pytest.mark.parametrize("stop", [(2, 0), (2, 3)], ids=["between epochs", "within an epoch"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_and_two_epochs_equal_four_bit_for_bit(
    tmp_path: Path, stop: tuple[int, int], accumulate: int
) -> None:
    whole = run(tmp_path / "whole", accumulate=accumulate)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop=stop, accumulate=accumulate)
    parts = run(tmp_path / "parts", accumulate=accumulate)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole), weights_of(parts), strict=True))


def test_a_resumed_log_equals_that_of_one_go(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop=(3, 1))
    run(tmp_path / "parts")
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 4


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as stream:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(stream)]


def test_a_resumed_training_reads_only_the_epochs_left(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=(2, 1))
    loader = ToyLoader()
    fit(ToyObjective(), loader, validate=validate, plan=make_plan(tmp_path))
    assert loader.epochs_read == [2, 3]


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=(2, 1))
    with pytest.raises(CheckpointError, match="another training"):
        run(tmp_path, learning_rate=0.5)


def test_the_best_epoch_is_kept_and_put_back(tmp_path: Path) -> None:
    losses = iter([0.5, 0.2, 0.4, 0.3])
    seen = []

    def scores(student: torch.nn.Module) -> dict[str, float]:
        seen.append([t.clone() for t in student.state_dict().values()])
        return {"roc_auc": 0.9, "pr_auc": 0.9, "loss": next(losses)}

    objective = ToyObjective()
    result = fit(objective, ToyLoader(), validate=scores, plan=make_plan(tmp_path))
    assert (result.kept_epoch, result.scores["loss"]) == (2, 0.2)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(objective), seen[1], strict=True))


def test_training_stops_when_patience_is_spent(tmp_path: Path) -> None:
    aucs = iter([0.8, 0.7, 0.6, 0.9])
    result = fit(
        ToyObjective(),
        ToyLoader(),
        validate=lambda _: {"roc_auc": next(aucs), "pr_auc": 0.0, "loss": 1.0},
        plan=make_plan(tmp_path, early_stop_patience=2),
    )
    assert (result.epochs, result.kept_epoch) == (3, 1)


def test_the_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    averaged, live = run(tmp_path / "a"), run(tmp_path / "b", ema_decay=None)
    assert not torch.equal(averaged.student[1].weight, live.student[1].weight)


def test_the_best_epochs_are_averaged(tmp_path: Path) -> None:
    """Epochs 2 and 4 of 4 are best; each alone is kept by a training that ends with it as best."""
    losses = {2: 0.2, 4: 0.3}

    def fitted(folder: str, scores: dict[int, float], **settings: object) -> ToyObjective:
        objective, epochs = ToyObjective(), iter(range(1, 5))
        fit(
            objective,
            ToyLoader(),
            validate=lambda _: {
                "roc_auc": 0.5, "pr_auc": 0.5, "loss": scores.get(next(epochs), 1.0),
            },
            plan=make_plan(tmp_path / folder, monitor="loss", **settings),
        )  # fmt: skip
        return objective

    mean = fitted("mean", losses, average_best=2)
    second, fourth = (fitted(str(epoch), {epoch: 0.1}) for epoch in losses)
    for both, one, other in zip(*map(weights_of, (mean, second, fourth)), strict=True):
        expected = (one + other) / 2 if one.is_floating_point() else one
        torch.testing.assert_close(both, expected)


def test_a_full_gpu_ends_the_training_with_a_smaller_batch_as_remedy(tmp_path: Path) -> None:
    class FullGpu(ToyObjective):
        def forward(self, _batch: PatchBatch, _progress: float) -> ToyOutput:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    plan = make_plan(tmp_path, batch_size=8)
    with pytest.raises(TrainingError, match="memory of the GPU is too small") as stopped:
        fit(FullGpu(), ToyLoader(), validate=validate, plan=plan)
    assert "use 4 with training.accumulate 2" in str(stopped.value)


def test_two_batches_accumulated_step_half_as_often(tmp_path: Path) -> None:
    objective = ToyObjective()
    plan = make_plan(tmp_path, epochs=1, warmup_epochs=0, accumulate=2)
    fit(objective, ToyLoader(batches=4), validate=validate, plan=plan)
    assert objective.progress == [0.0, 0.0, 0.5, 0.5]


def test_gradients_of_one_step_do_not_reach_the_next(tmp_path: Path) -> None:
    cleared: list[bool] = []

    class Watched(ToyObjective):
        def forward(self, batch: PatchBatch, progress: float) -> ToyOutput:
            cleared.append(all(p.grad is None for p in self.trainable_parameters()))
            return super().forward(batch, progress)

    plan = make_plan(tmp_path, epochs=2, warmup_epochs=0)
    fit(Watched(), ToyLoader(batches=3), validate=validate, plan=plan)
    assert cleared == [True] * 6


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    objective = ToyObjective(explode_at=0.5)
    with pytest.raises(TrainingError, match="not a finite number"):
        fit(objective, ToyLoader(), validate=validate, plan=make_plan(tmp_path))


def test_steps_an_epoch_are_limited(tmp_path: Path) -> None:
    objective = ToyObjective()
    plan = make_plan(tmp_path, epochs=2, max_steps_per_epoch=1)
    fit(objective, ToyLoader(), validate=validate, plan=plan)
    assert len(objective.progress) == 2


def test_every_batch_is_replaced_by_its_view(tmp_path: Path) -> None:
    seen = []
    plan = make_plan(tmp_path, epochs=2)
    fit(
        ToyObjective(),
        ToyLoader(batches=2),
        validate=validate,
        plan=plan,
        view=lambda batch: seen.append(batch.sample_id[0]) or batch,
    )
    assert seen == ["s0-0", "s1-0", "s1000-0", "s1001-0"]


def test_the_global_generator_is_left_as_it_was(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(tmp_path, epochs=2)
    assert torch.equal(before, torch.get_rng_state())


def test_bf16_and_full_precision_follow_each_other_in_one_process(tmp_path: Path) -> None:
    half = run(tmp_path / "half", mixed_precision="bf16")
    full = run(tmp_path / "full", mixed_precision="no")
    assert half.student[1].weight.dtype == full.student[1].weight.dtype == torch.float32
    assert not torch.equal(half.student[1].weight, full.student[1].weight)


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="a CUDA device can do what this test asks for"
)
def test_what_the_device_cannot_do_is_refused_with_all_reasons() -> None:
    with pytest.raises(SettingsError) as refused:
        build_accelerator("fp16", "cuda")
    assert len(refused.value.reasons) == 2


def test_biases_and_norms_do_not_decay() -> None:
    decaying, still = parameter_groups(make_network().parameters(), 0.1)
    assert [p.dim() for p in decaying["params"]] == [2, 2]
    assert (still["weight_decay"], len(still["params"])) == (0.0, 4)
