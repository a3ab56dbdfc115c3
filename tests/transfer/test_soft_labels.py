"""The loss on the teacher's probabilities, with values that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medkd.transfer.outputs import binary_margin
from medkd.transfer.soft_labels import soft_label_loss

logit = st.floats(-12, 12, allow_nan=False)
temperatures = st.sampled_from([0.5, 1.0, 2.0, 4.0, 20.0])


def logits_of(*shares: float) -> Tensor:
    """[1, K] logits whose softmax is `shares`."""
    return torch.tensor([shares], dtype=torch.float64).log()


def kl(teacher: Tensor, student: Tensor, outputs: str = "exclusive", **more: object) -> float:
    return soft_label_loss(teacher, student, outputs=outputs, **{"temperature": 1.0, **more}).item()


def test_divergence_of_two_shares_is_as_by_hand() -> None:
    # .6 ln(.6 / .5) + .4 ln(.4 / .5) = .1094 - .0893 = .0201
    assert kl(logits_of(0.6, 0.4), logits_of(0.5, 0.5)) == pytest.approx(0.0201, abs=5e-5)


def test_divergences_of_several_layers_add_up() -> None:
    # .2 ln(.2 / .1) + .8 ln(.8 / .9) = .0444; with .0201 twice: .0847
    pairs = [((0.6, 0.4), (0.5, 0.5)), ((0.4, 0.6), (0.5, 0.5)), ((0.2, 0.8), (0.1, 0.9))]

    total = sum(kl(logits_of(*t), logits_of(*s)) for t, s in pairs)

    assert total == pytest.approx(0.0847, abs=5e-5)


def test_it_diverges_from_the_teacher_to_the_student_and_not_back() -> None:
    teacher, student = logits_of(0.9, 0.1), logits_of(0.5, 0.5)

    # .9 ln 1.8 + .1 ln .2 = .3681; the other way round .5 ln(.5/.9) + .5 ln 5 = .5108
    assert kl(teacher, student) == pytest.approx(0.3681, abs=5e-5)
    assert kl(student, teacher) == pytest.approx(0.5108, abs=5e-5)


@settings(deadline=None)
@given(teacher=logit, student=logit, temperature=temperatures)
def test_two_logits_and_one_give_the_same_value(
    teacher: float, student: float, temperature: float
) -> None:
    one = [torch.tensor([[m]], dtype=torch.float64) for m in (teacher, student)]
    two = [torch.tensor([[0.3, 0.3 + m]], dtype=torch.float64) for m in (teacher, student)]

    bernoulli = kl(*one, outputs="independent", temperature=temperature)

    assert kl(*two, temperature=temperature) == pytest.approx(bernoulli, abs=1e-9)
    assert kl(two[0], one[1], temperature=temperature) == pytest.approx(bernoulli, abs=1e-9)
    assert kl(one[0], two[1], temperature=temperature) == pytest.approx(bernoulli, abs=1e-9)


def test_the_published_value_for_one_and_two_logits() -> None:
    # Margins 1.2 and -0.4 at T 2, softmax form written out: T^2 sum p ln(p / q)
    p, q = 1 / (1 + math.exp(-0.6)), 1 / (1 + math.exp(0.2))
    by_hand = 4 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))

    value = kl(torch.tensor([[1.2]]), torch.tensor([[-0.4]]), "independent", temperature=2.0)

    assert value == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
@settings(deadline=None)
@given(data=st.data(), temperature=temperatures)
def test_a_soft_label_loss_is_never_negative_and_0_only_if_equal(
    outputs: str, data: st.DataObject, temperature: float
) -> None:
    rows = st.lists(logit, min_size=3, max_size=3)
    teacher = torch.tensor([data.draw(rows)], dtype=torch.float64)
    student = torch.tensor([data.draw(rows)], dtype=torch.float64)
    soften = torch.sigmoid if outputs == "independent" else lambda z: z.softmax(dim=1)
    distance = (soften(teacher / temperature) - soften(student / temperature)).abs().max().item()

    value = kl(teacher, student, outputs, temperature=temperature)

    assert kl(teacher, teacher, outputs, temperature=temperature) == 0.0
    assert value >= -1e-12
    # Pinsker: KL >= 2 TV^2, so what differs by 1e-4 is above rounding.
    assert distance < 1e-4 or value > 0.0


def test_large_logits_stay_finite_in_value_and_gradient() -> None:
    teacher = torch.tensor([[80.0], [-90.0], [1e4]])
    student = torch.tensor([[-80.0], [90.0], [-1e4]], requires_grad=True)

    value = soft_label_loss(teacher, student, outputs="independent", temperature=1.0)
    value.backward()

    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_the_temperature_keeps_the_gradients_size(outputs: str) -> None:
    # Hinton 2015, section 2.1: for high T the gradient is the same at every T.
    sizes = []
    for temperature in (50.0, 100.0):
        student = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64, requires_grad=True)
        teacher = torch.tensor([[1.0, 0.5, -1.5]], dtype=torch.float64)
        soft_label_loss(teacher, student, outputs=outputs, temperature=temperature).backward()
        sizes.append(student.grad.norm().item())

    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_the_students_gradient_changes_with_the_teachers_logits(outputs: str) -> None:
    gradients = []
    for shift in (0.0, 1.0):
        student = torch.tensor([[0.3, -0.2, 0.1]], requires_grad=True)
        teacher = torch.tensor([[1.0 + shift, 0.5, -1.5]])
        soft_label_loss(teacher, student, outputs=outputs, temperature=2.0).backward()
        gradients.append(student.grad)

    assert not torch.allclose(gradients[0], gradients[1], atol=1e-3)


def test_a_step_down_the_gradient_brings_the_student_to_the_teacher() -> None:
    # The sign: the loss pulls, it does not push.
    teacher = torch.tensor([[2.0, -1.0, 0.5]])
    student = torch.zeros(1, 3, requires_grad=True)
    before = kl(teacher, student)

    soft_label_loss(teacher, student, outputs="exclusive", temperature=1.0).backward()

    assert kl(teacher, student.detach() - 0.1 * student.grad) < before


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.ones(2, 3, requires_grad=True)
    student = torch.zeros(2, 3, requires_grad=True)

    soft_label_loss(teacher, student, outputs="exclusive", temperature=1.0).backward()

    assert teacher.grad is None


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_a_batch_is_the_mean_of_its_samples(outputs: str) -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(5, 3).double(), torch.randn(5, 3).double()

    each = [kl(teacher[n : n + 1], student[n : n + 1], outputs) for n in range(5)]

    assert kl(teacher, student, outputs) == pytest.approx(sum(each) / 5)


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_2d_maps_equal_3d_maps_at_depth_1(outputs: str) -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)

    flat = kl(teacher, student, outputs)

    assert kl(teacher[..., None], student[..., None], outputs) == pytest.approx(flat)
    as_samples = [t.movedim(1, -1).reshape(-1, 3) for t in (teacher, student)]
    assert kl(*as_samples, outputs) == pytest.approx(flat)


def test_soft_labels_are_taught_where_known_only_if_asked() -> None:
    teacher = torch.tensor([[2.0, 9.0], [1.0, -1.0]])
    student = torch.zeros(2, 2)
    known = torch.tensor([[True, False], [True, True]])

    masked = kl(teacher, student, "independent", known=known)

    entries = [kl(torch.tensor([[m]]), torch.zeros(1, 1), "independent") for m in (2.0, 1.0, -1.0)]
    assert masked == pytest.approx(sum(entries) / 3)
    assert kl(teacher, student, "independent") > masked


def test_an_exclusive_sample_counts_only_if_all_its_labels_are_known() -> None:
    teacher, student = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]), torch.zeros(2, 3)
    known = torch.tensor([[True, True, True], [True, False, True]])

    masked = kl(teacher, student, "exclusive", known=known)

    assert masked == pytest.approx(kl(teacher[:1], student[:1]))


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_nothing_known_gives_0_and_a_gradient_of_0(outputs: str) -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    known = torch.zeros(3, 2, dtype=torch.bool)

    value = soft_label_loss(
        torch.randn(3, 2), logits, outputs=outputs, temperature=1.0, known=known
    )
    value.backward()

    assert value.item() == 0
    assert logits.grad.abs().max() == 0


def test_half_precision_logits_are_scored_in_full() -> None:
    teacher, student = torch.tensor([[3.0]]).bfloat16(), torch.tensor([[2.0]]).bfloat16()

    value = soft_label_loss(teacher, student, outputs="independent", temperature=4.0)

    assert value.dtype == torch.float32


def test_outputs_that_do_not_match_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 14\) and \(2, 1\)"):
        kl(torch.zeros(2, 14), torch.zeros(2, 1), "independent")


def test_two_independent_outputs_are_not_taken_for_a_binary_decision() -> None:
    with pytest.raises(ValueError, match="different outputs"):
        kl(torch.zeros(2, 1), torch.zeros(2, 2), "independent")


def test_the_margin_of_two_logits_is_second_minus_first() -> None:
    assert binary_margin(torch.tensor([[1.0, 3.5]])).tolist() == [[2.5]]
    assert binary_margin(torch.tensor([[1.5]])).tolist() == [[1.5]]
