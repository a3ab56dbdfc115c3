"""Losses on logits, against slow sums from the papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from medkd.transfer.dkd import DkdSettings, dkd_loss
from medkd.transfer.logit_mse import logit_mse_loss
from medkd.transfer.logit_standardisation import standardised_loss
from medkd.transfer.settings import TransferSettings, check_transfer
from medkd.transfer.soft_labels import soft_label_loss
from medkd.transfer.table import NOTHING_WITH_TWO_CLASSES, TERMS
from tests.transfer import slow_losses

DIVERGENCES = ["forward", "reverse", "symmetric"]
SEVERAL = [kind for kind in NOTHING_WITH_TWO_CLASSES if kind in TERMS]


def pair(classes: int = 4, samples: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return tuple(
        2 * torch.randn(samples, classes, generator=generator, dtype=torch.float64)
        for _ in range(2)
    )


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_labels_equal_a_slow_sum_in_every_direction(
    divergence: str, temperature: float
) -> None:
    teacher, student = pair()
    more = {"temperature": temperature, "divergence": divergence}

    exclusive = soft_label_loss(teacher, student, outputs="exclusive", **more)
    independent = soft_label_loss(teacher, student, outputs="independent", **more)

    arrays = (teacher.numpy(), student.numpy(), temperature, divergence)
    assert exclusive.item() == pytest.approx(slow_losses.soft_label(*arrays))
    assert independent.item() == pytest.approx(slow_losses.bernoulli(*arrays))


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_two_logits_and_one_give_the_same_value_in_every_direction(divergence: str) -> None:
    one, two = pair(1), pair(1)
    two = [torch.cat([torch.full_like(z, 0.4), z + 0.4], dim=1) for z in two]
    more = {"temperature": 2.0, "divergence": divergence}

    bernoulli = soft_label_loss(*one, outputs="independent", **more)

    softmax = soft_label_loss(*two, outputs="exclusive", **more)
    assert softmax.item() == pytest.approx(bernoulli.item())


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_every_direction_leaves_unknown_labels_out(divergence: str) -> None:
    teacher, student = pair(3)
    known = torch.ones(5, 3, dtype=torch.bool)
    known[1, 2] = False
    more = {"outputs": "independent", "temperature": 2.0, "divergence": divergence}

    masked = soft_label_loss(teacher, student, known=known, **more)

    flat = [rows[known][:, None] for rows in (teacher, student)]
    assert masked.item() == pytest.approx(soft_label_loss(*flat, **more).item())


def test_reverse_is_forward_with_the_sides_exchanged_and_symmetric_is_their_mean() -> None:
    teacher, student = pair()
    more = {"outputs": "exclusive", "temperature": 2.0}

    forward, reverse, symmetric = (
        soft_label_loss(teacher, student, divergence=divergence, **more).item()
        for divergence in DIVERGENCES
    )

    assert reverse == pytest.approx(soft_label_loss(student, teacher, **more).item())
    assert symmetric == pytest.approx((forward + reverse) / 2)
    assert forward != pytest.approx(reverse, rel=0.01)


def test_soft_labels_have_the_gradient_of_the_soft_cross_entropy() -> None:
    # H(p_t, p_s) = KL(t || s) + H(p_t), and the last does not depend on the student.
    teacher, student = pair()
    student.requires_grad_()

    soft_label_loss(teacher, student, outputs="exclusive", temperature=1.0).backward()

    entropy = -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean()
    (expected,) = torch.autograd.grad(entropy, student)
    torch.testing.assert_close(student.grad, expected)


def test_logits_are_expected_and_not_probabilities() -> None:
    # softmax([.2, .3, .5]) is [.289, .320, .391] and not itself; against equal shares of 1/3
    logits = torch.tensor([[0.2, 0.3, 0.5]])
    by_hand = sum(p * np.log(3 * p) for p in (0.2894, 0.3199, 0.3907))

    value = soft_label_loss(logits, torch.zeros(1, 3), outputs="exclusive", temperature=1.0)

    assert value.item() == pytest.approx(by_hand, abs=1e-4)
    assert torch.tensor([0.6, 0.4]).softmax(0).tolist() == pytest.approx([0.550, 0.450], abs=5e-4)


def test_logit_mse_equals_a_slow_sum() -> None:
    teacher, student = pair()

    exclusive = logit_mse_loss(teacher, student, outputs="exclusive")
    independent = logit_mse_loss(teacher, student, outputs="independent")

    expected = slow_losses.logit_mse(teacher.numpy(), student.numpy())
    assert exclusive.item() == pytest.approx(expected)
    assert independent.item() == pytest.approx(((teacher - student) ** 2).sum().item() / 20 / 8)


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_logit_mse_is_the_limit_of_soft_labels_at_high_temperature(outputs: str) -> None:
    teacher, student = pair()

    limit = logit_mse_loss(teacher, student, outputs=outputs).item()

    hot = soft_label_loss(teacher, student, outputs=outputs, temperature=1e4).item()
    assert hot == pytest.approx(limit, rel=1e-3)


def test_logit_mse_of_two_logits_is_that_of_their_margin() -> None:
    # Margins 3 and 1: (3 - 1)^2 / 8 = .5
    two = torch.tensor([[1.0, 4.0]]), torch.tensor([[0.0, 1.0]])
    one = torch.tensor([[3.0]]), torch.tensor([[1.0]])

    assert logit_mse_loss(*two, outputs="exclusive").item() == pytest.approx(0.5)
    assert logit_mse_loss(*one, outputs="independent").item() == pytest.approx(0.5)
    assert logit_mse_loss(two[0], one[1], outputs="exclusive").item() == pytest.approx(0.5)


def test_standardised_soft_labels_equal_a_slow_sum() -> None:
    teacher, student = pair()

    value = standardised_loss(teacher, student, temperature=2.0)

    expected = slow_losses.standardised(teacher.numpy(), student.numpy(), 2.0)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_standardised_logits_of_another_mean_and_spread_cost_nothing() -> None:
    teacher, _ = pair()

    assert standardised_loss(teacher, 3 * teacher - 5, temperature=2.0).item() < 1e-9


def test_equal_logits_in_all_classes_have_a_finite_gradient() -> None:
    student = torch.zeros(2, 3, requires_grad=True)

    standardised_loss(torch.tensor([[1.0, 2.0, 4.0]] * 2), student, temperature=2.0).backward()

    assert torch.isfinite(student.grad).all()


def test_dkd_equals_a_slow_sum() -> None:
    teacher, student = pair()
    settings = DkdSettings(temperature=1.0, target_weight=0.7, non_target_weight=3.0)
    label = [0, 3, 1, 1, 2]

    value = dkd_loss(teacher, student, torch.tensor(label), settings=settings)

    expected = slow_losses.dkd(teacher.numpy(), student.numpy(), label, weights=(0.7, 3.0))
    assert value.item() == pytest.approx(expected)


def test_dkd_whose_second_weight_is_the_other_classes_share_is_the_soft_label_loss() -> None:
    teacher, student = (rows[:1] for rows in pair())
    rest = 1 - (teacher / 2).softmax(1)[0, 1].item()
    settings = DkdSettings(temperature=2.0, target_weight=1.0, non_target_weight=rest)

    value = dkd_loss(teacher, student, torch.tensor([1]), settings=settings)

    plain = soft_label_loss(teacher, student, outputs="exclusive", temperature=2.0)
    assert value.item() == pytest.approx(plain.item())


def test_the_published_reason_holds_with_two_classes_nothing_is_left() -> None:
    teacher, student = pair(2)
    only_others = DkdSettings(temperature=1.0, target_weight=0.0)

    others = dkd_loss(teacher, student, torch.tensor([0, 1, 1, 0, 1]), settings=only_others)
    same_decisions = standardised_loss(teacher, 5 * teacher, temperature=1.0)

    assert others.item() == pytest.approx(0.0, abs=1e-12)
    assert same_decisions.item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("kind", SEVERAL)
def test_losses_for_several_classes_are_refused_for_two(kind: str) -> None:
    settings = TransferSettings.model_validate({"terms": [{"kind": kind}], "outputs": "exclusive"})

    (reason,) = check_transfer(settings, 2)

    assert NOTHING_WITH_TWO_CLASSES[kind] in reason
    assert "use soft_label or logit_mse" in reason
    assert check_transfer(settings, 3, teacher_label_count=3) == ()
    assert "cannot teach 3" in check_transfer(settings, 3, teacher_label_count=4)[0]


@pytest.mark.parametrize("kind", SEVERAL)
def test_losses_for_several_classes_are_refused_for_several_independent_labels(kind: str) -> None:
    with pytest.raises(ValidationError, match="exclusive with at least 3 classes"):
        TransferSettings.model_validate({"terms": [{"kind": kind}]})
