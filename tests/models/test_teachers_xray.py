"""TorchXRayVision's network: the same numbers as the library's, without its pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from medkd.errors import CheckpointError
from medkd.models.imported import ImportFacts, import_weights
from medkd.models.package import load_model, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.models.teachers_xray import OUTPUTS, TRAINED_OUTPUTS, XrvInput
from tests.models.conftest import sha256_of

KIND = {"kind": "torchxrayvision2d"}


@pytest.fixture
def library() -> Any:
    import torchxrayvision

    return torchxrayvision


def library_network(library: Any, *, seed: int = 3) -> nn.Module:
    """The library's network as after loading its weights, with its operating points."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = library.models.DenseNet(weights=None)
        nn.init.normal_(network.classifier.bias)
    network.op_threshs = torch.full((18,), 0.1)
    return network.eval()


def saved(network: nn.Module, folder: Path) -> tuple[Path, str]:
    path = folder / "xrv-all.pt"
    torch.save(network.state_dict(), path)
    return path, sha256_of(path)


def test_a_view_becomes_the_librarys_range_and_size() -> None:
    image = XrvInput(64)(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).expand(2, 1, 3, 3))

    assert image.shape == (2, 1, 64, 64)
    assert (image.min(), image.max()) == (-1024.0, 1024.0)


def test_the_list_of_outputs_is_the_librarys(library: Any) -> None:
    urls = library.models.model_urls
    assert list(OUTPUTS) == list(library.datasets.default_pathologies)
    for name, trained in TRAINED_OUTPUTS.items():
        assert {label for label in urls[name]["labels"] if label} == trained


@pytest.mark.slow
def test_an_imported_state_gives_the_librarys_own_logits(library: Any, tmp_path: Path) -> None:
    theirs = library_network(library)
    path, sha256 = saved(theirs, tmp_path)
    values = {**KIND, "outputs": ["Nodule", "Mass"], "label_count": 2, "image_size": 64}
    facts = ImportFacts(label_names=("Nodule", "Mass"))

    model = import_weights(path, parse_model_settings(values), sha256=sha256, facts=facts)

    view = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    theirs.op_threshs = None
    with torch.no_grad():
        expected = theirs(view * 2048 - 1024)[:, [OUTPUTS.index("Nodule"), OUTPUTS.index("Mass")]]
        torch.testing.assert_close(model.network(view), expected, rtol=1e-4, atol=1e-5)
    assert "head of its Nodule, Mass" in model.network.initialisation
    save_model(tmp_path / "model", model.network, model.info)
    again = load_model(tmp_path / "model").network
    assert not any("op_threshs" in key for key in again.state_dict())


@pytest.mark.slow
def test_without_outputs_the_body_is_taken_and_the_head_is_new(
    library: Any, tmp_path: Path
) -> None:
    theirs = library_network(library)
    file = tmp_path / "xrv.safetensors"
    save_file(theirs.state_dict(), file)
    values = {**KIND, "weights": "file", "weights_file": str(file)}

    network = build_model(parse_model_settings(values), seed=0)

    own = network.get_submodule("body").state_dict()
    assert all(torch.equal(own[key], value) for key, value in theirs.state_dict().items()
               if key.startswith("features."))  # fmt: skip
    assert network.initialisation == "local file xrv.safetensors, densenet121-res224-all, new head"


@pytest.mark.slow
def test_a_whole_model_pickle_is_refused_with_the_way_in(library: Any, tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(library_network(library), path)

    with pytest.raises(CheckpointError, match="without running code") as caught:
        import_weights(path, parse_model_settings(KIND), sha256=sha256_of(path))

    assert "state_dict()" in caught.value.reasons[1]


@pytest.mark.slow
def test_outputs_need_a_classifier_in_the_file(library: Any, tmp_path: Path) -> None:
    state = {k: v for k, v in library_network(library).state_dict().items() if "class" not in k}
    torch.save(state, tmp_path / "a.pt")
    settings = parse_model_settings({**KIND, "outputs": ["Nodule"]})

    with pytest.raises(CheckpointError, match=r"classifier\.weight"):
        import_weights(tmp_path / "a.pt", settings, sha256=sha256_of(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    "values",
    [
        {"outputs": ["Nodule"], "name": "densenet121-res224-chex"},
        {"outputs": ["Nodule", "Mass"]},
        {"outputs": ["Teapot"]},
        {"in_channels": 3},
        {"weights": "file"},
        {"name": "resnet50-res512-all"},
    ],
)
def test_impossible_choices_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse_model_settings({**KIND, **values})
