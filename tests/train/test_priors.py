"""The prevalence that a network learned, with values that can be checked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkd.config.run_settings import RunSettings
from medkd.config.training_settings import TrainingSettings
from medkd.models.package import Calibration, ModelInfo
from medkd.runs import RunFolder
from medkd.train.domains import build_domain
from medkd.train.logs import no_progress
from medkd.train.plan import RunContext, plan_arms
from medkd.train.predict import Prior, calibrate
from medkd.train.priors import learned_prior, prior_of

Build = Callable[..., RunSettings]
SAMPLED = (0.6,)
# At a true prevalence of .5 the logits of this teacher are biased by 2 * ln(3) / 2: ln(.75 / .25).
TEACHER = ModelInfo(settings={}, calibration=Calibration((2.0,), (-math.log(3) / 2,)))
SCALED = {"mode": "stored", "average": True, "views": 2, "scale": "control"}


def learned(build: Build, folder: Path, transfer: dict[str, Any], **teacher: Any) -> Prior:
    """Return what a student learns whose batches hold 60 % positives; half of its data are."""
    model = {"kind": "shallow2d", "channels": 4}
    terms = {"terms": [{"kind": "soft_label"}]}
    settings = build(transfer=terms | transfer, teacher={"model": model, "training": teacher})
    domain = build_domain(settings.target, work_dir=folder, seed=0)
    context = RunContext(settings, RunFolder(folder), domain, domain, "cpu", no_progress)
    student = plan_arms(settings)[-1]
    info = replace(TEACHER, training_fingerprint=domain.split.fingerprint)
    return learned_prior(student, context, sampled=SAMPLED, teacher=info)


@pytest.mark.parametrize(
    ("transfer", "teacher", "trained"),
    [
        ({}, {}, 0.6),
        ({"hard_label": {"class_balanced": True}}, {}, 0.5),
        ({"hard_label": {"weight": 0}}, {}, 0.75),
        ({"hard_label": {"weight": 0}}, {"prior": "balanced"}, 0.6),
        ({"hard_label": {"weight": 0}, "targets": SCALED}, {}, 0.6),
    ],
)
def test_a_student_of_soft_labels_alone_learns_the_prevalence_of_its_teacher(
    image_settings: Build, tmp_path: Path, transfer: dict[str, Any], teacher: Any, trained: float
) -> None:
    found = learned(image_settings, tmp_path, transfer, **teacher)
    assert found.true == (0.5,)
    assert found.trained == pytest.approx((trained,))


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_the_prevalence_of_the_training_follows_from_a_calibration(outputs: Any) -> None:
    random = np.random.default_rng(0)
    labels = np.eye(3)[random.choice(3, 500, p=(0.6, 0.3, 0.1))]
    prior = Prior(true=(0.6, 0.3, 0.1), trained=(0.2, 0.3, 0.5), outputs=outputs)
    logits = labels + random.normal(size=(500, 3))
    found = calibrate(logits, labels, prior=prior, settings=TrainingSettings())
    info = ModelInfo(settings={}, calibration=found, outputs=outputs)
    assert prior_of(info, true=prior.true).trained == pytest.approx(prior.trained)
