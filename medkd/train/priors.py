"""The prevalence at which a network was trained, from its training or from its calibration.

Balanced batches and class weights change the prevalence that a network learns. Its logits are
corrected to the true prevalence before they become probabilities, see `predict.calibrate`.
"""

from __future__ import annotations

import torch

from medkd.models.package import ModelInfo
from medkd.train.plan import Arm, RunContext
from medkd.train.predict import Prior


def learned_prior(arm: Arm, context: RunContext, *, sampled: tuple[float, ...]) -> Prior:
    """Return the prevalence in the data of an arm, and the one that its network learned.

    Class weights act like equally frequent classes.

    Args:
        arm: an arm whose network was trained.
        context: the run.
        sampled: [K] share of positives of each label in its batches.
    """
    true, outputs = context.domain_of(arm).parts["train"].prior, arm.transfer.outputs
    if arm.transfer.hard_label.class_balanced:
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
