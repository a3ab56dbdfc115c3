"""Grad-CAM against a slow oracle, for every classifier of the table, and its refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medkd.errors import CheckpointError
from medkd.models.grad_cam import GradCam
from medkd.models.network import Network
from medkd.models.table import build_model, parse_model_settings
from tests.oracles import grad_cam

KINDS = (
    {"kind": "compact2d"},
    {"kind": "compact3d"},
    {"kind": "shallow2d", "label_count": 3},
    {"kind": "shallow3d"},
    {"kind": "resnet3d", "depth": 10},
    {"kind": "luna_classifier"},
    {"kind": "torchvision2d", "name": "densenet121", "image_size": 64},  # overwrites the features
    {"kind": "torchvision2d", "name": "swin_t", "image_size": 64},
)


def build(settings: dict[str, object]) -> tuple[Network, torch.Tensor]:
    parsed = parse_model_settings(settings)
    network = build_model(parsed, seed=1).eval()
    shape = parsed.input_shape or ((24, 24, 24) if parsed.spatial_dims == 3 else (32, 40))
    generator = torch.Generator().manual_seed(0)
    return network, torch.rand((2, 1, *shape), generator=generator)


@pytest.mark.parametrize("settings", KINDS[:4], ids=lambda settings: settings["kind"])
def test_it_is_the_relu_of_the_channels_weighted_by_their_mean_gradient(
    settings: dict[str, object],
) -> None:
    network, views = build(settings)
    grad_cams = GradCam(network, views.shape[2:])
    highest = 0.0
    for output in range(network.label_count):
        found = grad_cams.compute(views, output).numpy()
        expected = grad_cam(network, network.features, views, output)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
        highest = max(highest, expected.max())
    assert highest > 0


@pytest.mark.parametrize("settings", KINDS, ids=lambda s: str(s.get("name", s["kind"])))
def test_every_convolutional_classifier_has_one_and_stays_as_it_was(
    settings: dict[str, object],
) -> None:
    network, views = build(settings)
    before = network(views).detach()
    with torch.inference_mode():
        found = GradCam(network, views.shape[2:]).compute(views, 0)
    assert found.shape[1:].numel() > 1
    assert bool(torch.isfinite(found).all())
    assert float(found.min()) >= 0
    assert torch.equal(network(views), before)
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_network_without_spatial_layers_is_refused() -> None:
    network, views = build({"kind": "linear3d"})
    with pytest.raises(CheckpointError, match="none of its layers"):
        GradCam(network, views.shape[2:])


def test_a_transformer_is_refused_because_it_works_on_tokens() -> None:
    network, views = build({"kind": "timm2d", "name": "vit_tiny_patch16_224", "image_size": 224})
    with pytest.raises(CheckpointError, match="tokens"):
        GradCam(network, views.shape[2:])
