"""Every network of the table holds the contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medkd.models.table import MODELS, build_architecture, parse_model_settings
from tests.contracts import check_model, random_view

SMALL = {
    "linear2d": {"image_shape": [12, 9]},
    "linear3d": {"image_shape": [6, 5, 4]},
    "resnet3d": {"depth": 10, "width": 0.125},
    "torchvision2d": {"name": "mobilenet_v3_small", "image_size": 64},
    "timm2d": {"name": "tf_efficientnet_lite0", "image_size": 64},
    "torchxrayvision2d": {"image_size": 64},
    "probe": {"backbone": {"kind": "compact2d"}, "layers": ["features.3", "pool"]},
    "ensemble": {"members": [{"kind": "compact2d"}, {"kind": "shallow2d"}]},
    "luna_classifier": {"width": 2, "patch_shape": [48, 32, 16]},
}
"""Settings that make an entry small; an entry that stands not here is checked as it is."""

SLOW = {"resnet3d", "torchvision2d", "timm2d", "torchxrayvision2d"}


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow if k in SLOW else ()) for k in MODELS]
)
def test_every_model_holds_the_contract(kind: str, tmp_path: Path) -> None:
    settings = parse_model_settings({"kind": kind, **SMALL.get(kind, {})})

    check_model(settings, tmp_path / "model")


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("kind", ["compact2d", "compact3d", "shallow2d", "linear2d"])
def test_a_model_gives_as_many_outputs_as_asked_for(kind: str, labels: int) -> None:
    settings = parse_model_settings({"kind": kind, "label_count": labels})

    logits = build_architecture(settings).eval()(random_view(settings))

    assert logits.shape == (2, labels)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.slow
def test_deeper_resnets_build_and_score(depth: int) -> None:
    settings = parse_model_settings({"kind": "resnet3d", "depth": depth, "width": 0.125})

    assert build_architecture(settings).eval()(random_view(settings)).shape == (2, 1)


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "efficientnet_b0", "convnext_tiny", "swin_t"]
)
@pytest.mark.slow
def test_each_family_of_torchvision_loses_its_own_head(name: str) -> None:
    settings = parse_model_settings({"kind": "torchvision2d", "name": name, "image_size": 64})
    network = build_architecture(settings).eval()

    assert network(random_view(settings)).shape == (2, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", MODELS)
def test_every_model_scores_the_same_on_a_gpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # convolutions of ten bits (TF32, the default) differ by more than any mistake would
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    settings = parse_model_settings({"kind": kind, **SMALL.get(kind, {})})
    network, view = build_architecture(settings).eval(), random_view(settings)

    with torch.no_grad():
        here, there = network(view), network.cuda()(view.cuda()).cpu()

    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)
