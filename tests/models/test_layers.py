"""The layers that `medkd layers` lists are those that a term can tap."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.models.classifiers import Compact2dSettings, Linear2dSettings, LinearClassifier
from medkd.models.layers import Layer, list_layers, outline, stages
from medkd.models.network import Network, NetworkSettings, parameter_count
from medkd.models.table import MODELS, build_architecture, parse_model_settings
from medkd.transfer.taps import tap_layers
from tests.contracts import random_view
from tests.models.test_contract import SLOW, SMALL


class Odd2dSettings(NetworkSettings):
    spatial_dims = 2


class Odd(Network):
    """A layer that runs twice, one that is overwritten, one without tensor, one that is idle."""

    def __init__(self) -> None:
        super().__init__(Odd2dSettings(), embedding_layer="flat")
        self.twice = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1)
        self.relu = nn.ReLU(inplace=True)
        self.pairs = Pair()
        self.idle = nn.Linear(2, 2)
        self.flat = nn.Flatten()

    def _logits(self, view: Tensor) -> Tensor:
        found = self.relu(self.norm(self.twice(self.twice(view))))
        logits: Tensor = self.flat(self.pairs(found)[0]).mean(dim=1, keepdim=True)
        return logits


class Pair(nn.Module):
    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        return feature, feature


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow if k in SLOW else ()) for k in MODELS]
)
def test_every_listed_layer_can_be_tapped_and_has_the_listed_shape(kind: str) -> None:
    settings = parse_model_settings({"kind": kind, **SMALL.get(kind, {})})
    network, view = build_architecture(settings).eval(), random_view(settings)

    found = list_layers(network, view.shape[1:], kind=kind)
    able = {layer.name: layer.output for layer in found.layers if layer.output is not None}
    with torch.no_grad(), tap_layers(network, list(able)) as outputs:
        network(view)

    assert {name: tuple(output.shape[1:]) for name, output in outputs.items()} == able
    assert [layer.name for layer in found.layers if layer.is_embedding] == [network.embedding_layer]
    assert network.embedding_layer in able
    assert found.parameters == parameter_count(network)


def test_what_is_odd_about_a_layer_is_noted() -> None:
    notes = {layer.name: layer for layer in list_layers(Odd(), (1, 4, 4)).layers}

    assert notes["twice"].note == "runs 2 times: the last output is tapped"
    assert notes["norm"].note == "a later layer changes its output in place"
    assert notes["pairs"].output is None
    assert notes["pairs"].note == "its output is no tensor (tuple)"
    assert (notes["idle"].output, notes["idle"].note) == (None, "does not run")
    assert (notes["flat"].output, notes["flat"].note) == ((16,), "")


def test_a_network_is_left_as_it_was() -> None:
    network = build_architecture(Compact2dSettings()).train()
    network.features[3].eval()
    before = {name: module.training for name, module in network.named_modules()}
    buffers = {name: value.clone() for name, value in network.named_buffers()}

    list_layers(network, (1, 16, 16))

    assert {name: module.training for name, module in network.named_modules()} == before
    assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_view_that_does_not_fit_is_refused_with_the_reason() -> None:
    network = LinearClassifier(Linear2dSettings(image_shape=(12, 9)))
    with pytest.raises(SettingsError, match=r"\[1, 9, 9\]") as refusal:
        list_layers(network, (1, 9, 9))
    assert "accepts only views of shape (12, 9)" in refusal.value.reasons[0]


def layer(name: str, *, is_group: bool, output: tuple[int, ...] | None = (1,)) -> Layer:
    return Layer(name, "Module", output, 0, is_group)


def test_an_outline_shows_groups_down_to_the_depth_that_fits() -> None:
    found = [
        layer("a", is_group=True),
        *(layer(f"a.{number}", is_group=True) for number in range(3)),
        *(layer(f"a.{number}.conv", is_group=False) for number in range(3)),
        layer("head", is_group=False),
        layer("idle", is_group=False, output=None),
    ]

    assert [shown.name for shown in outline(found, 5)] == ["a", "a.0", "a.1", "a.2", "head"]
    assert [shown.name for shown in outline(found, 4)] == ["a", "head"]
    assert [shown.name for shown in outline(found, 1)] == ["a", "head"]
    assert len(outline(found, 8)) == 8


def test_an_outline_always_shows_the_embedding() -> None:
    network = build_architecture(parse_model_settings({"kind": "luna_classifier"}))
    found = list_layers(network, (1, *network.input_shape)).layers

    assert "raw.flatten" in [shown.name for shown in outline(found, 3)]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"kind": "compact2d"}, [f"features.{number}" for number in (3, 4, 5, 6)]),
        ({"kind": "shallow2d"}, ["features"]),
        ({"kind": "linear2d"}, []),
        ({"kind": "luna_classifier"}, [f"raw.block{number}" for number in (1, 2, 3, 4)]),
        (
            {"kind": "resnet3d", "depth": 50, "width": 0.125},
            [f"body.layer{number}" for number in (1, 2, 3, 4)],
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_the_stages_of_a_network_are_its_blocks(
    values: dict[str, object], names: list[str]
) -> None:
    network = build_architecture(parse_model_settings(values))
    shape = network.input_shape or (32,) * network.spatial_dims

    assert [one.name for one in stages(list_layers(network, (1, *shape)).layers)] == names


def test_of_too_many_blocks_the_last_of_each_size_is_a_stage() -> None:
    blocks = [
        layer(f"body.{number}", is_group=True, output=(4, size, size))
        for number, size in enumerate((8, 8, 4, 4, 2))
    ]
    found = [layer("body", is_group=True, output=(4, 2, 2)), *blocks]

    assert [one.name for one in stages(found, 3)] == ["body.1", "body.3", "body.4"]
    assert stages(found, 5) == tuple(blocks)
