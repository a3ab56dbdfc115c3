"""The prevalence that a network learned, with values that can be checked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medkd.config.training_settings import TrainingSettings
from medkd.models.package import ModelInfo
from medkd.train.predict import Prior, calibrate
from medkd.train.priors import prior_of


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_the_prevalence_of_the_training_follows_from_a_calibration(outputs: Any) -> None:
    random = np.random.default_rng(0)
    labels = np.eye(3)[random.choice(3, 500, p=(0.6, 0.3, 0.1))]
    prior = Prior(true=(0.6, 0.3, 0.1), trained=(0.2, 0.3, 0.5), outputs=outputs)
    logits = labels + random.normal(size=(500, 3))
    found = calibrate(logits, labels, prior=prior, settings=TrainingSettings())
    info = ModelInfo(settings={}, calibration=found, outputs=outputs)
    assert prior_of(info, true=prior.true).trained == pytest.approx(prior.trained)
