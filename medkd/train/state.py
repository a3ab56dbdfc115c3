"""The state from which a stopped training resumes exactly, written after every epoch.

It holds only tensors and plain values, so it loads with `weights_only=True` and cannot contain
code. It belongs to the run, not to the model directory, and is deleted when the arm is finished.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medkd.config.training_settings import TrainingSettings
from medkd.errors import CheckpointError
from medkd.files import replacing

Weights = dict[str, Tensor]
Scores = dict[str, float]


@dataclass(slots=True)
class Snapshot:
    """The state after an epoch: weights, averaged weights, optimizer, random generators.

    `model` is the state of the objective: student and projectors, never the teacher.
    """

    step: int
    model: Weights
    optimizer: dict[str, Any]
    random: dict[str, Tensor]
    average: Weights | None = None
    average_updates: int = 0
    scaler: dict[str, Any] | None = None


@dataclass(slots=True)
class TrainingHistory:
    """The finished epochs of a training, one row for each, and the weights kept so far.

    `waited` is the number of epochs since the kept ones. `best` are the scores and weights of the
    `average_best` best epochs, the best first.
    """

    epoch: int = 0
    waited: int = 0
    kept_epoch: int = 0
    best: list[tuple[Scores, Weights]] = field(default_factory=list)
    scores: Scores = field(default_factory=dict)
    history: list[Scores] = field(default_factory=list)

    def is_over(self, settings: TrainingSettings) -> bool:
        """Return whether all epochs are finished or early stopping applies."""
        patience = settings.early_stop_patience
        stopped_early = patience is not None and self.waited >= patience
        return self.epoch >= settings.epochs or stopped_early

    @property
    def kept(self) -> Weights:
        """The kept weights: the mean of those in `best`; counters are those of the best.

        Frozen tensors are equal in all of them and are kept bit for bit, without rounding.
        """
        if not self.best:
            return {}
        first, *others = (weights for _, weights in self.best)
        return {
            name: torch.stack([tensor, *(w[name] for w in others)]).mean(dim=0)
            if tensor.is_floating_point() and not all(torch.equal(tensor, w[name]) for w in others)
            else tensor
            for name, tensor in first.items()
        }

    def add_epoch(
        self, row: Scores, scores: Scores, *, weights: Weights, by: TrainingSettings
    ) -> None:
        """Add a finished epoch, and keep its weights if the settings say so.

        Args:
            row: the values to log for the epoch.
            scores: validation scores: roc_auc, pr_auc, loss.
            weights: weights of the student that was validated.
            by: settings that define which weights are kept.
        """
        self.epoch += 1
        better = not self.scores or _rank(scores, by.monitor) > _rank(self.scores, by.monitor)
        self.waited = 0 if better else self.waited + 1
        if better or by.keep == "last":
            self.kept_epoch, self.scores = self.epoch, dict(scores)
        copied = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        earlier = [] if by.keep == "last" else self.best
        ranked = sorted(
            [*earlier, (dict(scores), copied)],
            key=lambda one: _rank(one[0], by.monitor),
            reverse=True,
        )
        self.best = ranked[: by.average_best]
        validation = {f"val_{name}": value for name, value in scores.items()}
        kept_here = {"best": float(self.kept_epoch == self.epoch)}
        self.history.append({"epoch": float(self.epoch), **row, **validation, **kept_here})


def save_state(path: Path, signature: str, *, snapshot: Snapshot, past: TrainingHistory) -> None:
    """Write a state completely or not at all.

    Args:
        path: file to write.
        signature: identifies the training.
        snapshot: weights, optimizer and generators.
        past: the finished epochs.

    Raises:
        CheckpointError: if the file cannot be written; the previous state is then unchanged.
    """
    values = {"signature": signature, "snapshot": _plain(snapshot), "course": _plain(past)}
    try:
        with replacing(path) as temporary:
            torch.save(values, temporary)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        raise CheckpointError(
            f"{path}: the training state cannot be written",
            [f"{error}", "free space or change permissions there, then continue with --resume"],
        ) from error


def load_state(path: Path, signature: str) -> tuple[Snapshot, TrainingHistory]:
    """Read a state that `save_state` wrote.

    Args:
        path: file of the state.
        signature: identifies the training that is to be resumed.

    Raises:
        CheckpointError: if the file is broken or belongs to another training.
    """
    fresh = f"delete {path.parent} to train this arm from its start"
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        found = values["signature"]
        state = Snapshot(**values["snapshot"]), TrainingHistory(**values["course"])
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reasons = [f"{error}", fresh]
        raise CheckpointError(f"{path}: not a training state of this version", reasons) from error
    if found != signature:
        reasons = ["settings, data or teacher have changed since it began", fresh]
        raise CheckpointError(f"{path}: the state of another training", reasons)
    return state


def random_state() -> dict[str, Tensor]:
    """Return the state of torch's global random generators, by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Restore the state of torch's global random generators."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _rank(scores: Scores, monitor: str) -> tuple[float, float]:
    """Return a sort key: higher is better; the loss decides between equal scores."""
    return (-scores["loss"] if monitor == "loss" else scores[monitor], -scores["loss"])


def _plain(value: Snapshot | TrainingHistory) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}
