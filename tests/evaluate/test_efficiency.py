from __future__ import annotations

import pytest
import torch
from torch import nn

from medkd.evaluate import efficiency
from medkd.evaluate.efficiency import Measured, measure_efficiency
from medkd.types import Efficiency


def cost_of(network: nn.Module, shape: tuple[int, ...], *, size_bytes: int = 1) -> Efficiency:
    return measure_efficiency({"x": Measured(network, size_bytes)}, shape, repeats=2)["x"]


def test_multiply_accumulates_and_parameters_are_those_of_the_arithmetic():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(256, 2)
    )

    cost = cost_of(network, (1, 1, 8, 8), size_bytes=3 * 2**19)

    # 64 places x 9 weights x 4 channels, then 256 x 2.
    assert cost.macs == 64 * 9 * 4 + 256 * 2
    assert cost.parameters == 4 * 9 + 256 * 2 + 2
    assert cost.size_mib == 1.5
    assert (cost.input_shape, cost.device) == ((1, 1, 8, 8), "cpu")
    assert cost.latency_ms > 0
    assert cost.threads == torch.get_num_threads()


def test_volumes_are_counted_like_images():
    network = nn.Conv3d(2, 3, 3, padding=1)

    assert cost_of(network, (1, 2, 4, 4, 4)).macs == (64 * 27 * 2 * 3)


def test_measuring_leaves_modes_and_buffers_as_they_were():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    cost_of(network, (2, 4))

    assert [module.training for module in network] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_modes_come_back_when_the_network_fails():
    network = nn.Linear(4, 4)

    with pytest.raises(RuntimeError):
        cost_of(network, (1, 3))

    assert network.training


def test_the_latency_is_a_median_with_its_middle_half_and_says_how_busy_the_machine_was():
    cost = cost_of(nn.Linear(4, 4), (1, 4))
    low, high = cost.latency_spread_ms
    assert 0 < low <= cost.latency_ms <= high
    assert cost.busy is None or 0 <= cost.busy <= 1


def test_arms_are_timed_in_turn(monkeypatch):
    timed = []

    def time_ms(network, _):
        timed.append(type(network).__name__)
        return float(len(timed))

    monkeypatch.setattr(efficiency, "_time_ms", time_ms)
    models = {"a": Measured(nn.Linear(4, 4), 1), "b": Measured(nn.Identity(), 1)}
    costs = measure_efficiency(models, (1, 4), repeats=4)
    assert timed[:4] == ["Linear", "Identity"] * 2
    assert costs["a"].latency_ms == costs["b"].latency_ms - 1


def test_networks_of_one_architecture_share_one_latency():
    models = {
        name: Measured(network, 1)
        for name, network in (
            ("control", nn.Linear(4, 4)), ("student", nn.Linear(4, 4)),
            ("teacher", nn.Linear(4, 99_999)),
        )
    }  # fmt: skip
    costs = measure_efficiency(models, (1, 4), repeats=2)
    assert costs["control"] == costs["student"]
    assert costs["teacher"].latency_ms != costs["student"].latency_ms


@pytest.mark.parametrize("fault", [OSError, ValueError])
def test_where_the_system_does_not_say_how_busy_it_is_nothing_is_claimed(monkeypatch, fault):
    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(efficiency.Path, "read_text", fail)
    assert cost_of(nn.Linear(4, 4), (1, 4)).busy is None
