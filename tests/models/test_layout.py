"""Channels of a layer's output: first, last, or refused where they cannot be known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.models.layout import channel_axis
from medkd.models.network import Network
from medkd.models.probe import Probe
from medkd.models.table import build_model, parse_model_settings
from medkd.transfer.taps import probe_layers

SWIN = {"kind": "torchvision2d", "name": "swin_t", "image_size": 32}
VIT = {"kind": "timm2d", "name": "vit_tiny_patch16_224", "image_size": 32}
RESNET = {"kind": "torchvision2d", "name": "resnet18", "image_size": 256}


def build_probe(backbone: dict[str, object], *layers: str, **changed: object) -> Probe:
    values = {"kind": "probe", "backbone": backbone, "layers": layers, **changed}
    probe = build_model(parse_model_settings(values), seed=0).eval()
    assert isinstance(probe, Probe)
    return probe


def read(probe: Probe, layer: str) -> tuple[Tensor, Tensor]:
    """Return the output of a layer for two views, and the features that the probe reads."""
    views = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    _, found = probe_layers(probe.backbone, views, [layer])
    return found[layer], probe.read_features(views)


def test_a_layer_with_its_channels_last_is_averaged_over_its_positions() -> None:
    layer = "body.features.1"
    output, features = read(build_probe(SWIN, layer), layer)
    assert output.shape == (2, 8, 8, 96)
    torch.testing.assert_close(features, output.mean(dim=(1, 2)))


def test_a_layer_with_its_channels_last_can_be_pooled_around_the_centre() -> None:
    layer = "body.features.1"
    output, features = read(build_probe(SWIN, layer, pooling="centre"), layer)
    places = torch.arange(8) - 3.5
    weights = torch.exp(-0.5 * (places / (0.2 * 8)) ** 2)
    weights = weights[:, None] * weights / weights.sum() ** 2
    torch.testing.assert_close(features, torch.einsum("bijc,ij->bc", output, weights))


def test_tokens_are_averaged_and_not_pooled_around_the_centre() -> None:
    layer = "body.blocks.2"
    output, features = read(build_probe(VIT, layer), layer)
    assert output.shape == (2, 5, 192)
    torch.testing.assert_close(features, output.mean(dim=1))
    with pytest.raises(SettingsError, match=r"'body.blocks.2' gives \(5, 192\).*: tokens"):
        build_probe(VIT, layer, pooling="centre")


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("body.blocks.2.attn.q_norm", r"gives \(3, 5, 64\) for one view: no axis is known"),
        ("body.blocks.2.attn.attn_drop", "it did not run"),
    ],
)
def test_a_layer_whose_channels_cannot_be_known_is_refused(layer: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as refused:
        build_probe(VIT, layer)
    assert "name another layer" in str(refused.value)


class Square(nn.Module):
    image_size = 8


class Fake(nn.Module):
    """An image network of another library, of which only the structure counts."""

    spatial_dims, embedding_layer = 2, "body"

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        self.prepare, self.body = Square(), nn.ModuleDict(parts)


@pytest.mark.parametrize(
    ("part", "size", "axis"),
    [
        (nn.ReLU(), (1, 16, 4, 4), 1),
        (nn.ReLU(), (1, 4, 4, 16), 3),
        (nn.Conv2d(2, 6, 1), (1, 6, 6, 6), 1),  # a cube: decided by the weights
        (nn.Linear(2, 6), (1, 6, 6, 6), 3),
        (nn.LayerNorm(6), (1, 9, 6), 2),
        (nn.Conv1d(2, 6, 1), (1, 6, 9), 1),
        (nn.Linear(2, 6), (1, 6, 6), 2),
        (nn.ReLU(), (1, 6), 1),
    ],
)
def test_the_axis_follows_from_the_square_or_from_the_weights(
    part: nn.Module, size: tuple[int, ...], axis: int
) -> None:
    assert channel_axis(Fake(part=part), "body.part", torch.zeros(size), samples=1) == axis


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.zeros(1, 6, 6, 6), r"gives \(6, 6, 6\) for one view: no axis"),
        (torch.zeros(1, 3, 4, 5), r"gives \(3, 4, 5\) for one view: no axis"),
        (torch.zeros(4, 9, 6), r"gives \(4, 9, 6\) for 1 views: the first axis is no batch"),
        ((torch.zeros(1, 6),), "its output is a tuple, not a tensor"),
    ],
)
def test_what_neither_tells_is_refused(output: object, words: str) -> None:
    mixed = nn.Sequential(nn.Conv2d(2, 6, 1), nn.LayerNorm(6))
    with pytest.raises(SettingsError, match=words):
        channel_axis(Fake(part=mixed), "body.part", output, samples=1)


def test_networks_of_this_package_have_their_channels_first_whatever_the_shape() -> None:
    network = build_model(parse_model_settings({"kind": "compact3d"}), seed=0)
    assert isinstance(network, Network)
    assert network.channel_axis("features.0", torch.zeros(1, 8, 8, 8, 8), samples=1) == 1
    with pytest.raises(SettingsError, match="without a place for each number"):
        network.channel_axis("features.0", torch.zeros(1, 8, 8), samples=1)


def test_the_backbone_inside_a_probe_is_read_by_its_own_rules() -> None:
    probe = build_probe(SWIN, "body.features.1")
    maps = torch.zeros(1, 8, 8, 96)
    assert probe.channel_axis("backbone.body.features.1", maps, samples=1) == 3


def test_a_convolutional_network_with_a_cubic_output_is_still_read() -> None:
    output, features = read(build_probe(RESNET, "body.layer1"), "body.layer1")
    assert output.shape == (2, 64, 64, 64)
    torch.testing.assert_close(features, output.mean(dim=(2, 3)), atol=1e-5, rtol=1e-4)
