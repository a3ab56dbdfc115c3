"""The prevalence at which a network was trained, from its calibration."""

from __future__ import annotations

import torch

from medkd.models.package import ModelInfo
from medkd.train.predict import Prior


def prior_of(info: ModelInfo, *, true: tuple[float, ...]) -> Prior:
    """Return the prevalence at which a finished model was trained, from its calibration.

    The calibration of `medkd calibrate` is that of marks on whole scans and does not show it; then
    the true prevalence is returned.

    Args:
        info: a calibrated model.
        true: [K] prevalence of each label in the data.
    """
    if info.calibrated_on is not None:
        return Prior(true, true)
    shift, temperature = (
        torch.tensor(values).double()
        for values in (info.calibration.logit_shift, info.calibration.temperature)
    )
    biased = torch.logit(torch.tensor(true).double(), eps=1e-6) - shift * temperature
    return Prior(true, tuple(torch.sigmoid(biased).tolist()))
