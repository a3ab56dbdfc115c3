"""Mutual learning: the loss against a slow sum, and whom its gradients reach."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.transfer.mutual import MutualObjective, mutual_divergences
from medkd.transfer.settings import TransferSettings
from medkd.types import PatchBatch


def networks(count: int, *, labels: int = 1) -> list[nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return [
            nn.Sequential(
                nn.Flatten(), nn.Linear(4, 3 + n), nn.ReLU(), nn.Linear(3 + n, labels)
            ).double()
            for n in range(count)
        ]


def make_batch(known: bool = True, size: int = 5) -> PatchBatch:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(size, 1, 2, 2, generator=generator, dtype=torch.float64)
    label = (torch.arange(size)[:, None] % 2).double()
    ids = tuple(map(str, range(size)))
    return PatchBatch(image, label, torch.full((size, 1), known), ids)


def build(count: int, *, temperature: float = 1.0, weight: float = 0.5) -> MutualObjective:
    own, *peers = networks(count)
    settings = TransferSettings.model_validate({"hard_label": {"weight": 0.7}})
    return MutualObjective(own, peers, settings, weight=weight, temperature=temperature)


def slow_loss(logits: list[list[float]], labels: list[float], temperature: float) -> float:
    """Zhang et al. 2018, eq. 6 with sigmoids, one sample and one pair of networks at a time."""

    def probability(logit: float, soft: float) -> float:
        return 1 / (1 + math.exp(-logit / soft))

    total = 0.0
    for i, own in enumerate(logits):
        for n, label in enumerate(labels):
            q = probability(own[n], 1.0)
            entropy = -label * math.log(q) - (1 - label) * math.log(1 - q)
            total += 0.7 * entropy / len(labels)
            for j, other in enumerate(logits):
                if i == j:
                    continue
                p, q = probability(other[n], temperature), probability(own[n], temperature)
                divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
                share = (len(logits) - 1) * len(labels)
                total += 0.5 * temperature**2 * divergence / share
    return total


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_a_slow_sum_over_networks_and_samples(count: int, temperature: float) -> None:
    objective, batch = build(count, temperature=temperature), make_batch()
    every = [objective.student, *objective.peers]
    logits = [network(batch.image)[:, 0].tolist() for network in every]
    expected = slow_loss(logits, batch.label[:, 0].tolist(), temperature)
    assert objective(batch, 0.0).loss.item() == pytest.approx(expected, rel=1e-9)


def test_a_divergence_moves_its_own_network_alone() -> None:
    logits = [torch.randn(6, 1, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    for i, pull in enumerate(mutual_divergences(logits, outputs="independent", temperature=2.0)):
        found = torch.autograd.grad(pull, logits, allow_unused=True)
        assert [gradient is not None and bool(gradient.any()) for gradient in found] == [
            j == i for j in range(3)
        ]


def gradient_of(objective: MutualObjective, batch: PatchBatch) -> list[Tensor]:
    return list(torch.autograd.grad(objective(batch, 0.0).loss, objective.student.parameters()))


def test_the_students_gradient_is_that_of_its_own_loss() -> None:
    """As if the peer were frozen: its loss has no part that moves the student."""
    objective, batch = build(2), make_batch()
    found = gradient_of(objective, batch)
    objective.peers.requires_grad_(False)
    logits = [objective.student(batch.image), objective.peers[0](batch.image)]
    entropy = nn.functional.binary_cross_entropy_with_logits(logits[0], batch.label)
    pull, _ = mutual_divergences(logits, outputs="independent", temperature=1.0)
    own = torch.autograd.grad(0.7 * entropy + 0.5 * pull, list(objective.student.parameters()))
    for one, other in zip(found, own, strict=True):
        torch.testing.assert_close(one, other)


def test_the_students_gradient_changes_with_its_peer() -> None:
    objective, batch = build(2), make_batch()
    before = gradient_of(objective, batch)
    with torch.no_grad():
        objective.peers[0][3].bias += 1.0
    after = gradient_of(objective, batch)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_step_brings_networks_without_labels_together() -> None:
    objective, batch = build(2), make_batch(known=False)
    optimizer = torch.optim.SGD(objective.trainable_parameters(), lr=0.1)
    course = []
    for _ in range(20):
        output = objective(batch, 0.0)
        course.append(float(output.terms["mutual"] + output.terms["mutual_peer_1"]))
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.terms["hard_label"] == 0
    assert course == sorted(course, reverse=True)
    assert course[-1] < course[0] / 2


def test_equal_networks_have_no_divergence() -> None:
    logits = torch.randn(4, 3)
    pulls = mutual_divergences([logits, logits.clone()], outputs="exclusive", temperature=2.0)
    assert [float(pull) for pull in pulls] == pytest.approx([0.0, 0.0], abs=1e-7)


def test_the_schedule_moves_the_divergences_and_not_the_labels() -> None:
    own, *peers = networks(2)
    values = {"schedule": {"kind": "decay", "start": 0.5}}
    settings = TransferSettings.model_validate(values)
    objective = MutualObjective(own, peers, settings, weight=2.0, temperature=1.0)
    weights = objective(make_batch(), 0.75).weights
    assert (weights["hard_label"], weights["mutual"], weights["mutual_peer_1"]) == (1.0, 1.0, 1.0)


def test_all_networks_are_in_the_state_and_are_trained() -> None:
    objective = build(3)
    trained = {id(p) for p in objective.trainable_parameters()}
    assert trained == {id(p) for n in (objective.student, *objective.peers) for p in n.parameters()}
    assert {name.split(".")[0] for name in objective.state_dict()} == {"student", "peers"}


def test_class_weights_without_shares_are_refused() -> None:
    own, *peers = networks(2)
    settings = TransferSettings.model_validate({"hard_label": {"class_balanced": True}})
    with pytest.raises(SettingsError, match="share of positives"):
        MutualObjective(own, peers, settings, weight=1.0, temperature=1.0)
