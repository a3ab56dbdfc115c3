"""Adversarial features: which way each gradient points, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.transfer.adversarial import adversarial_loss, reverse_gradient
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.teacher import FrozenTeacher
from tests.contracts import TinyNet, tiny_batch, tiny_objective


def settings_of(**keys: object) -> TransferSettings:
    return TransferSettings.model_validate({"terms": [{"kind": "adversarial", **keys}]})


def parts(seed: int = 0) -> tuple[Tensor, Tensor, nn.Module]:
    """Features of teacher and student, and a discriminator."""
    torch.manual_seed(seed)
    return torch.randn(4, 3), torch.randn(4, 3, requires_grad=True), nn.Linear(3, 1)


def test_the_loss_is_the_discriminators_cross_entropy() -> None:
    teacher, student, discriminator = parts()
    weight = discriminator.weight.detach().numpy()[0]
    bias = discriminator.bias.item()

    value = adversarial_loss(teacher, student, discriminator=discriminator, reversal=1.0)

    def probability(row: np.ndarray) -> float:
        return 1 / (1 + math.exp(-float(row @ weight) - bias))

    of_teacher = [-math.log(probability(row)) for row in teacher.numpy()]
    of_student = [-math.log(1 - probability(row)) for row in student.detach().numpy()]
    assert value.item() == pytest.approx((sum(of_teacher) + sum(of_student)) / 8, rel=1e-5)


def test_a_discriminator_that_can_only_guess_gives_ln_2() -> None:
    teacher, student, discriminator = parts()
    nn.init.zeros_(discriminator.weight)
    nn.init.zeros_(discriminator.bias)

    value = adversarial_loss(teacher, student, discriminator=discriminator, reversal=1.0)

    assert value.item() == pytest.approx(math.log(2))


def test_reversal_keeps_the_value_and_turns_the_gradient() -> None:
    value = torch.tensor([2.0, -3.0], requires_grad=True)

    turned = reverse_gradient(value, 0.5)
    turned.sum().backward()

    assert turned.tolist() == pytest.approx([2.0, -3.0])
    assert value.grad.tolist() == [-0.5, -0.5]


def test_the_student_climbs_what_the_discriminator_descends() -> None:
    teacher, student, discriminator = parts()
    adversarial_loss(teacher, student, discriminator=discriminator, reversal=0.5).backward()
    own = discriminator.weight.grad.clone()

    plain = student.detach().clone().requires_grad_()
    probability = discriminator(torch.cat([teacher, plain])).sigmoid()
    label = torch.tensor([[1.0]] * 4 + [[0.0]] * 4)
    discriminator.zero_grad()
    nn.functional.binary_cross_entropy(probability, label).backward()

    torch.testing.assert_close(own, discriminator.weight.grad)
    torch.testing.assert_close(student.grad, -0.5 * plain.grad)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher, student, discriminator = parts()
    teacher.requires_grad_()

    adversarial_loss(teacher, student, discriminator=discriminator, reversal=1.0).backward()

    assert teacher.grad is None


def test_a_student_that_differs_learns_to_pass_for_the_teacher() -> None:
    # The student's features are a free offset; the teacher's lie around (2, -1).
    torch.manual_seed(0)
    offset, discriminator = nn.Parameter(torch.zeros(2)), nn.Linear(2, 1)
    moved = [{"params": discriminator.parameters()}, {"params": [offset], "lr": 0.15}]
    optimiser = torch.optim.SGD(moved, lr=0.1, weight_decay=0.05)
    for _ in range(100):
        noise = 0.5 * torch.randn(2, 64, 2)
        teacher, student = torch.tensor([2.0, -1.0]) + noise[0], offset + noise[1]
        optimiser.zero_grad()
        adversarial_loss(teacher, student, discriminator=discriminator, reversal=4.0).backward()
        optimiser.step()

    assert (offset - torch.tensor([2.0, -1.0])).norm().item() < 1.0


def test_projector_and_discriminator_belong_to_the_term_and_not_to_the_student() -> None:
    objective = tiny_objective(settings_of())
    objective(tiny_batch(), 1.0).loss.backward()

    of_term = dict(objective.terms["adversarial"].named_parameters())

    assert all(parameter.grad is not None for parameter in of_term.values())
    assert {name.split(".")[0] for name in of_term} == {"projector", "discriminator"}
    plain = TinyNet(width=4, seed=0).state_dict()
    assert objective.student.state_dict().keys() == plain.keys()


def test_a_normalised_embedding_of_one_channel_is_refused() -> None:
    teacher = FrozenTeacher(TinyNet(width=1, seed=1))

    with pytest.raises(SettingsError, match="set normalise: false"):
        TransferObjective(TinyNet(width=4, seed=0), teacher, settings_of())
    TransferObjective(TinyNet(width=4, seed=0), teacher, settings_of(normalise=False))
