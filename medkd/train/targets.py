"""The stored answers of a teacher for one student, kept in the cache of the domain."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medkd.config.run_settings import CONTROL
from medkd.models.ensemble import Ensemble
from medkd.models.package import load_model
from medkd.models.probe import Probe
from medkd.train.answers import Asked, asked_views, open_answers, teacher_run, view_logits
from medkd.train.ensembles import LEAST_SPREAD
from medkd.train.plan import Arm, RunContext
from medkd.transfer.objective import tapped_layers, with_embeddings
from medkd.transfer.targets import LOGITS, Answers, LogitTable, StoredTeacher
from medkd.transfer.teacher import FrozenTeacher


def stored_teacher(
    arm: Arm, context: RunContext, teacher: FrozenTeacher, student: nn.Module
) -> StoredTeacher | None:
    """Return the stored answers from which a student learns; None: its teacher is asked live.

    Args:
        arm: the student.
        context: the run, in which the teacher and the control are finished.
        teacher: the student's teacher.
        student: the student's network, whose embedding is compared where no layer is named.

    Raises:
        SettingsError: if the answers would fill the disk.
    """
    chosen = arm.transfer.targets
    if chosen.mode == "live" or not arm.transfer.terms:
        return None
    source = context.target.parts["train"]
    views = int(chosen.views or context.target.settings.augmentation.views)
    asked = context.asked(arm, source, views=views, precision=chosen.precision)
    layers = tapped_layers(with_embeddings(arm.transfer, student, teacher), "teacher")
    answers = _answers(teacher, layers, asked)
    if not chosen.average:
        return StoredTeacher(answers)
    if chosen.scale == "own" or arm.teacher == CONTROL:
        return StoredTeacher(answers, average=True)
    control = load_model(context.run.model(CONTROL), device=context.device).network
    wanted = view_logits(control, asked).mean(dim=1)
    factor, offset = match_scale(_mean_logits(answers, asked), wanted)
    return StoredTeacher(answers, average=True, factor=factor, offset=offset)


def match_scale(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return factor and offset [K] that give logits the mean and spread of others.

    Args:
        logits: [N, K] of a teacher.
        wanted: [N, K] of the network whose scale is taken, for the same samples.

    Example:
        >>> factor, offset = match_scale(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [7.0]]))
        >>> factor.item(), offset.item()
        (3.0, 1.0)
    """
    factor = wanted.std(dim=0) / logits.std(dim=0).clamp(min=LEAST_SPREAD)
    return factor, wanted.mean(dim=0) - factor * logits.mean(dim=0)


def _answers(teacher: FrozenTeacher, layers: list[str], asked: Asked) -> Answers:
    """Return what a teacher says about all views: logits, and the outputs of layers."""
    network = teacher.network
    if isinstance(network, Probe | Ensemble) and not layers:
        logits = view_logits(network, asked) / torch.tensor(teacher.temperature)
        return LogitTable(asked.sample_id, logits)
    return open_answers(
        teacher_run(teacher, layers),
        asked,
        teacher=f"{teacher.fingerprint()} at {teacher.temperature}",
        network=network,
    )


def _mean_logits(answers: Answers, asked: Asked) -> Tensor:
    """Return the mean over the views [N, K] of stored logits."""
    logits = answers.read(answers.rows_of(*asked_views(asked)))[LOGITS]
    return logits.view(len(asked.samples), asked.count, -1).mean(dim=1)
