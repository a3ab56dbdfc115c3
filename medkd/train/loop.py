"""The training loop. It knows an objective, batches and a validation, but nothing of transfer.

`fit` reads top to bottom. Each epoch depends only on (seed, epoch) and on the state written after
the previous epoch. A stopped training therefore resumes exactly, on a CPU bit for bit.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from medkd.config.training_settings import TrainingSettings
from medkd.data.fetch import clear_worker_faults
from medkd.data.sampling import WHOLE, Share
from medkd.provenance import sha256_of_text
from medkd.train.engine import Engine, Objective, View
from medkd.train.logs import EpochHook, Progress, TrainingLog, no_hook, no_progress
from medkd.train.ranks import ALONE, Ranks
from medkd.train.state import Scores, TrainingHistory, load_state, save_state
from medkd.types import PatchBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How, where and under which name one arm is trained.

    `purpose` identifies everything else on which the training depends (data, model, teacher). A
    state with another purpose is never resumed. `ranks` are the processes that train together.
    """

    settings: TrainingSettings
    folder: Path
    seed: int
    device: str = "auto"
    title: str = "training"
    purpose: str = ""
    ranks: Ranks = ALONE

    @property
    def state_file(self) -> Path:
        """The file of the state from which the training resumes."""
        return self.folder / "state" / "state.pt"

    @property
    def signature(self) -> str:
        """The signature that a state must have to be resumed."""
        settings = self.settings.model_dump(mode="json", exclude={"workers"})
        parts = [settings, self.seed, self.purpose]
        return sha256_of_text(json.dumps(parts))


class Loader(Protocol):
    """Training batches, epoch by epoch."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def epoch(self, number: int, share: Share = WHOLE) -> Iterator[PatchBatch]:
        """Yield the batches of an epoch, numbered from 0, or a share of the rows of each."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """The course of a training; the student itself holds the kept weights."""

    epochs: int
    kept_epoch: int
    scores: Scores
    history: tuple[Scores, ...]


def fit(
    objective: Objective,
    loader: Loader,
    *,
    validate: Callable[[nn.Module], Scores],
    plan: FitPlan,
    view: View | None = None,
    progress: Progress = no_progress,
    after_epoch: EpochHook = no_hook,
) -> FitResult:
    """Train the student of an objective and leave the kept weights in it.

    The training resumes from a state in `plan.folder` if there is one. An interruption at any
    point leaves the state of the last finished epoch.

    Args:
        objective: the loss to minimise; it is moved to the device.
        loader: training batches.
        validate: returns the validation scores of the (averaged) student: roc_auc, pr_auc, loss.
        plan: settings, folder, seed.
        view: makes the augmented views of a batch; None: samples are not augmented.
        progress: called after every step.
        after_epoch: called after every epoch, with `plan.title` as the name of the arm.

    Raises:
        TrainingError: if the loss is not finite.
        WorkerError: if a loader process dies, hangs or fails.
        CheckpointError: if a state cannot be written, or belongs to another training.
    """
    settings, student, ranks = plan.settings, objective.student, plan.ranks
    with _seeded(plan.seed):
        engine = _build_engine(objective, loader, plan)
        past = _begin(engine, plan)
        if ranks.count > 1:
            ranks.from_first(engine.snapshot())
        with closing(TrainingLog(plan.folder, past.history)) as log:
            while not past.is_over(settings):
                started = time.perf_counter()
                ranks.from_first(past.epoch)
                with clear_worker_faults():
                    views = engine.views(loader.epoch(past.epoch, ranks.share), view)
                    row = engine.train_epoch(views, past.epoch, progress)
                with engine.evaluated_weights():
                    scores = validate(student)
                    row["learning_rate"] = engine.learning_rate
                    row["seconds"] = round(time.perf_counter() - started, 3)
                    past.add_epoch(row, scores, weights=student.state_dict(), by=settings)
                save_state(plan.state_file, plan.signature, snapshot=engine.snapshot(), past=past)
                log.write(past.history)
                logger.info("%s: %s", plan.title, past.history[-1])
                after_epoch(plan.title, past.epoch, scores)
        ranks.from_first(None)
        student.load_state_dict(past.kept)
    # The bar ends at the steps that were made, because the training may have stopped early.
    early = past.epoch < settings.epochs
    note = f"stopped early after epoch {past.epoch} of {settings.epochs}" if early else ""
    progress(f"{plan.title}: training steps", engine.step, engine.step, note)
    return FitResult(past.epoch, past.kept_epoch, past.scores, tuple(past.history))


def follow_fit(
    objective: Objective, loader: Loader, *, plan: FitPlan, view: View | None = None
) -> None:
    """Compute this process's share of a training that the first process runs with `fit`.

    Weights, optimizer and random generators begin as those of the first process, which also
    decides when the training is over. Nothing is validated or written.

    Args:
        objective: as that of the first process; its student ends with the last weights.
        loader: the same batches as of the first process.
        plan: settings, seed, processes.
        view: as for `fit`.

    Raises:
        OtherProcessError: if another process has ended.
    """
    ranks = plan.ranks
    with _seeded(plan.seed):
        engine = _build_engine(objective, loader, plan)
        engine.restore(ranks.from_first(engine.snapshot()))
        epoch: int | None = 0
        while (epoch := ranks.from_first(epoch)) is not None:
            with clear_worker_faults():
                views = engine.views(loader.epoch(epoch, ranks.share), view)
                engine.train_epoch(views, epoch, no_progress)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's random generators for a while, on a GPU only that of this process."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _build_engine(objective: Objective, loader: Loader, plan: FitPlan) -> Engine:
    settings = plan.settings
    batches = min(len(loader), settings.max_steps_per_epoch or len(loader))
    return Engine(
        objective, settings, batches=batches, device=plan.device, title=plan.title, ranks=plan.ranks
    )


def _begin(engine: Engine, plan: FitPlan) -> TrainingHistory:
    if not plan.state_file.is_file():
        return TrainingHistory()
    snapshot, past = load_state(plan.state_file, plan.signature)
    engine.restore(snapshot)
    logger.info("%s: resumes after epoch %d", plan.title, past.epoch)
    return past
