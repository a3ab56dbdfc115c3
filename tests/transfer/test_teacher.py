"""The teacher cannot be changed: not by training, not by modes, not through a file."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medkd.errors import SettingsError
from medkd.models.table import build_model, parse_model_settings
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.taps import tap_layers
from medkd.transfer.teacher import FrozenTeacher
from tests.contracts import TinyNet, tiny_batch

BOTH = TransferSettings.model_validate({"terms": [{"kind": "soft_label"}, {"kind": "hint"}]})


def test_an_epoch_of_training_leaves_every_parameter_and_buffer_bit_identical() -> None:
    network = TinyNet(width=6, seed=1)
    teacher = FrozenTeacher(network)
    before = {key: value.clone() for key, value in teacher._network.state_dict().items()}
    fingerprint = teacher.fingerprint()
    objective = TransferObjective(TinyNet(width=4, seed=0), teacher, BOTH)
    optimiser = torch.optim.SGD(objective.trainable_parameters(), lr=0.1)

    objective.train()
    for step in range(6):
        batch = tiny_batch()
        optimiser.zero_grad()
        objective(batch, step / 6).loss.backward()
        optimiser.step()

    after = teacher._network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert teacher.fingerprint() == fingerprint


def test_networks_with_equal_weights_and_other_settings_have_other_fingerprints() -> None:
    small = {"kind": "compact3d", "channels": [4], "strides": [1]}
    first, second, same = (
        FrozenTeacher(build_model(parse_model_settings(small | {"pooling": pooling}), seed=0))
        for pooling in ("mean", "centre", "mean")
    )
    assert all(
        torch.equal(one, first.network.state_dict()[name])
        for name, one in second.network.state_dict().items()
    )
    assert first.fingerprint() == same.fingerprint() != second.fingerprint()


def test_the_students_batch_norm_does_move_so_that_the_test_above_says_something() -> None:
    student = TinyNet(width=4, seed=0)
    objective = TransferObjective(student, FrozenTeacher(TinyNet(width=6, seed=1)), BOTH).train()
    before = student.norm.running_mean.clone()

    objective(tiny_batch(), 0.5)

    assert not torch.equal(student.norm.running_mean, before)


def test_no_part_of_the_teacher_is_in_the_objective() -> None:
    teacher = FrozenTeacher(TinyNet(width=6, seed=1))
    objective = TransferObjective(TinyNet(width=4, seed=0), teacher, BOTH)
    theirs = {id(p) for p in teacher._network.parameters()} | set(
        map(id, teacher._network.modules())
    )

    assert not theirs & {id(p) for p in objective.parameters()}
    assert not theirs & {id(module) for module in objective.modules()}
    assert not [key for key in objective.state_dict() if "teacher" in key]
    assert {key.split(".")[0] for key in objective.state_dict()} == {"student", "terms"}
    assert set(objective.terms.state_dict()) == {
        "hint.projector.linear.weight",
        "hint.projector.linear.bias",
    }


def test_the_original_network_is_left_as_it_was() -> None:
    network = TinyNet(width=6, seed=1).train()

    FrozenTeacher(network)(tiny_batch().image)

    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_teacher_whose_network_was_set_to_train_answers_in_eval_mode() -> None:
    teacher = FrozenTeacher(TinyNet(width=6, seed=1))
    view = tiny_batch().image
    expected = teacher(view).logits
    teacher._network.train()

    assert torch.equal(teacher(view).logits, expected)


def test_the_calibration_temperature_divides_the_logits() -> None:
    network = TinyNet(width=6, seed=1)
    view = tiny_batch().image

    warm = FrozenTeacher(network, temperature=4.0)(view).logits

    torch.testing.assert_close(warm * 4.0, FrozenTeacher(network)(view).logits)


def test_an_answer_carries_no_gradient() -> None:
    answer = FrozenTeacher(TinyNet(width=6, seed=1))(tiny_batch().image, ["conv"])

    assert not answer.logits.requires_grad
    assert not answer.features["conv"].requires_grad
    assert answer.features["conv"].shape == (4, 6, 4, 4, 4)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        FrozenTeacher(TinyNet(width=2, seed=1), temperature)


def test_taps_leave_no_hook_behind_even_after_an_error() -> None:
    network = TinyNet(width=2, seed=0)

    with pytest.raises(RuntimeError), tap_layers(network, ["conv", "pool"]):
        network(torch.zeros(1, 5, 4, 4, 4))

    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_that_does_not_exist_is_refused_with_close_names() -> None:
    with (
        pytest.raises(SettingsError, match="no layer 'convv'; similar names are conv"),
        tap_layers(TinyNet(width=2, seed=0), ["convv"]),
    ):
        pass


def test_a_layer_that_did_not_run_or_gives_no_tensor_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return view, view

    network = nn.ModuleDict({"ran": Two(), "idle": nn.Identity()})
    with pytest.raises(SettingsError, match="is not a tensor"), tap_layers(network, ["ran"]):
        network["ran"](torch.zeros(1))
    with pytest.raises(SettingsError, match="did not run"), tap_layers(network, ["idle"]):
        pass


def test_no_graph_is_recorded_while_the_teacher_answers() -> None:
    class Spy(nn.Module):
        recording = True

        def forward(self, view: torch.Tensor) -> torch.Tensor:
            Spy.recording = torch.is_grad_enabled()
            return view

    FrozenTeacher(Spy())(torch.zeros(1, 1, requires_grad=True))

    assert not Spy.recording
