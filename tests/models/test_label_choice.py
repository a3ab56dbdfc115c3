"""A model of which only some outputs are used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from medkd.models.label_choice import choose_labels
from medkd.models.network import Network
from medkd.models.package import Calibration, ModelInfo, load_model, save_model
from medkd.models.table import build_model, parse_model_settings

FOUR = ModelInfo(
    {"kind": "compact2d", "channels": [4], "strides": [2], "label_count": 4},
    ("Edema", "Mass", "Nodule", "Effusion"),
    calibration=Calibration((1.0, 2.0, 3.0, 4.0), (0.1, 0.2, 0.3, 0.4)),
)


def network_of(info: ModelInfo) -> Network:
    return build_model(parse_model_settings(info.settings), seed=3)


def test_the_logits_are_those_of_the_chosen_labels_in_their_order() -> None:
    chosen = choose_labels(FOUR, ["nodule", "edema"])
    whole, part = network_of(FOUR).eval(), network_of(chosen).eval()
    view = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(part(view), whole(view)[:, [2, 0]])
        dense = whole.forward_dense(view, patch_shape=(8, 8))[:, [2, 0]]
        torch.testing.assert_close(part.forward_dense(view, patch_shape=(8, 8)), dense)
    assert part.label_count == 2
    assert chosen.calibration == Calibration((3.0, 1.0), (0.3, 0.1))


def test_a_choice_is_saved_and_chosen_from_again(tmp_path: Path) -> None:
    first = choose_labels(FOUR, ["Effusion", "Nodule", "Edema"])
    save_model(tmp_path / "model", network_of(first), first)
    loaded = load_model(tmp_path / "model")
    assert loaded.network.used_outputs == (3, 2, 0)
    again = choose_labels(loaded.info, ["Edema", "Effusion"])
    assert again.settings["used_outputs"] == [0, 3]


def test_one_calibration_for_all_outputs_stays_one() -> None:
    one = replace(FOUR, calibration=Calibration((2.0,), (0.5,)))
    assert choose_labels(one, ["Mass"]).calibration == one.calibration


def test_a_label_without_an_output_has_the_logit_zero() -> None:
    chosen = choose_labels(FOUR, ["Hernia", "Mass"], lacking=True)
    assert chosen.settings["used_outputs"] == [-1, 1]
    assert chosen.calibration == Calibration((1.0, 2.0), (0.0, 0.2))
    view = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        found = network_of(chosen).eval()(view)
        torch.testing.assert_close(found[:, 1], network_of(FOUR).eval()(view)[:, 1])
    assert not found[:, 0].any()
    assert choose_labels(FOUR, ["Hernia"], lacking=True) == FOUR
    with pytest.raises(ValidationError, match="names no output"):
        parse_model_settings({"kind": "shallow2d", "used_outputs": [-1]})


@pytest.mark.parametrize(
    ("info", "labels"),
    [
        (FOUR, ["Nodule", "Hernia"]),
        (replace(FOUR, outputs="exclusive"), ["Nodule"]),
        (replace(FOUR, label_names=("Mass", "mass", "Nodule", "Edema")), ["mass"]),
        (replace(FOUR, label_names=("Nodule",)), ["Nodule"]),
    ],
)
def test_what_cannot_be_chosen_is_unchanged(info: ModelInfo, labels: list[str]) -> None:
    assert choose_labels(info, labels) == info


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "shallow2d", "label_count": 2, "used_outputs": [2]}, "last output is number 1"),
        ({"kind": "shallow2d", "label_count": 2, "used_outputs": [1, 1]}, "an output twice"),
        ({"kind": "detector3d", "used_outputs": [0]}, "a point detector has one output"),
    ],
)
def test_outputs_that_do_not_exist_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        parse_model_settings(values)
