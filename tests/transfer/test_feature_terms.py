"""Losses on features: what all of them hold, and each against slow loops from its paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from medkd.errors import SettingsError
from medkd.transfer.attention import attention_loss
from medkd.transfer.feature_kl import feature_kl_loss
from medkd.transfer.objective import TransferObjective
from medkd.transfer.rkd import rkd_angle_loss, rkd_distance_loss
from medkd.transfer.settings import TransferSettings, batch_misfits, check_transfer
from medkd.transfer.similarity import pkt_loss, similarity_loss
from medkd.transfer.teacher import FrozenTeacher
from tests.contracts import TinyNet, tiny_batch, tiny_objective
from tests.transfer import slow_losses

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, tuple[Loss, Callable[..., float]]] = {
    "attention": (attention_loss, slow_losses.attention),
    "kl over space": (
        partial(feature_kl_loss, over="space", temperature=2.0),
        partial(slow_losses.feature_kl, over="space", temperature=2.0),
    ),
    "kl over channels": (
        partial(feature_kl_loss, over="channels", temperature=2.0),
        partial(slow_losses.feature_kl, over="channels", temperature=2.0),
    ),
    "rkd_distance": (rkd_distance_loss, slow_losses.rkd_distance),
    "rkd_angle": (rkd_angle_loss, slow_losses.rkd_angle),
    "similarity": (similarity_loss, slow_losses.similarity),
    "pkt": (pkt_loss, slow_losses.pkt),
}
RELATIONS = {name: LOSSES[name] for name in ("rkd_distance", "rkd_angle", "similarity", "pkt")}
every_loss = pytest.mark.parametrize("loss", [fast for fast, _ in LOSSES.values()], ids=LOSSES)
every_relation = pytest.mark.parametrize(
    "loss", [fast for fast, _ in RELATIONS.values()], ids=RELATIONS
)


def features(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("spatial", [(3, 4), (3, 2, 4)], ids=["2-D", "3-D"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_feature_loss_equals_slow_loops(name: str, spatial: tuple[int, ...]) -> None:
    fast, slow = LOSSES[name]
    teacher, student = features(5, 4, *spatial), features(5, 4, *spatial, seed=1)

    value = fast(teacher, student).item()

    assert value == pytest.approx(slow(teacher.numpy(), student.numpy()), rel=1e-4)
    assert value > 1e-3


@pytest.mark.parametrize("name", RELATIONS)
def test_relations_compare_layers_of_other_width_and_size(name: str) -> None:
    fast, slow = LOSSES[name]
    teacher, student = features(5, 6, 2, 2), features(5, 3, 4, 4, seed=1)

    expected = slow(teacher.numpy(), student.numpy())

    assert fast(teacher, student).item() == pytest.approx(expected, rel=1e-4)


@every_loss
def test_equal_features_cost_nothing(loss: Loss) -> None:
    feature = features(4, 3, 2, 5)

    assert loss(feature, feature.clone()).item() == pytest.approx(0.0, abs=1e-12)


@every_loss
def test_2d_equals_3d_at_depth_1(loss: Loss) -> None:
    teacher, student = features(4, 3, 2, 5), features(4, 3, 2, 5, seed=1)

    deep = loss(teacher[..., None], student[..., None])

    torch.testing.assert_close(deep, loss(teacher, student))


@every_loss
def test_no_gradient_reaches_the_teacher_and_the_students_follows_it(loss: Loss) -> None:
    gradients = []
    for seed in (1, 2):
        teacher = features(4, 3, 2, 2, seed=seed).requires_grad_()
        student = features(4, 3, 2, 2).requires_grad_()
        loss(teacher, student).backward()
        assert teacher.grad is None
        gradients.append(student.grad)

    assert not torch.allclose(*gradients, atol=1e-5)


@every_loss
def test_a_step_down_the_gradient_lowers_the_loss(loss: Loss) -> None:
    teacher, student = features(4, 3, 2, 2), features(4, 3, 2, 2, seed=1).requires_grad_()
    before = loss(teacher, student)
    before.backward()

    with torch.no_grad():
        assert loss(teacher, student - 0.01 * student.grad) < before


@every_loss
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_even_where_its_squares_are_not(
    loss: Loss, half: torch.dtype
) -> None:
    teacher, student = (1000 * features(4, 3, 2, 2, seed=seed) for seed in (0, 1))
    student = student.to(half).requires_grad_()

    value = loss(teacher.to(half), student)
    value.backward()

    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


@every_loss
def test_features_of_zeros_and_repeated_samples_have_a_finite_gradient(loss: Loss) -> None:
    for student in (torch.zeros(4, 3, 2, 2), torch.ones(4, 3, 2, 2), features(1, 3, 2, 2)):
        repeated = student.expand(4, 3, 2, 2).clone().requires_grad_()

        value = loss(features(4, 3, 2, 2), repeated)
        value.backward()

        assert torch.isfinite(value)
        assert torch.isfinite(repeated.grad).all()


@every_relation
def test_relations_do_not_depend_on_the_scale_and_the_orientation_of_an_embedding(
    loss: Loss,
) -> None:
    teacher = features(5, 3)
    turn = torch.linalg.qr(features(3, 3, seed=4)).Q

    assert loss(teacher, 3 * teacher @ turn).item() == pytest.approx(0.0, abs=1e-6)


@every_relation
def test_the_order_of_samples_does_not_matter(loss: Loss) -> None:
    teacher, student = features(5, 3), features(5, 3, seed=1)
    order = torch.tensor([3, 0, 4, 1, 2])

    torch.testing.assert_close(loss(teacher[order], student[order]), loss(teacher, student))


@every_relation
def test_a_batch_of_one_sample_fewer_than_needed_carries_nothing(loss: Loss) -> None:
    # Why it is refused: the value is the same whatever the student says.
    least = 1 if loss is similarity_loss else 2
    values = [
        loss(features(least, 3), features(least, 3, seed=seed)).nan_to_num() for seed in (1, 2)
    ]

    torch.testing.assert_close(*values)


def test_relative_distances_of_three_samples_are_as_by_hand() -> None:
    # Teacher on a line at 0, 1, 2: distances 1, 2, 1, mean 4/3: .75, 1.5, .75.
    # Student at 0, 1, 4: 1, 4, 3, mean 8/3: .375, 1.5, 1.125. Huber: (.375^2 + 0 + .375^2) / 2 / 3
    teacher, student = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[0.0], [1.0], [4.0]])

    assert rkd_distance_loss(teacher, student).item() == pytest.approx(0.375**2 / 3)


def test_attention_maps_of_different_size_are_compared_on_the_smaller_one() -> None:
    teacher = torch.zeros(1, 2, 4, 4)
    teacher[:, :, :2, :2] = 1.0  # the corner in which the student has its only activation
    student = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]]]])

    assert attention_loss(teacher, student).item() == pytest.approx(0.0)


def test_attention_on_two_other_places_is_at_the_largest_distance() -> None:
    teacher, student = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 5.0]]])

    assert attention_loss(teacher, student).item() == pytest.approx(2.0)


def test_a_softmax_ignores_what_is_added_along_its_axis_alone() -> None:
    teacher = features(2, 3, 4)
    of_channel, of_position = features(2, 3, 1, seed=1), features(2, 1, 4, seed=1)
    over_space = partial(feature_kl_loss, over="space", temperature=1.0)
    over_channels = partial(feature_kl_loss, over="channels", temperature=1.0)

    assert over_space(teacher, teacher + of_channel).item() == pytest.approx(0.0, abs=1e-12)
    assert over_channels(teacher, teacher + of_position).item() == pytest.approx(0.0, abs=1e-12)
    assert over_space(teacher, teacher + of_position).item() > 0.01
    assert over_channels(teacher, teacher + of_channel).item() > 0.01


def test_divergences_of_hidden_layers_add_up_in_the_objective() -> None:
    layers = [{"student_layer": n, "teacher_layer": n} for n in ("conv", "norm")]
    settings = settings_of(*({"kind": "feature_kl", "weight": 0.5, **names} for names in layers))

    output = tiny_objective(settings)(tiny_batch(), 1.0)

    total = output.terms["hard_label"] + 0.5 * (
        output.terms["feature_kl"] + output.terms["feature_kl_2"]
    )
    torch.testing.assert_close(output.loss.detach(), total)


def settings_of(*terms: dict[str, object]) -> TransferSettings:
    return TransferSettings.model_validate({"terms": list(terms)})


@pytest.mark.parametrize(
    ("kind", "least"), [("rkd_distance", 3), ("rkd_angle", 3), ("similarity", 2), ("pkt", 3)]
)
def test_a_batch_too_small_for_a_relation_is_refused_with_a_remedy(kind: str, least: int) -> None:
    settings = settings_of({"kind": kind})
    objective = tiny_objective(settings)

    (reason,) = batch_misfits(settings, least - 1)

    assert f"at least {least} of them, got {least - 1}: raise student.training.batch_size" in reason
    assert batch_misfits(settings, least) == ()
    objective(tiny_batch(samples=least), 1.0)
    with pytest.raises(SettingsError, match="this batch is too small"):
        objective(tiny_batch(samples=least - 1), 1.0)


@pytest.mark.parametrize("kind", ["attention", "feature_kl"])
def test_the_pooled_embedding_has_no_positions_to_compare(kind: str) -> None:
    (reason,) = check_transfer(settings_of({"kind": kind}), 1)

    assert "name teacher_layer and student_layer" in reason
    over_channels = {"kind": "feature_kl", "softmax_over": "channels"}
    assert check_transfer(settings_of(over_channels), 1) == ()


def refusal(term: dict[str, object], teacher: TinyNet) -> str:
    with pytest.raises(SettingsError) as refused:
        TransferObjective(TinyNet(width=4, seed=0), FrozenTeacher(teacher), settings_of(term))
    return str(refused.value)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("attention", "name an earlier layer, or use hint"), ("feature_kl", "softmax_over: channels")],
)
def test_a_layer_without_positions_is_refused(kind: str, remedy: str) -> None:
    flat = {"kind": kind, "teacher_layer": "pool", "student_layer": "pool"}

    assert remedy in refusal(flat, TinyNet(width=6, seed=1))


@pytest.mark.parametrize(
    ("term", "reason"),
    [
        ({"kind": "feature_kl", "softmax_over": "channels"}, "over one channel is always 1"),
        ({"kind": "rkd_angle"}, "0 or 180 degrees: use rkd_distance"),
        ({"kind": "pkt"}, "is +-1: use similarity"),
    ],
)
def test_a_layer_of_one_channel_is_refused_where_nothing_would_be_left(
    term: dict[str, object], reason: str
) -> None:
    assert reason in refusal(term, TinyNet(width=1, seed=1))


def test_layers_with_other_axes_are_refused() -> None:
    term = {"kind": "hint", "teacher_layer": "conv", "student_layer": "pool"}

    assert "name layers that match" in refusal(term, TinyNet(width=6, seed=1))
