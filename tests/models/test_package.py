"""The model directory: what is written is read back, and nothing is half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medkd.errors import CheckpointError
from medkd.models.classifiers import Shallow2dSettings
from medkd.models.network import Network
from medkd.models.package import (
    Calibration,
    LoadedModel,
    ModelInfo,
    Preprocessing,
    calibrated_probability,
    load_model,
    nodule_scaling,
    read_info,
    save_model,
)
from medkd.models.table import build_model
from medkd.types import OperatingPoint

SETTINGS = Shallow2dSettings(channels=4)
INFO = ModelInfo(
    settings=SETTINGS.model_dump(mode="json"),
    preprocessing=Preprocessing(
        steps=({"kind": "load"}, {"kind": "intensity", "low": -1000.0}),
        hu_window=(-1000.0, 400.0),
        spacing_mm=(1.0, 1.0, 1.0),
        patch_shape=(32, 32, 24),
    ),
    calibration=Calibration(temperature=(1.4,), logit_shift=(-2.0,)),
    operating_points={"youden": OperatingPoint(0.31, "youden", sensitivity=0.9)},
    trained_on="phantoms, site a",
    trained_on_synthetic=True,
    metrics={"val_roc_auc": 0.91},
)


def a_network(seed: int = 0) -> Network:
    return build_model(SETTINGS, seed=seed)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", a_network(), INFO)
    return tmp_path / "model"


def everything_below(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_is_saved_is_loaded(model: Path) -> None:
    loaded = load_model(model)

    assert isinstance(loaded, LoadedModel)
    assert loaded.info == replace(
        INFO, weights_sha256=loaded.info.weights_sha256, parameters=loaded.info.parameters
    )
    assert loaded.info.kind == "shallow2d"
    own = a_network().state_dict()
    assert all(torch.equal(own[k], v) for k, v in loaded.network.state_dict().items())


def test_the_directory_holds_two_files_and_no_pickle(model: Path) -> None:
    files = everything_below(model)

    assert sorted(files) == ["model.json", "model.safetensors"]
    assert b"pickle" not in files["model.safetensors"]


def test_the_same_network_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", a_network(), INFO)

    assert everything_below(tmp_path / "again") == everything_below(model)


def test_a_model_is_replaced_whole(model: Path) -> None:
    save_model(model, a_network(seed=9), INFO)

    own = a_network(seed=9).state_dict()
    assert all(torch.equal(own[k], v) for k, v in load_model(model).network.state_dict().items())
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_full_disk_leaves_no_model(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    full_disk()

    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        save_model(tmp_path / "model", a_network(), INFO)

    assert "nothing was written" in caught.value.reasons[1]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_model(model: Path, full_disk: Callable[[], None]) -> None:
    before = everything_below(model.parent)
    full_disk()

    with pytest.raises(CheckpointError, match="unchanged"):
        save_model(model, a_network(seed=9), INFO)

    assert everything_below(model.parent) == before


def test_a_folder_that_is_no_model_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(CheckpointError, match="choose another path"):
        save_model(tmp_path, a_network(), INFO)

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_truncated_weights_are_refused_with_both_hashes(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(CheckpointError, match="cut off") as caught:
        load_model(model)

    assert read_info(model).weights_sha256 in caught.value.reasons[0]


def test_weights_of_another_network_are_refused_with_every_tensor(model: Path) -> None:
    text = (model / "model.json").read_text()
    (model / "model.json").write_text(text.replace('"channels": 4', '"channels": 5'))

    with pytest.raises(CheckpointError, match="do not fit this network") as caught:
        load_model(model)

    assert any("(4, 1, 3, 3), expected (5, 1, 3, 3)" in reason for reason in caught.value.reasons)
    assert len(caught.value.reasons) > 5


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = a_network()
    network.head.weight.data[0, 0] = float("nan")
    save_model(tmp_path / "model", network, INFO)

    with pytest.raises(CheckpointError, match=r"'head.weight' contains NaN"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("missing", ["model.json", "model.safetensors"])
def test_a_missing_file_is_refused(model: Path, missing: str) -> None:
    (model / missing).unlink()

    with pytest.raises(CheckpointError):
        load_model(model)


def test_no_folder_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a model directory"):
        load_model(tmp_path / "nowhere")


def test_the_folder_of_a_run_is_refused_with_the_models_in_it(model: Path) -> None:
    for wrong in (model.parent, model.parent / "studnet"):
        with pytest.raises(CheckpointError) as caught:
            read_info(wrong)
        assert caught.value.reasons[-1] == f"models nearby: {model}"


def test_a_run_that_was_stopped_before_it_had_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--resume"):
        read_info(tmp_path / "student")


def test_a_network_of_a_later_medkd_is_refused(model: Path) -> None:
    text = (model / "model.json").read_text()
    (model / "model.json").write_text(text.replace('"shallow2d"', '"quantum2d"'))

    with pytest.raises(CheckpointError, match="does not know"):
        load_model(model)


def test_a_model_of_a_newer_medkd_is_refused_and_one_without_a_version_is_read(model: Path) -> None:
    facts = json.loads((model / "model.json").read_text())
    written = facts.pop("format_version")
    (model / "model.json").write_text(json.dumps(facts | {"schema_version": 1}))
    assert read_info(model).format_version == written
    (model / "model.json").write_text(json.dumps(facts | {"format_version": written + 1}))
    with pytest.raises(CheckpointError, match=r"newer medkd .MODEL format .*update medkd"):
        load_model(model)


def test_the_folder_of_a_weights_file_is_not_written(tmp_path: Path) -> None:
    settings = {
        "kind": "torchvision2d",
        "weights": "file",
        "weights_file": "/home/dr/w.safetensors",
    }

    info = save_model(tmp_path / "model", a_network(), replace(INFO, settings=settings))

    assert info.settings["weights_file"] == "w.safetensors"
    assert "/home" not in (tmp_path / "model" / "model.json").read_text()


def test_reading_the_facts_alone_imports_no_torch(model: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from medkd.models.package import read_info; "
        "print(read_info(Path(sys.argv[1])).kind, 'torch' in sys.modules)"
    )

    done = subprocess.run(  # noqa: S603  # this Python, fixed words
        [sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["shallow2d", "False"]


def test_calibration_divides_then_shifts() -> None:
    # sigmoid(2.8 / 1.4 - 2) = sigmoid(0) = 1/2
    assert calibrated_probability(torch.tensor([[2.8]]), INFO).item() == pytest.approx(0.5)


def test_exclusive_outputs_become_a_softmax_over_labels_at_every_place() -> None:
    info = replace(INFO, outputs="exclusive", calibration=Calibration(temperature=(2.0,)))
    logits = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4)

    probability = calibrated_probability(logits, info)

    # e^1 / (1 + e^1) = .7311
    assert probability[0, 1, 2, 3].item() == pytest.approx(0.731059, abs=1e-6)


@pytest.mark.parametrize(("outputs", "shift"), [("independent", (0.7,)), ("exclusive", (0.1, 0.8))])
def test_one_logit_gives_the_probability_of_one_or_two_outputs(
    outputs: str, shift: tuple[float, ...]
) -> None:
    info = replace(INFO, outputs=outputs, calibration=Calibration((1.6,), shift))
    logits = torch.tensor([[0.5, 2.0], [1.5, -1.0]], dtype=torch.float64)
    if outputs == "independent":
        logits = logits[:, 1:]
    single = logits[:, -1] - (logits[:, 0] if outputs == "exclusive" else 0.0)
    temperature, own = nodule_scaling(info)
    expected = calibrated_probability(logits, info)[:, -1]
    torch.testing.assert_close((single / temperature + own).sigmoid(), expected)
