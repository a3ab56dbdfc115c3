"""The recipes: teacher, control and student are the same training with another objective.

Control and student share seed, initial weights, batches, views and schedule; they differ by the
list of transfer terms alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from medkd.config.run_settings import TrainingSettings
from medkd.data.loader import TrainLoader
from medkd.models.network import Network, NetworkSettings
from medkd.models.table import build_model
from medkd.provenance import sha256_of_text
from medkd.train.domains import Domain, make_view
from medkd.train.logs import Progress, no_progress
from medkd.train.loop import FitPlan, FitResult, fit
from medkd.train.predict import Prior, labels_of, predict_logits, validation_scores
from medkd.train.state import Scores
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.teacher import FrozenTeacher


@dataclass(frozen=True, slots=True)
class Assignment:
    """One network to train: what, how, where, under which seed and name."""

    name: str
    model: NetworkSettings
    training: TrainingSettings
    folder: Path
    seed: int
    device: str = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class TrainedArm:
    """A trained network with how it went and which share of positives it saw."""

    network: Network
    result: FitResult
    prior: Prior


def train_teacher(
    task: Assignment, domain: Domain, *, progress: Progress = no_progress
) -> TrainedArm:
    """Train a source model on labels alone."""
    return _train(task, domain, TransferSettings(), teacher=None, progress=progress)


def control_arm(
    task: Assignment,
    domain: Domain,
    transfer: TransferSettings,
    *,
    progress: Progress = no_progress,
) -> TrainedArm:
    """Train the student without its terms: what it learns without a teacher."""
    return _train(task, domain, transfer.without_terms(), teacher=None, progress=progress)


def distill(
    task: Assignment,
    domain: Domain,
    transfer: TransferSettings,
    *,
    teacher: FrozenTeacher,
    progress: Progress = no_progress,
) -> TrainedArm:
    """Train the student with everything that the teacher gives it."""
    return _train(task, domain, transfer, teacher=teacher, progress=progress)


def _train(
    task: Assignment,
    domain: Domain,
    transfer: TransferSettings,
    *,
    teacher: FrozenTeacher | None,
    progress: Progress,
) -> TrainedArm:
    train, val = domain.parts["train"], domain.parts["val"]
    loader = TrainLoader(
        train,
        batch_size=task.training.batch_size,
        balanced=task.training.balanced,
        seed=task.seed,
        views=domain.settings.augmentation.views,
        workers=task.training.workers,
    )
    network = build_model(task.model, seed=task.seed)
    objective = TransferObjective(
        network,
        teacher,
        transfer,
        positive_share=loader.sampled_prior,
        view_shape=domain.image_shape,
        seed=task.seed,
    )
    labels = labels_of(val)

    def validate(student: nn.Module) -> Scores:
        logits = predict_logits(student, val, batch_size=4 * task.training.batch_size)
        return validation_scores(logits, labels)

    result = fit(
        objective,
        loader,
        validate=validate,
        plan=_plan(task, domain, transfer, teacher=teacher),
        view=make_view(domain, seed=task.seed),
        progress=progress,
    )
    return TrainedArm(network, result, _prior(loader, transfer))


def _plan(
    task: Assignment, domain: Domain, transfer: TransferSettings, *, teacher: FrozenTeacher | None
) -> FitPlan:
    purpose = [
        task.model.model_dump_json(),
        transfer.model_dump_json(),
        domain.split.fingerprint,
        domain.settings.model_dump_json(exclude={"cache_dir"}),
        f"{teacher.fingerprint()} at {teacher.temperature}" if teacher else "no teacher",
    ]
    return FitPlan(
        settings=task.training,
        folder=task.folder,
        seed=task.seed,
        device=task.device,
        title=task.name,
        purpose=sha256_of_text("\n".join(purpose)),
    )


def _prior(loader: TrainLoader, transfer: TransferSettings) -> Prior:
    """Weighing classes inversely to their share is to a network as if they were equal."""
    trained = 0.5 if transfer.hard_label.class_balanced else loader.sampled_prior[0]
    return Prior(true=loader.source.prior, trained=trained)
