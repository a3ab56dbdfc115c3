"""An ensemble: the weighted mean of its members' logits on one scale."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from medkd.models.ensemble import Ensemble, confidence_weights
from medkd.models.table import build_model, parse_model_settings
from medkd.train.ensembles import common_scale, likelihood_weights
from tests.transfer.slow_losses import softmax

MEMBERS = [{"kind": "compact2d"}, {"kind": "shallow2d"}]


def test_the_logit_is_the_weighted_mean_of_the_moved_logits() -> None:
    network = build_model(parse_model_settings({"kind": "ensemble", "members": MEMBERS}), seed=0)
    assert isinstance(network, Ensemble)
    network.eval()
    network.factor.copy_(torch.tensor([[2.0], [0.5]]))
    network.offset.copy_(torch.tensor([[1.0], [-3.0]]))
    network.weight.copy_(torch.tensor([[0.25], [0.75]]))
    view = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        first, second = (member(view) for member in network.members)
        found = network(view)
    torch.testing.assert_close(found, 0.25 * (2 * first + 1) + 0.75 * (0.5 * second - 3))


def test_members_of_other_scales_count_the_same_after_they_are_moved() -> None:
    random = torch.Generator().manual_seed(0)
    logits = [torch.randn(50, 2, generator=random) * scale + 3 for scale in (0.1, 20.0)]
    factor, offset = common_scale(logits)
    moved = [factor[n] * one + offset[n] for n, one in enumerate(logits)]
    torch.testing.assert_close(moved[0].mean(dim=0), moved[1].mean(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved[0].std(dim=0), moved[1].std(dim=0), rtol=1e-4, atol=1e-4)
    assert (factor > 0).all()


def test_a_member_that_predicts_worse_weighs_less_and_the_more_labels_the_less() -> None:
    few = likelihood_weights([-5 * 0.5, -5 * 0.6])
    many = likelihood_weights([-500 * 0.5, -500 * 0.6])
    assert sum(few) == pytest.approx(1)
    assert 0.5 < few[0] < 0.65
    assert many[0] > 0.999


def test_with_confidence_the_surer_member_weighs_more_for_each_sample() -> None:
    values = {"kind": "ensemble", "members": MEMBERS, "by_confidence": True}
    network = build_model(parse_model_settings(values), seed=0)
    assert isinstance(network, Ensemble)
    logits = [torch.tensor([[0.1], [-6.0], [2.0]]), torch.tensor([[3.0], [0.2], [2.0]])]

    def entropy(logit: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    expected = []
    for first, second in zip(*(one[:, 0].tolist() for one in logits), strict=True):
        a, b = 1 / entropy(first), 1 / entropy(second)
        expected.append((a * first + b * second) / (a + b))
    torch.testing.assert_close(network.combine(logits)[:, 0], torch.tensor(expected))
    sure = torch.tensor([[[900.0]], [[-900.0]]])
    torch.testing.assert_close(confidence_weights(sure), torch.full((2, 1, 1), 0.5))


def test_constants_of_a_sample_and_the_scale_of_a_member_change_no_class() -> None:
    random = torch.Generator().manual_seed(0)
    first = torch.randn(50, 4, generator=random).double()
    given = [first, 3 * first + 5 * torch.randn(50, 1, generator=random)]

    factor, offset = common_scale(given, exclusive=True)
    moved = [a * z + b for z, a, b in zip(given, factor, offset, strict=True)]

    assert all(len(set(row)) == 1 for row in factor.tolist())  # one factor for all classes
    torch.testing.assert_close(moved[0].softmax(dim=1), moved[1].softmax(dim=1))


def test_classes_on_a_common_scale_have_the_same_mean_and_spread() -> None:
    random = torch.Generator().manual_seed(1)
    logits = [s * torch.randn(80, 3, generator=random) + s for s in (0.5, 4.0)]

    factor, offset = common_scale(logits, exclusive=True)

    moved = [a * z + b for z, a, b in zip(logits, factor, offset, strict=True)]
    centred = [z - z.mean(dim=1, keepdim=True) for z in moved]
    torch.testing.assert_close(centred[0].mean(dim=0), centred[1].mean(dim=0))
    spread = [z.var(dim=0).mean() for z in centred]
    torch.testing.assert_close(spread[0], spread[1])


def test_the_surer_member_is_that_of_the_softmax_of_lower_entropy() -> None:
    logits = 2 * torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(2)).double()

    found = confidence_weights(logits, exclusive=True)

    for sample in range(5):
        sure = [1 / -sum(p * math.log(p) for p in softmax(z.numpy())) for z in logits[:, sample]]
        expected = [value / sum(sure) for value in sure]
        assert found[:, sample].T.tolist() == [pytest.approx(expected)] * 3


def test_members_must_answer_alike() -> None:
    with pytest.raises(ValidationError, match="the members differ in spatial_dims"):
        parse_model_settings({"kind": "ensemble", "members": [MEMBERS[0], {"kind": "compact3d"}]})
    with pytest.raises(ValidationError, match="a point detector cannot be a member"):
        parse_model_settings({"kind": "ensemble", "members": [{"kind": "detector3d"}] * 2})
