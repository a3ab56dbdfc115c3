"""Logits, validation scores and calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medkd.config.training_settings import TrainingSettings
from medkd.data.patches import ImagePatches, SampleTable
from medkd.models.package import Calibration, ModelInfo
from medkd.train.predict import (
    Prior,
    calibrate,
    log_odds,
    make_predictions,
    predict_logits,
    validation_scores,
)


class MeanNetwork(nn.Module):
    """The logit is the mean pixel in 0..255; batch norm would show a wrong mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(255.0))
        self.norm = nn.BatchNorm1d(1, momentum=1.0, eps=1e-12)

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        return self.norm(view.flatten(1).mean(dim=1, keepdim=True) * self.scale)


@pytest.fixture
def source() -> ImagePatches:
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(2, 2)
    names = tuple(f"s{n}" for n in range(10))
    label = (torch.arange(10) > 4).float()[:, None]
    table = SampleTable(names, names, names, None, label, torch.ones(10, 1, dtype=torch.bool))
    return ImagePatches(table, pixels)


def test_logits_come_in_order_and_leave_the_network_as_it_was(source: ImagePatches) -> None:
    network = MeanNetwork().train()
    logits = predict_logits(network, source, batch_size=4)
    assert logits[:, 0] == pytest.approx(np.arange(10), abs=1e-4)
    assert network.training
    assert float(network.norm.running_mean) == 0.0


def test_validation_scores_weigh_both_classes_the_same() -> None:
    # negatives: loss ln 2 each (logit 0); the positive: logit 0 too. Balanced mean = ln 2.
    scores = validation_scores(np.zeros((4, 1)), np.array([[0.0], [0], [0], [1]]))
    assert scores == pytest.approx({"roc_auc": 0.5, "pr_auc": 0.25, "loss": np.log(2)})


def simulated(*, true: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that would be right at equal classes, `scale` times too sure, at another prior."""
    random = np.random.default_rng(0)
    labels = (random.random(40_000) < true).astype(np.int64)
    # Two normals at +-1, unit variance: the log likelihood ratio of x is 2 x.
    return (scale * 2 * random.normal(2.0 * labels - 1))[:, None], labels[:, None].astype(float)


def test_calibration_undoes_overconfidence_and_the_balanced_prior() -> None:
    logits, labels = simulated(true=0.1, scale=1.0)
    found = calibrate(
        logits, labels, prior=Prior(true=(0.1,), trained=(0.5,)), settings=TrainingSettings()
    )
    assert found.temperature == pytest.approx((1.0,), abs=0.05)
    assert found.logit_shift == pytest.approx((np.log(0.1 / 0.9),), abs=0.1)


def test_probabilities_may_keep_the_balanced_prior() -> None:
    logits, labels = simulated(true=0.1, scale=1.0)
    settings = TrainingSettings(prior="balanced")
    found = calibrate(logits, labels, prior=Prior(true=(0.1,), trained=(0.5,)), settings=settings)
    assert found.logit_shift == (0.0,)
    assert found.temperature == pytest.approx((1.0,), abs=0.05)


def test_the_log_odds_of_a_class_are_those_of_its_softmax() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 4))
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_odds(logits), np.log(share / (1 - share)), rtol=1e-9)


def test_an_exclusive_class_is_scored_by_its_softmax_and_not_by_its_logit() -> None:
    # The first logit is 0 everywhere, its softmax is greatest where the second logit is least.
    logits = np.array([[0.0, -2.0], [0.0, -1.0], [0.0, 1.0], [0.0, 2.0]])
    labels = np.array([[1.0, 0.0], [1, 0], [0, 1], [0, 1]])
    assert validation_scores(logits, labels)["roc_auc"] == pytest.approx(0.75)  # .5 and 1
    assert validation_scores(logits, labels, outputs="exclusive")["roc_auc"] == 1.0


def test_exclusive_classes_share_one_temperature_and_get_their_own_prevalence() -> None:
    # Class k has logits of unit variance around 2 at place k, so log p(x | k) = 2 x_k + a constant.
    random, true = np.random.default_rng(0), (0.7, 0.2, 0.1)
    classes = random.choice(3, 30_000, p=true)
    logits = 2 * (2 * np.eye(3)[classes] + random.normal(size=(30_000, 3)))
    prior = Prior(true=true, trained=(1 / 3,) * 3, outputs="exclusive")
    found = calibrate(logits, np.eye(3)[classes], prior=prior, settings=TrainingSettings())
    assert found.temperature == pytest.approx((1.0,) * 3, abs=0.05)
    assert len(set(found.temperature)) == 1
    assert found.logit_shift == pytest.approx(tuple(np.log(3 * np.array(true))), abs=0.1)


def test_predictions_carry_calibrated_probabilities(source: ImagePatches) -> None:
    info = ModelInfo(settings={}, calibration=Calibration((2.0,), (1.0,)))
    rows = make_predictions(source, np.full((10, 1), 4.0), info)
    assert rows[9].probabilities == pytest.approx((1 / (1 + np.exp(-3.0)),))
    assert [row.labels for row in rows] == [(0,)] * 5 + [(1,)] * 5
    assert rows[0].center_mm is None
