"""What a stopped training needs to go on exactly: written whole after every epoch.

Tensors and plain values only, so that the file loads with `weights_only=True`: it can hold no
code. It is local to the run, never part of a model directory, and removed when the arm is done.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medkd.config.run_settings import TrainingSettings
from medkd.errors import CheckpointError
from medkd.files import replacing

Weights = dict[str, Tensor]
Scores = dict[str, float]


@dataclass(slots=True)
class Snapshot:
    """The moving parts after an epoch: weights, averaged weights, optimizer, generators.

    `model` is the objective's state: student and projectors, never the teacher.
    """

    step: int
    model: Weights
    optimizer: dict[str, Any]
    random: dict[str, Tensor]
    average: Weights | None = None
    average_updates: int = 0
    scaler: dict[str, Any] | None = None


@dataclass(slots=True)
class Course:
    """How a training went so far: finished epochs, a row for each, the weights to keep.

    `waited` counts epochs since the kept ones.
    """

    epoch: int = 0
    waited: int = 0
    kept_epoch: int = 0
    kept: Weights | None = None
    scores: Scores = field(default_factory=dict)
    history: list[Scores] = field(default_factory=list)

    def is_over(self, settings: TrainingSettings) -> bool:
        """Say whether every epoch is done, or waiting for a better one has gone on too long."""
        patience = settings.early_stop_patience
        tired = patience is not None and self.waited >= patience
        return self.epoch >= settings.epochs or tired

    def take(self, row: Scores, scores: Scores, *, weights: Weights, by: TrainingSettings) -> None:
        """Take in a finished epoch, and its weights if they are the ones to keep.

        Args:
            row: what is logged of the epoch.
            scores: on validation: roc_auc, pr_auc, loss.
            weights: of the student that was validated.
            by: settings that say what to keep.
        """
        self.epoch += 1
        better = not self.scores or _rank(scores, by.monitor) > _rank(self.scores, by.monitor)
        self.waited = 0 if better else self.waited + 1
        if better or by.keep == "last":
            self.kept = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
            self.kept_epoch, self.scores = self.epoch, dict(scores)
        validation = {f"val_{name}": value for name, value in scores.items()}
        kept_here = {"best": float(self.kept_epoch == self.epoch)}
        self.history.append({"epoch": float(self.epoch), **row, **validation, **kept_here})


def save_state(path: Path, signature: str, *, snapshot: Snapshot, course: Course) -> None:
    """Write a state, whole or not at all.

    Args:
        path: file to write.
        signature: says to which training it belongs.
        snapshot: the moving parts.
        course: what was done so far.

    Raises:
        CheckpointError: if it cannot be written; the one before it is left as it was.
    """
    values = {"signature": signature, "snapshot": _plain(snapshot), "course": _plain(course)}
    try:
        with replacing(path) as temporary:
            torch.save(values, temporary)
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        raise CheckpointError(
            f"{path}: the training state cannot be written",
            [f"{error}", "free space or rights there, then go on with --resume"],
        ) from error


@dataclass(frozen=True, slots=True)
class TrainingState:
    """What `load_state` gives back."""

    snapshot: Snapshot
    course: Course


def load_state(path: Path, signature: str) -> TrainingState:
    """Read a state back.

    Args:
        path: as given to `save_state`.
        signature: of the training that wants to go on.

    Raises:
        CheckpointError: if the file is broken or belongs to another training.
    """
    fresh = f"delete {path.parent} to train this arm from its start"
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
        found = values["signature"]
        state = TrainingState(Snapshot(**values["snapshot"]), Course(**values["course"]))
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reasons = [f"{error}", fresh]
        raise CheckpointError(f"{path}: no training state of this version", reasons) from error
    if found != signature:
        reasons = ["settings, data or teacher are not those it began with", fresh]
        raise CheckpointError(f"{path}: the state of another training", reasons)
    return state


def random_state() -> dict[str, Tensor]:
    """Return the state of torch's own generators, by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Put torch's own generators back."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _rank(scores: Scores, monitor: str) -> tuple[float, float]:
    """Order scores: higher is better; equal ones by the loss."""
    return (-scores["loss"] if monitor == "loss" else scores[monitor], -scores["loss"])


def _plain(value: Snapshot | Course) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}
