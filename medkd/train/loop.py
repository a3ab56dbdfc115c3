"""The one training loop: it knows an objective, batches and a validation, and nothing of transfer.

`fit` reads top to bottom. Everything an epoch depends on is either a pure function of (seed,
epoch) or stands in the state that is written after the epoch before it, so that a training
that was stopped goes on exactly: bit for bit on a CPU.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from medkd.config.run_settings import TrainingSettings
from medkd.data.fetch import clear_worker_faults
from medkd.provenance import sha256_of_text
from medkd.train.engine import Engine, Objective, View
from medkd.train.logs import Progress, TrainingLog, no_progress
from medkd.train.state import Course, Scores, load_state, save_state
from medkd.types import PatchBatch

logger = logging.getLogger(__name__)


class TrainLoader(Protocol):
    """Batches in an order that is a pure function of (seed, epoch)."""

    def epoch(self, epoch: int, /) -> Iterable[PatchBatch]:
        """Give the batches of an epoch, counted from 0."""

    def __len__(self) -> int:
        """Batches an epoch."""


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How, where and under which name one arm is trained.

    `purpose` names everything else that the training depends on (data, model, teacher), so that
    a state is never taken up by another training.
    """

    settings: TrainingSettings
    folder: Path
    seed: int
    device: str = "auto"
    title: str = "training"
    purpose: str = ""

    @property
    def state_file(self) -> Path:
        """Where the state to resume from stands."""
        return self.folder / "state" / "state.pt"

    @property
    def signature(self) -> str:
        """What the state must carry to be taken up."""
        settings = self.settings.model_dump(mode="json", exclude={"workers"})
        parts = [settings, self.seed, self.purpose]
        return sha256_of_text(json.dumps(parts))


@dataclass(frozen=True, slots=True)
class FitResult:
    """How the training went; the student itself holds the kept weights."""

    epochs: int
    kept_epoch: int
    scores: Scores
    history: tuple[Scores, ...]


def fit(
    objective: Objective,
    loader: TrainLoader,
    *,
    validate: Callable[[nn.Module], Scores],
    plan: FitPlan,
    view: View | None = None,
    progress: Progress = no_progress,
) -> FitResult:
    """Train an objective's student and leave the kept weights in it.

    Goes on from the state in `plan.folder` where one stands. An interruption at any point leaves
    the state of the last finished epoch.

    Args:
        objective: what is minimised; it is moved to the device.
        loader: training batches.
        validate: scores of the (averaged) student on validation: roc_auc, pr_auc, loss.
        plan: settings, folder, seed.
        view: makes the views of a batch; None trains on the samples as they are.
        progress: told after every step.

    Raises:
        TrainingError: if the loss is not finite.
        WorkerError: if a loader process dies, hangs or fails.
        CheckpointError: if a state cannot be written, or belongs to another training.
    """
    settings, student = plan.settings, objective.student
    batches = min(len(loader), settings.max_steps_per_epoch or len(loader))
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        engine = Engine(objective, settings, batches=batches, device=plan.device, title=plan.title)
        course = _begin(engine, plan)
        with TrainingLog(plan.folder, course.history) as log:
            while not course.is_over(settings):
                started = time.perf_counter()
                with clear_worker_faults():
                    views = engine.views(loader.epoch(course.epoch), view)
                    row = engine.train_epoch(views, course.epoch, progress)
                with engine.evaluated_weights():
                    scores = validate(student)
                    row["learning_rate"] = engine.learning_rate
                    row["seconds"] = round(time.perf_counter() - started, 3)
                    course.take(row, scores, weights=student.state_dict(), by=settings)
                save_state(
                    plan.state_file, plan.signature, snapshot=engine.snapshot(), course=course
                )
                log.write(course.history)
                logger.info("%s: %s", plan.title, course.history[-1])
        student.load_state_dict(course.kept or {})
    _say_finished(engine, plan, course, progress)
    return FitResult(course.epoch, course.kept_epoch, course.scores, tuple(course.history))


def _say_finished(engine: Engine, plan: FitPlan, course: Course, progress: Progress) -> None:
    """End the bar at the steps that were made: patience may have ended the training early."""
    early = course.epoch < plan.settings.epochs
    note = f"stopped early after epoch {course.epoch} of {plan.settings.epochs}" if early else ""
    progress(f"{plan.title}: training steps", engine.step, engine.step, note)


def _begin(engine: Engine, plan: FitPlan) -> Course:
    if not plan.state_file.is_file():
        return Course()
    state = load_state(plan.state_file, plan.signature)
    engine.restore(state.snapshot)
    logger.info("%s: goes on after epoch %d", plan.title, state.course.epoch)
    return state.course
