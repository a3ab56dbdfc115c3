"""Alignment of two domains: what all kinds hold, each against slow loops, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.models.classifiers import Linear2dSettings
from medkd.models.table import build_architecture
from medkd.transfer.coral import coral_loss, covariance
from medkd.transfer.dann import domain_loss, reversal_at
from medkd.transfer.mmd import mmd_loss
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings, batch_misfits, check_transfer
from medkd.transfer.table import ALIGNMENTS
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import PatchBatch
from tests.contracts import TinyNet, check_alignment, paired_batch, tiny_batch, tiny_objective
from tests.transfer import slow_losses

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: dict[str, tuple[Loss, Callable[..., float]]] = {
    "coral": (coral_loss, slow_losses.coral),
    "mmd": (mmd_loss, slow_losses.mmd),
}
every_loss = pytest.mark.parametrize("loss", [fast for fast, _ in LOSSES.values()], ids=LOSSES)


def features(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def settings_of(kind: str = "coral", **more: object) -> TransferSettings:
    return TransferSettings.model_validate({"alignment": {"kind": kind, **more}})


@pytest.mark.parametrize("spatial", [(), (3, 4), (3, 2, 4)], ids=["vectors", "2-D", "3-D"])
@pytest.mark.parametrize("name", LOSSES)
def test_an_alignment_loss_equals_slow_loops(name: str, spatial: tuple[int, ...]) -> None:
    fast, slow = LOSSES[name]
    own, other = features(5, 4, *spatial), features(5, 4, *spatial, seed=1, scale=2.0)

    value = fast(own, other).item()

    assert value == pytest.approx(slow(own.numpy(), other.numpy()), rel=1e-9)
    assert value > 1e-3


@every_loss
def test_the_same_batch_costs_nothing(loss: Loss) -> None:
    feature = features(6, 3, 2, 5)

    assert loss(feature, feature.clone()).item() == pytest.approx(0.0, abs=1e-12)


@every_loss
def test_it_does_not_matter_which_domain_is_the_own_one(loss: Loss) -> None:
    own, other = features(6, 3), features(6, 3, seed=1, scale=3.0)

    torch.testing.assert_close(loss(own, other), loss(other, own))


@every_loss
def test_the_order_of_pairs_does_not_matter(loss: Loss) -> None:
    own, other = features(5, 3), features(5, 3, seed=1)
    order = torch.tensor([3, 0, 4, 1, 2])

    torch.testing.assert_close(loss(own[order], other[order]), loss(own, other))


@every_loss
def test_steps_down_the_gradient_bring_both_domains_together(loss: Loss) -> None:
    own = features(8, 3).requires_grad_()
    other = features(8, 3, seed=1, scale=2.0).requires_grad_()
    before = loss(own, other)
    optimiser = torch.optim.SGD([own, other], lr=0.5)
    for _ in range(20):
        optimiser.zero_grad()
        loss(own, other).backward()
        assert own.grad.abs().sum() > 0
        assert other.grad.abs().sum() > 0
        optimiser.step()

    assert loss(own, other) < 0.8 * before


@every_loss
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_finite_even_where_its_squares_are_not(
    loss: Loss, half: torch.dtype
) -> None:
    own, other = (features(4, 3, 2, 2, seed=seed, scale=1000).to(half) for seed in (0, 1))

    assert loss(own, other).dtype == torch.float32
    assert torch.isfinite(loss(own, other))

    # Only the gradient of 1000 times larger covariances overflows, because it is stored in half.
    smaller = (own / 100).requires_grad_()
    loss(smaller, other / 100).backward()
    assert torch.isfinite(smaller.grad).all()


@every_loss
def test_features_of_zeros_and_repeated_samples_have_a_finite_gradient(loss: Loss) -> None:
    for own in (torch.zeros(4, 3), torch.ones(4, 3), features(1, 3)):
        repeated = own.expand(4, 3).clone().requires_grad_()

        value = loss(repeated, repeated.detach().clone())
        value.backward()

        assert torch.isfinite(value)
        assert torch.isfinite(repeated.grad).all()


def test_covariances_of_two_samples_are_as_by_hand() -> None:
    # Samples (0, 0) and (2, 4): differences from the mean +-(1, 2), divided by 2 - 1.
    rows = torch.tensor([[0.0, 0.0], [2.0, 4.0]])

    assert covariance(rows).tolist() == [[2.0, 4.0], [4.0, 8.0]]
    # Against equal samples: (4 + 16 + 16 + 64) / (4 * 2^2).
    assert coral_loss(rows, torch.zeros(2, 2)).item() == pytest.approx(100 / 16)


def test_coral_does_not_see_means_and_mmd_does() -> None:
    own = features(8, 3)

    assert coral_loss(own, own + 5).item() == pytest.approx(0.0, abs=1e-12)
    assert mmd_loss(own, own + 5).item() > 0.5


def test_mmd_is_0_on_average_for_two_draws_of_one_distribution() -> None:
    values = [mmd_loss(*rows).item() for rows in features(400, 2, 8, 3)]
    error = np.std(values) / math.sqrt(len(values))

    assert abs(np.mean(values)) < 3 * error
    assert 0.3 < np.mean(np.array(values) > 0) < 0.7


def test_mmd_of_batches_of_other_size_is_refused() -> None:
    with pytest.raises(ValueError, match="of one size, got 4 and 3"):
        mmd_loss(features(4, 2), features(3, 2))


def test_the_domain_loss_is_the_discriminators_cross_entropy() -> None:
    own, other = features(4, 3).float(), features(6, 3, seed=1).float()
    discriminator = nn.Linear(3, 1)
    weight, bias = discriminator.weight.detach().numpy()[0], discriminator.bias.item()

    value = domain_loss(own, other, discriminator=discriminator, reversal=1.0).item()

    def probability(row: np.ndarray) -> float:
        return 1 / (1 + math.exp(-float(row @ weight) - bias))

    of_own = sum(-math.log(probability(row)) for row in own.numpy()) / 4
    of_other = sum(-math.log(1 - probability(row)) for row in other.numpy()) / 6
    assert value == pytest.approx((of_own + of_other) / 2, rel=1e-5)


def test_no_discriminator_does_better_than_ln_2_on_the_same_batch() -> None:
    feature = features(6, 3).float()
    for seed in range(5):
        torch.manual_seed(seed)
        value = domain_loss(feature, feature, discriminator=nn.Linear(3, 1), reversal=1.0)
        assert value.item() >= math.log(2)


def test_the_network_climbs_what_the_discriminator_of_domains_descends() -> None:
    own, other = (features(4, 3, seed=seed).float().requires_grad_() for seed in (0, 1))
    discriminator = nn.Linear(3, 1)
    domain_loss(own, other, discriminator=discriminator, reversal=0.5).backward()
    reversed_grads, learned = (own.grad, other.grad), discriminator.weight.grad.clone()

    plain = [rows.detach().clone().requires_grad_() for rows in (own, other)]
    probability = discriminator(torch.cat(plain)).sigmoid()
    label = torch.tensor([[1.0]] * 4 + [[0.0]] * 4)
    discriminator.zero_grad()
    nn.functional.binary_cross_entropy(probability, label).backward()

    torch.testing.assert_close(learned, discriminator.weight.grad)
    for turned, rows in zip(reversed_grads, plain, strict=True):
        torch.testing.assert_close(turned, -0.5 * rows.grad)


def test_features_learn_to_hide_their_domain_from_a_discriminator() -> None:
    # Features of the other domain are shifted by a free offset; the own ones lie around (2, -1).
    torch.manual_seed(0)
    offset, discriminator = nn.Parameter(torch.zeros(2)), nn.Linear(2, 1)
    moved = [{"params": discriminator.parameters()}, {"params": [offset], "lr": 0.15}]
    optimiser = torch.optim.SGD(moved, lr=0.1, weight_decay=0.05)
    for _ in range(100):
        noise = 0.5 * torch.randn(2, 64, 2)
        own, other = torch.tensor([2.0, -1.0]) + noise[0], offset + noise[1]
        optimiser.zero_grad()
        domain_loss(own, other, discriminator=discriminator, reversal=4.0).backward()
        optimiser.step()

    assert (offset - torch.tensor([2.0, -1.0])).norm().item() < 1.0


def test_the_reversal_rises_from_0_to_nearly_1() -> None:
    values = [reversal_at(p / 10) for p in range(11)]

    assert values[0] == 0
    assert values[-1] == pytest.approx(1, abs=1e-4)
    assert values == sorted(values)
    assert values[1] == pytest.approx((1 - math.exp(-1)) / (1 + math.exp(-1)))  # tanh(5 p)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("kind", ALIGNMENTS)
def test_every_alignment_of_the_table_holds_the_contract(kind: str, spatial_dims: int) -> None:
    check_alignment(settings_of(kind), spatial_dims=spatial_dims)


@pytest.mark.parametrize("kind", ["coral", "mmd"])
def test_training_brings_the_embeddings_of_two_domains_together(kind: str) -> None:
    settings = TransferSettings.model_validate(
        {"alignment": {"kind": kind}, "hard_label": {"weight": 1e-9}}
    )
    objective = tiny_objective(settings, spatial_dims=2)
    batch = paired_batch(spatial_dims=2, samples=12)
    optimiser = torch.optim.Adam(objective.trainable_parameters(), lr=0.02)

    values = []
    for _ in range(40):
        optimiser.zero_grad()
        output = objective(batch, 1.0)
        output.loss.backward()
        optimiser.step()
        values.append(output.terms[kind].item())

    assert values[-1] < 0.5 * values[0]


def test_both_domains_pass_through_the_network_together() -> None:
    """So batch norm normalises them by the same statistics, as it does after training."""
    objective, seen = tiny_objective(settings_of()), []
    objective.student.norm.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    batch = paired_batch(samples=4)

    output = objective(batch, 0.5)

    assert [len(feature) for feature in seen] == [8]
    assert output.logits.shape == (4, 1)


def test_a_named_layer_is_averaged_over_space_and_compared() -> None:
    of_conv, of_embedding = (
        tiny_objective(settings_of(layer=layer)).eval()(paired_batch(), 0.5).terms["coral"]
        for layer in ("conv", None)
    )
    student = tiny_objective(settings_of()).student
    batch = paired_batch()
    expected = coral_loss(student.conv(batch.image), student.conv(batch.other.image))

    torch.testing.assert_close(of_conv, expected.detach(), rtol=1e-4, atol=1e-7)
    assert not torch.equal(of_conv, of_embedding)


def test_terms_of_the_teacher_see_the_own_samples_alone() -> None:
    plain = TransferSettings.model_validate({"terms": [{"kind": "hint"}, {"kind": "soft_label"}]})
    aligned = plain.model_copy(update={"alignment": settings_of().alignment})
    first, second = (tiny_objective(settings).eval() for settings in (plain, aligned))
    batch = paired_batch()

    alone, beside = first(replace(batch, other=None), 1.0), second(batch, 1.0)

    for name, value in alone.terms.items():
        torch.testing.assert_close(beside.terms[name], value)
    assert set(beside.terms) - set(alone.terms) == {"coral"}


def test_the_control_has_no_alignment() -> None:
    settings = TransferSettings.model_validate(
        {"terms": [{"kind": "soft_label"}], "alignment": {"kind": "mmd"}}
    )

    assert settings.without_terms() == TransferSettings()


def test_without_alignment_there_is_nothing_more_to_train_and_no_other_domain_is_accepted() -> None:
    objective = tiny_objective(TransferSettings())

    assert objective.alignment is None
    assert {name.split(".")[0] for name in objective.state_dict()} == {"student"}
    with pytest.raises(ValueError, match="if, and only if, it is aligned"):
        objective(paired_batch(), 0.5)
    with pytest.raises(ValueError, match="if, and only if, it is aligned"):
        tiny_objective(settings_of())(tiny_batch(), 0.5)


def test_building_moves_neither_the_statistics_nor_the_global_generator() -> None:
    student = TinyNet(width=4, seed=0).train()
    before, mean = torch.get_rng_state(), student.norm.running_mean.clone()

    TransferObjective(student, None, settings_of("dann"))

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(student.norm.running_mean, mean)
    assert student.norm.training


def refusal(settings: TransferSettings, network: nn.Module) -> str:
    with pytest.raises(SettingsError) as refused:
        TransferObjective(network, None, settings)
    return str(refused.value)


def test_a_layer_that_does_not_exist_is_refused_with_similar_names() -> None:
    assert "no layer 'cov'; similar names are conv" in refusal(
        settings_of(layer="cov"), TinyNet(width=4, seed=0)
    )


def test_a_layer_that_no_weight_precedes_is_refused() -> None:
    linear = build_architecture(Linear2dSettings(image_shape=(8, 8)))

    assert "alignment would change nothing" in refusal(settings_of(), linear)


def test_a_network_without_a_declared_embedding_needs_a_named_layer() -> None:
    assert "the layer must be named" in refusal(settings_of(), nn.Sequential(nn.Linear(4, 1)))


@pytest.mark.parametrize("kind", ALIGNMENTS)
def test_a_batch_of_one_sample_shows_no_distribution_and_is_refused(kind: str) -> None:
    (reason,) = batch_misfits(settings_of(kind), 1)

    assert "at least 2 samples in each, got 1: raise training.batch_size" in reason
    assert batch_misfits(settings_of(kind), 2) == ()
    with pytest.raises(SettingsError, match="this batch is too small"):
        tiny_objective(settings_of(kind))(paired_batch(samples=1), 0.5)


def test_a_point_detector_is_not_aligned() -> None:
    (reason,) = check_transfer(settings_of(), 1, finds_points=True)

    assert "a point detector has none" in reason


def test_the_labels_of_the_other_domain_are_never_read() -> None:
    batch = paired_batch()
    other: PatchBatch = batch.other
    spoilt = replace(other, label=torch.full_like(other.label, float("nan")))

    values = [
        tiny_objective(settings_of("dann"))(replace(batch, other=one), 0.5).loss
        for one in (other, spoilt)
    ]

    assert torch.equal(*values)


def test_an_aligned_student_still_leaves_its_teacher_bit_identical() -> None:
    settings = TransferSettings.model_validate(
        {"terms": [{"kind": "soft_label"}], "alignment": {"kind": "coral"}}
    )
    teacher = FrozenTeacher(TinyNet(width=6, seed=1))
    objective = TransferObjective(TinyNet(width=4, seed=0), teacher, settings).train()
    before = teacher.fingerprint()

    objective(paired_batch(), 0.5).loss.backward()

    assert teacher.fingerprint() == before
