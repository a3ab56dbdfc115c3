"""Half precision: half of the bytes, the same detector in float32 after loading, or a refusal."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from medkd.errors import CheckpointError
from medkd.models.detector import DetectorSettings
from medkd.models.luna_classifier import RawLunaNetwork
from medkd.models.package import ModelInfo, load_model, read_info, save_model
from medkd.models.weights import to_half
from tests.models.shipped_models import INFO, TINY, trained


def test_the_logits_of_a_detector_change_by_less_than_a_hundredth(tmp_path: Path) -> None:
    """In the student's size, whose weights have up to 24 * 27 terms per sum."""
    network = trained(DetectorSettings())
    info = ModelInfo(settings=DetectorSettings().model_dump(mode="json"))
    save_model(tmp_path / "half", network, info, half=True)
    view = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        change = (load_model(tmp_path / "half").network(view) - network(view)).abs().max()
    assert 0 < change < 1e-2


def test_half_of_the_bytes_are_read_back_as_float32(tmp_path: Path) -> None:
    sizes = []
    for half in (False, True):
        info = save_model(tmp_path / "model", trained(TINY), INFO, half=half)
        assert info.precision == ("float16" if half else "float32")
        sizes.append((tmp_path / "model" / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    state = load_model(tmp_path / "model").network.state_dict()
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}


def test_a_model_that_is_saved_again_in_full_says_so(tmp_path: Path) -> None:
    save_model(tmp_path / "half", trained(TINY), INFO, half=True)
    loaded = load_model(tmp_path / "half")
    save_model(tmp_path / "full", loaded.network, loaded.info)
    assert read_info(tmp_path / "full").precision == "float32"


def test_an_overflow_is_refused_and_nothing_is_written(
    raw_luna: RawLunaNetwork, tmp_path: Path
) -> None:
    """Batch norm on HU has variances above 65504."""
    with pytest.raises(CheckpointError, match=r"half precision\n.*running_var' has the value 1700"):
        to_half(raw_luna.state_dict(), name="luna")
    network = trained(TINY)
    network.head.bias.data[0] = -1e5
    with pytest.raises(CheckpointError, match=r"'head.bias' has the value 100000, the limit is"):
        save_model(tmp_path / "model", network, INFO, half=True)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_would_lose_digits_are_refused_but_not_small_biases() -> None:
    tiny = torch.tensor([[1e-6, -4e-6]])  # 4e-6 has 6 of 11 bits left in float16
    to_half({"a.bias": tiny, "a.running_mean": tiny, "b.weight": torch.zeros(3)}, name="m")
    to_half({"a.weight": torch.cat([tiny, torch.ones(1, 2)])}, name="m")  # harmless beside 1
    with pytest.raises(CheckpointError, match=r"'a.weight' has no value above 6.1e-05"):
        to_half({"a.weight": tiny}, name="m")


def test_a_model_of_an_earlier_medkd_is_read_with_empty_facts(tmp_path: Path) -> None:
    new = ("purpose", "sources", "limits", "config", "seed", "metric_intervals", "precision")
    assert set(new) <= {field.name for field in fields(ModelInfo)}
    save_model(tmp_path / "model", trained(TINY), INFO)
    path = tmp_path / "model" / "model.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in facts.items() if k not in new}))
    info = load_model(tmp_path / "model").info
    assert (info.sources, info.seed, info.precision) == ((), None, "float32")
