from __future__ import annotations

import pytest
import torch
from torch import nn

from medkd.evaluate.efficiency import measure_efficiency


def test_multiply_accumulates_and_parameters_are_those_of_the_arithmetic():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(256, 2)
    )

    cost = measure_efficiency(network, (1, 1, 8, 8), size_bytes=3 * 2**19, repeats=3)

    # 64 places x 9 weights x 4 channels, then 256 x 2.
    assert cost.macs == 64 * 9 * 4 + 256 * 2
    assert cost.parameters == 4 * 9 + 256 * 2 + 2
    assert cost.size_mib == 1.5
    assert (cost.input_shape, cost.device) == ((1, 1, 8, 8), "cpu")
    assert cost.latency_ms > 0
    assert cost.threads == torch.get_num_threads()


def test_volumes_are_counted_like_images():
    network = nn.Conv3d(2, 3, 3, padding=1)

    assert measure_efficiency(network, (1, 2, 4, 4, 4), size_bytes=1, repeats=1).macs == (
        64 * 27 * 2 * 3
    )


def test_measuring_leaves_modes_and_buffers_as_they_were():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    network[2].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    measure_efficiency(network, (2, 4), size_bytes=1, repeats=1)

    assert [module.training for module in network] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_modes_come_back_when_the_network_fails():
    network = nn.Linear(4, 4)

    with pytest.raises(RuntimeError):
        measure_efficiency(network, (1, 3), size_bytes=1)

    assert network.training
