"""Adaptation by statistics of another domain: which numbers change, to what, and which do not."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medkd.models.adapt import (
    Moments,
    adapt_batch_norm,
    adapt_embedding,
    batch_norms,
    measure_embedding,
)
from medkd.models.classifiers import (
    Compact2dSettings,
    Compact3dSettings,
    Linear2dSettings,
    Shallow2dSettings,
    Shallow3dSettings,
)
from medkd.models.luna_classifier import LunaClassifierSettings
from medkd.models.network import Network, NetworkSettings
from medkd.models.table import build_architecture
from medkd.transfer.taps import tap_layers

STATISTICS = ("running_mean", "running_var")
SETTINGS: list[NetworkSettings] = [
    Shallow2dSettings(channels=4),
    Shallow3dSettings(channels=4),
    Compact2dSettings(channels=(4, 8), strides=(1, 2), dropout=0.5),
    Compact3dSettings(channels=(4, 8), strides=(1, 2)),
]
every_network = pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s.kind)


def views(settings: NetworkSettings, *, seed: int = 0, batches: int = 3) -> list[Tensor]:
    """Batches of 4 views 12 voxels an axis, darker than those that a network expects."""
    generator = torch.Generator().manual_seed(seed)
    shape = (settings.in_channels, *(12,) * settings.spatial_dims)
    return [0.3 * torch.rand(4, *shape, generator=generator) + 0.1 for _ in range(batches)]


def trained(settings: NetworkSettings) -> Network:
    """A network whose batch norms stored something, in eval mode."""
    network = build_architecture(settings, seed=1).train()
    for view in views(settings, seed=5):
        network(2 * view)
    return network.eval()


@every_network
def test_only_the_statistics_of_batch_norm_change(settings: NetworkSettings) -> None:
    network = trained(settings)
    before = copy.deepcopy(network.state_dict())

    adapt_batch_norm(network, views(settings))

    for name, tensor in network.state_dict().items():
        moved = not torch.equal(tensor, before[name])
        assert moved is name.endswith(STATISTICS), name


@every_network
def test_modes_and_the_global_generator_are_left_as_they_were(settings: NetworkSettings) -> None:
    network = trained(settings)
    network.head.train()
    before = {name: module.training for name, module in network.named_modules()}
    state = torch.get_rng_state()

    adapt_batch_norm(network, views(settings))

    assert {name: module.training for name, module in network.named_modules()} == before
    assert all(norm.track_running_stats for norm in batch_norms(network).values())
    assert torch.equal(torch.get_rng_state(), state)


@every_network
def test_the_first_layer_gets_the_mean_and_variance_of_all_values(
    settings: NetworkSettings,
) -> None:
    network, given = trained(settings), views(settings)
    first = next(iter(batch_norms(network).values()))
    seen: list[Tensor] = []
    hook = first.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for view in given:
            network(view)
    hook.remove()
    values = torch.cat(seen).double().transpose(0, 1).flatten(1).numpy()

    adapt_batch_norm(network, given)

    for channel, row in enumerate(values):
        mean = sum(row) / len(row)
        variance = sum((value - mean) ** 2 for value in row) / (len(row) - 1)
        assert first.running_mean[channel].item() == pytest.approx(mean, rel=1e-4, abs=1e-6)
        assert first.running_var[channel].item() == pytest.approx(variance, rel=1e-4)


@every_network
def test_on_one_batch_an_adapted_network_answers_as_in_training_mode(
    settings: NetworkSettings,
) -> None:
    """But for the factor n / (n - 1) of the stored variance."""
    network, (view,) = trained(settings), views(settings, batches=1)
    plain = copy.deepcopy(network)
    for norm in batch_norms(plain).values():
        norm.training = True
    with torch.no_grad():
        before, expected = network(view), plain(view)

    adapt_batch_norm(network, [view])

    with torch.no_grad():
        moved, wanted = network(view) - before, expected - before
    assert wanted.norm() > 0
    assert (moved - wanted).norm() < 0.1 * wanted.norm()


def test_a_change_of_contrast_and_brightness_is_undone() -> None:
    """A network that is adapted to x answers on x as one that is adapted to a x + b on a x + b."""
    settings = Shallow2dSettings(channels=4, padding="replicate")
    first, second = trained(settings), trained(settings)
    given = views(settings)
    other = [0.5 * view + 0.2 for view in given]

    adapt_batch_norm(first, given)
    adapt_batch_norm(second, other)

    with torch.no_grad():
        # Epsilon (1e-5) of batch norm weighs a little more where the contrast is lower.
        torch.testing.assert_close(first(given[0]), second(other[0]), rtol=2e-2, atol=1e-4)
        assert not torch.allclose(first(given[0]), first(other[0]), atol=1e-3)


def test_a_network_without_batch_norm_is_refused_with_the_reason() -> None:
    linear = build_architecture(Linear2dSettings(image_shape=(12, 12)))

    with pytest.raises(ValueError, match="LinearClassifier has no batch norm with stored"):
        adapt_batch_norm(linear, views(Linear2dSettings(image_shape=(12, 12))))
    unstored = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False))
    with pytest.raises(ValueError, match="has no batch norm with stored"):
        adapt_batch_norm(unstored, [])


def test_no_batch_at_all_is_refused_and_nothing_changes() -> None:
    network = trained(SETTINGS[0])
    before = copy.deepcopy(network.state_dict())

    with pytest.raises(ValueError, match="got none"):
        adapt_batch_norm(network, [])

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def embeddings(network: Network, given: list[Tensor]) -> Tensor:
    parts = []
    for view in given:
        with torch.no_grad(), tap_layers(network.eval(), [network.embedding_layer]) as found:
            network(view)
        parts.append(found[network.embedding_layer].double())
    return torch.cat(parts)


@every_network
def test_moments_of_the_embedding_are_those_of_all_samples(settings: NetworkSettings) -> None:
    network, given = trained(settings), views(settings)
    rows = embeddings(network, given).numpy()

    found = measure_embedding(network, given)

    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.sd, rows.std(axis=0, ddof=1), rtol=1e-3, atol=1e-7)


@every_network
def test_the_head_sees_the_embedding_of_the_target_as_that_of_the_source(
    settings: NetworkSettings,
) -> None:
    network, ours, theirs = trained(settings), views(settings), views(settings, seed=9)
    theirs = [view.pow(2) for view in theirs]
    source, target = measure_embedding(network, ours), measure_embedding(network, theirs)
    # A channel without activation on the target has no deviation: 0 / 0 counts as 0.
    standard = ((embeddings(network, theirs) - target.mean) / target.sd).nan_to_num(0.0)
    with torch.no_grad():
        expected = network.head((standard * source.sd + source.mean).float())
    before = copy.deepcopy(network.state_dict())

    adapt_embedding(network, source=source, target=target)

    with torch.no_grad():
        found = torch.cat([network(view) for view in theirs])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    changed = {
        n for n, tensor in network.state_dict().items() if not torch.equal(tensor, before[n])
    }
    assert changed == {"head.weight", "head.bias"}


def test_adapting_to_the_source_itself_changes_nothing() -> None:
    network, given = trained(SETTINGS[0]), views(SETTINGS[0])
    moments = measure_embedding(network, given)
    before = network(given[0])

    adapt_embedding(network, source=moments, target=moments)

    torch.testing.assert_close(network(given[0]), before)


def test_a_channel_that_is_constant_on_the_target_becomes_the_mean_of_the_source() -> None:
    network = trained(SETTINGS[0])
    ones = torch.ones(8, dtype=torch.float64)
    source = Moments(2 * ones, ones)
    target = Moments(5 * ones, torch.cat([0 * ones[:4], ones[:4]]))
    weight, bias = network.head.weight.detach().clone(), network.head.bias.detach().clone()

    adapt_embedding(network, source=source, target=target)

    expected = torch.cat([torch.full((4,), 2.0), 7.0 - 5.0 + torch.full((4,), 2.0)])
    with torch.no_grad():
        found = network.head(torch.full((1, 8), 7.0))
    torch.testing.assert_close(found, (expected @ weight.T)[None] + bias)


def test_a_head_that_is_not_linear_on_the_embedding_is_refused() -> None:
    settings = LunaClassifierSettings(patch_shape=(16, 16, 16), width=2)
    moments = Moments(torch.zeros(16), torch.ones(16))

    with pytest.raises(ValueError, match="has no linear head on its embedding"):
        adapt_embedding(build_architecture(settings), source=moments, target=moments)


def test_one_sample_has_no_standard_deviation() -> None:
    with pytest.raises(ValueError, match="expected at least 2 samples, got 1"):
        measure_embedding(trained(SETTINGS[0]), [views(SETTINGS[0])[0][:1]])
