"""The prevalence at which a network was trained, from its training or from its calibration.

Balanced batches and class weights change the prevalence that a network learns. Its logits are
corrected to the true prevalence before they become probabilities, see `predict.calibrate`.
"""

from __future__ import annotations

import torch

from medkd.models.package import ModelInfo
from medkd.train.plan import Arm, RunContext
from medkd.train.predict import Prior


def learned_prior(
    arm: Arm, context: RunContext, *, sampled: tuple[float, ...], teacher: ModelInfo | None
) -> Prior:
    """Return the prevalence in the data of an arm, and the one that its network learned.

    Class weights act like equally frequent classes. A student that learns from soft labels alone
    learns the prevalence of its teacher, however its own batches are drawn, unless the teacher's
    logits are moved to those of the control.

    Args:
        arm: an arm whose network was trained.
        context: the run.
        sampled: [K] share of positives of each label in its batches.
        teacher: the finished teacher; None: it has none.
    """
    true, outputs = context.domain_of(arm).parts["train"].prior, arm.transfer.outputs
    labels, scale = arm.transfer.hard_label, arm.transfer.targets.scale
    if labels.weight == 0 and teacher is not None and scale == "own":
        if _calibrated_to(arm.teacher, context) == "balanced":
            return Prior(true, sampled, outputs)  # the teacher's calibration does not show its own
        source = context.source
        own = source if teacher.training_fingerprint == source.split.fingerprint else context.target
        return Prior(true, prior_of(teacher, true=own.parts["train"].prior).trained, outputs)
    if labels.class_balanced:
        sampled = (1 / (len(true) if outputs == "exclusive" else 2),) * len(true)
    return Prior(true, sampled, outputs)


def prior_of(info: ModelInfo, *, true: tuple[float, ...]) -> Prior:
    """Return the prevalence at which a finished model was trained, from its calibration.

    The calibration of `medkd calibrate` is that of marks on whole scans and does not show it; then
    the true prevalence is returned.

    Args:
        info: a calibrated model.
        true: [K] prevalence of each label in the data.
    """
    if info.calibrated_on is not None:
        return Prior(true, true, info.outputs)
    shift, temperature = (
        torch.tensor(values).double()
        for values in (info.calibration.logit_shift, info.calibration.temperature)
    )
    share = torch.tensor(true).double()
    if info.outputs == "exclusive":
        biased = share.clamp(min=1e-6).log() - shift * temperature
        return Prior(true, tuple(biased.softmax(dim=0).tolist()), info.outputs)
    biased = torch.logit(share, eps=1e-6) - shift * temperature
    return Prior(true, tuple(torch.sigmoid(biased).tolist()))


def _calibrated_to(teacher: str | None, context: RunContext) -> str:
    """Return the prevalence that the probabilities of an arm assume, `training.prior`."""
    given = context.settings.teachers().get(teacher or "")
    arm = given or context.settings.student
    return arm.training.prior if arm else "data"
