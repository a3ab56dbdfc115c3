"""Hints: distances between features, in 2-D, 3-D and pooled."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from medkd.transfer.features import Projector, pool
from medkd.transfer.hints import HintSettings, hint_loss


def test_a_plain_hint_is_the_mean_squared_difference() -> None:
    # differences 1, 2, 0, 3: (1 + 4 + 0 + 9) / 4
    value = hint_loss(torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.zeros(2, 2), normalise=False)

    assert value.item() == pytest.approx(3.5)


def test_a_normalised_hint_is_two_minus_twice_the_cosine() -> None:
    # (1, 1) against (1, 0): cosine .7071
    value = hint_loss(torch.tensor([[5.0, 5.0]]), torch.tensor([[0.2, 0.0]]), normalise=True)

    assert value.item() == pytest.approx(2 - 2 * 0.70711, abs=1e-4)


@pytest.mark.parametrize("normalise", [True, False])
def test_equal_features_cost_nothing(normalise: bool) -> None:
    feature = torch.randn(2, 3, 4, 4)

    assert hint_loss(feature, feature.clone(), normalise=normalise).item() == 0


@pytest.mark.parametrize("normalise", [True, False])
def test_2d_equals_3d_at_depth_1_with_the_same_projector(normalise: bool) -> None:
    torch.manual_seed(0)
    projector = Projector(3, 5)
    teacher, student = torch.randn(2, 5, 4, 6), torch.randn(2, 3, 4, 6)

    flat = hint_loss(teacher, projector(student), normalise=normalise)
    deep = hint_loss(teacher[..., None], projector(student[..., None]), normalise=normalise)

    torch.testing.assert_close(flat, deep)


@pytest.mark.parametrize("normalise", [True, False])
def test_a_batch_is_the_mean_of_its_samples(normalise: bool) -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(4, 3, 2, 2, 2), torch.randn(4, 3, 2, 2, 2)

    each = [
        hint_loss(teacher[n : n + 1], student[n : n + 1], normalise=normalise) for n in range(4)
    ]

    torch.testing.assert_close(hint_loss(teacher, student, normalise=normalise), sum(each) / 4)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_gradient_of_the_students_feature_changes_with_the_teachers(normalise: bool) -> None:
    gradients = []
    for shift in (0.0, 1.0):
        student = torch.ones(2, 3, 4, requires_grad=True)
        teacher = torch.arange(24.0).view(2, 3, 4) + shift * torch.eye(3)[0].view(1, 3, 1)
        hint_loss(teacher, student, normalise=normalise).backward()
        gradients.append(student.grad)

    assert not torch.allclose(gradients[0], gradients[1], atol=1e-4)


def test_no_gradient_reaches_the_teachers_feature() -> None:
    teacher = torch.randn(2, 3, requires_grad=True)

    hint_loss(teacher, torch.randn(2, 3, requires_grad=True), normalise=True).backward()

    assert teacher.grad is None


def test_features_of_all_zeros_have_a_finite_gradient() -> None:
    student = torch.zeros(2, 3, 2, 2, requires_grad=True)

    hint_loss(torch.zeros(2, 3, 2, 2), student, normalise=True).backward()
    hint_loss(torch.ones(2, 3, 2, 2), student, normalise=True).backward()

    assert student.grad.abs().max() < 1e4


def test_maps_of_different_size_are_compared_on_the_smaller_one_of_each_axis() -> None:
    teacher = torch.arange(16.0).view(1, 1, 4, 4)
    student = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])  # means of the 2 x 2 corners of 0..15

    assert hint_loss(teacher, student, normalise=False).item() == pytest.approx(0.0)
    deep = hint_loss(teacher[..., None], student[..., None], normalise=False)
    assert deep.item() == pytest.approx(0.0)


@pytest.mark.parametrize("other", [(2, 4, 3, 3), (1, 3, 3, 3), (2, 3)])
def test_features_that_do_not_match_are_refused_with_what_to_do(other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pooled: true"):
        hint_loss(torch.zeros(2, 3, 3, 3), torch.zeros(*other), normalise=False)


def test_pooling_is_the_mean_over_space() -> None:
    assert pool(torch.arange(8.0).view(1, 2, 2, 2)).tolist() == [[1.5, 5.5]]
    assert pool(torch.ones(3, 4)).shape == (3, 4)


def test_one_layer_named_and_the_other_pooled_needs_pooling() -> None:
    with pytest.raises(ValidationError, match="pooled: true"):
        HintSettings(student_layer="features")
    assert HintSettings(student_layer="features", pooled=True).teacher_layer is None
