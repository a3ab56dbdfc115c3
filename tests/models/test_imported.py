"""Foreign weights: adapted once, refused when anything about them is not as stated."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medkd.data import loading
from medkd.errors import CheckpointError, SettingsError
from medkd.models.imported import ImportFacts, import_weights, settings_from_values
from medkd.models.luna_classifier import LunaClassifierSettings, RawLunaNetwork
from medkd.models.package import LoadedModel, load_model, save_model
from medkd.models.table import build_architecture, check_model_input
from tests.models.conftest import sha256_of
from tests.real_data import needs_data

LUNA = LunaClassifierSettings()
LUNA_SHA256 = "0f2af10e3bb0f5159cb6ea0df97a2d9f4ac824e28d18a3f18746f39de5bb0727"


def view_of(patch_zyx_hu: torch.Tensor) -> torch.Tensor:
    """[z, y, x] HU to the [1, 1, i, j, k] view in 0..1 that all of medkd uses."""
    return ((patch_zyx_hu.clamp(-1000, 1000) + 1000) / 2000).permute(2, 1, 0)[None, None]


def off_centre_nodule() -> torch.Tensor:
    """Air with a soft-tissue ball at (z, y, x) = (6, 12, 40), radius 5, and a gradient along x."""
    axes = [torch.arange(n, dtype=torch.float32) for n in (32, 48, 48)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    ball = (z - 6) ** 2 + (y - 12) ** 2 + (x - 40) ** 2 < 25
    return torch.where(ball, 40.0, -900.0 + 4.0 * x + y)


def test_a_non_cubic_patch_scores_equally_through_wrapper_and_raw_network(
    luna_state: tuple[Path, str], raw_luna: RawLunaNetwork
) -> None:
    path, sha256 = luna_state
    model = import_weights(path, LUNA, sha256=sha256)
    patch = off_centre_nodule()

    with torch.no_grad():
        ours = model.network(view_of(patch)).sigmoid().item()
        raw = raw_luna(patch[None, None]).softmax(1)[0, 1].item()
        swapped = model.network(view_of(patch.transpose(1, 2))).sigmoid().item()

    assert ours == pytest.approx(raw, abs=1e-6)
    assert abs(swapped - raw) > 1e-4, "the patch does not tell x from y: the test proves nothing"


def test_an_imported_model_keeps_where_it_came_from(
    luna_state: tuple[Path, str], tmp_path: Path
) -> None:
    path, sha256 = luna_state
    imported = import_weights(path, LUNA, sha256=sha256.upper())
    save_model(tmp_path / "model", imported.network, imported.info)

    info = load_model(tmp_path / "model").info

    assert info.origin == f"luna.state, sha256 {sha256}"
    assert info.licence.startswith("none stated")
    assert info.preprocessing.hu_window == (-1000.0, 1000.0)
    assert info.preprocessing.patch_shape == (48, 48, 32)
    assert info.parameters == 222_220


def test_another_file_than_the_one_named_is_refused_with_both_hashes(
    luna_state: tuple[Path, str],
) -> None:
    path, sha256 = luna_state

    with pytest.raises(CheckpointError, match="not the expected file") as caught:
        import_weights(path, LUNA, sha256="0" * 64)

    assert any(sha256 in reason for reason in caught.value.reasons)


def test_a_file_that_holds_code_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "trap.pt"
    torch.save({"model_state": Trap()}, path)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Trap(), protocol=2))

    for file in (path, plain):
        with pytest.raises(CheckpointError, match="without running code"):
            import_weights(file, LUNA, sha256=sha256_of(file))
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network_are_refused_with_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "other.state"
    torch.save({"model_state": {"conv.weight": torch.zeros(3)}}, path)

    with pytest.raises(CheckpointError, match="do not fit this network") as caught:
        import_weights(path, LUNA, sha256=sha256_of(path))

    assert "missing tensor 'block1.conv1.bias'" in caught.value.reasons
    # 22 missing (batch norm 4, four blocks of 4, head 2; its counter may lack), 1 unknown; 12 shown
    assert caught.value.reasons[-1] == "and 11 more"


def test_a_truncated_torch_file_is_refused(luna_state: tuple[Path, str]) -> None:
    path, _ = luna_state
    path.write_bytes(path.read_bytes()[:5000])

    with pytest.raises(CheckpointError, match="not loaded"):
        import_weights(path, LUNA, sha256=sha256_of(path))


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    settings = settings_from_values("shallow2d", {"channels": 4})
    path = tmp_path / "w.safetensors"
    save_file(build_architecture(settings).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-50])

    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        import_weights(path, settings, sha256=sha256_of(path))


def test_a_whole_network_is_imported_from_safetensors(tmp_path: Path) -> None:
    settings = settings_from_values("shallow2d", {"channels": 4})
    source = build_architecture(settings, seed=7).eval()
    path = tmp_path / "w.safetensors"
    save_file(source.state_dict(), path)

    model = import_weights(path, settings, sha256=sha256_of(path), facts=ImportFacts(licence="MIT"))

    view = torch.rand(2, 1, 20, 20)
    assert torch.equal(model.network(view), source(view))
    assert model.info.licence == "MIT"


@pytest.mark.slow
def test_a_body_alone_gets_a_new_head(tmp_path: Path) -> None:
    settings = settings_from_values("torchvision2d", {"name": "mobilenet_v3_small"})
    body = build_architecture(settings, seed=7).get_submodule("body").eval()
    path = tmp_path / "body.pt"
    torch.save(body.state_dict(), path)

    model = import_weights(path, settings, sha256=sha256_of(path))

    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.network.get_submodule("body")(image), body(image))
    assert model.info.initialisation == "imported from body.pt: its body, new head"


def test_label_names_that_do_not_fit_the_outputs_are_refused(tmp_path: Path) -> None:
    settings = settings_from_values("shallow2d", {"label_count": 2})

    with pytest.raises(SettingsError, match="label_count is 2"):
        import_weights(tmp_path / "w.safetensors", settings, sha256="0" * 64)


def test_an_unknown_kind_is_refused_with_the_kinds_that_there_are() -> None:
    with pytest.raises(SettingsError, match="'compact2d', 'compact3d'"):
        settings_from_values("resnet9000", {})


def test_a_patch_shape_that_does_not_halve_four_times_is_refused() -> None:
    with pytest.raises(SettingsError, match="multiple of 16"):
        settings_from_values("luna_classifier", {"patch_shape": [48, 48, 30]})


def test_another_window_or_shape_than_it_was_trained_on_is_refused_before_any_run() -> None:
    reasons = check_model_input(
        LUNA, view_shape=(1, 32, 48, 48), hu_window=(-1000.0, 400.0), label_count=1
    )

    assert len(reasons) == 2
    assert "only views of shape (48, 48, 32)" in reasons[0]
    assert "HU window (-1000.0, 1000.0), the data has (-1000.0, 400.0)" in reasons[1]


def test_its_loading_steps_are_those_that_data_understands(luna_state: tuple[Path, str]) -> None:
    path, sha256 = luna_state
    preprocessing = import_weights(path, LUNA, sha256=sha256).info.preprocessing

    steps = loading.parse_loading(preprocessing.steps)

    assert loading.hu_window(steps) == preprocessing.hu_window
    assert loading.patch_shape(steps) == preprocessing.patch_shape
    assert loading.spacing_mm(steps) is preprocessing.spacing_mm is None


@pytest.fixture
def real_luna() -> LoadedModel:
    path = Path(os.environ["MEDKD_DATA"]) / "weights" / "luna_nodule_classifier.state"
    return import_weights(path, LUNA, sha256=LUNA_SHA256)


@needs_data
def test_the_real_classifier_calls_its_real_negative_crop_no_nodule(real_luna: LoadedModel) -> None:
    path = Path(os.environ["MEDKD_DATA"]) / "weights" / "luna_negative_crop.pt"
    crop = torch.load(path, weights_only=True)[0][0]

    with torch.no_grad():
        probability = real_luna.network(view_of(crop)).sigmoid().item()

    assert probability < 1e-6
    assert probability == pytest.approx(5e-9, rel=0.1)


@needs_data
def test_the_real_classifier_scores_real_cutouts_as_the_raw_network_does(
    real_luna: LoadedModel,
) -> None:
    # Two of the six are no nodules (class 2 in present_candidates.csv).
    folder = Path(os.environ["MEDKD_DATA"]) / "luna16" / "cutouts" / "tomas"
    not_nodules = ("_127:339:297", "_257:262:128")
    for path in sorted(folder.glob("*.npz")):
        patch = torch.from_numpy(np.load(path)["ct_chunk"])
        with torch.no_grad():
            ours = real_luna.network(view_of(patch)).sigmoid().item()
            raw = real_luna.network.get_submodule("raw")(patch[None, None]).softmax(1)[0, 1].item()
        assert ours == pytest.approx(raw, abs=1e-6)
        assert (ours > 0.9) != path.stem.endswith(not_nodules), path.name
