"""What a network costs to run: parameters, multiply-accumulates, size on disk, latency.

The one module of this room that imports torch. Multiply-accumulates are those of convolutions
and matrix products as torch's own counter sees them; pooling and activations are not counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medkd.types import Efficiency

_WARM_UP = 2


def measure_efficiency(
    network: nn.Module,
    input_shape: tuple[int, ...],
    *,
    size_bytes: int,
    device: str = "cpu",
    repeats: int = 10,
) -> Efficiency:
    """Measure a network on one input of zeros; its mode and buffers stay as they were.

    Args:
        network: already on `device`.
        input_shape: [B, C, *spatial]; B = 1 for the cost of one sample.
        size_bytes: of its file on disk.
        device: as torch names it.
        repeats: timed runs, after two that are not; the median counts.

    Example:
        >>> cost = measure_efficiency(nn.Linear(3, 2), (1, 3), size_bytes=2**20, repeats=1)
        >>> cost.parameters, cost.macs, cost.size_mib
        (8, 6, 1.0)
    """
    sample = torch.zeros(input_shape, device=device)
    with _evaluating(network), torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            network(sample)
        durations = [_time_ms(network, sample) for _ in range(_WARM_UP + repeats)][_WARM_UP:]
    return Efficiency(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=counter.get_total_flops() // 2,
        size_mib=size_bytes / 2**20,
        latency_ms=statistics.median(durations),
        input_shape=tuple(input_shape),
        device=device,
        threads=torch.get_num_threads(),
    )


def _time_ms(network: nn.Module, sample: torch.Tensor) -> float:
    _wait_for(sample)
    started = time.perf_counter()
    network(sample)
    _wait_for(sample)
    return (time.perf_counter() - started) * 1000.0


def _wait_for(sample: torch.Tensor) -> None:
    if sample.is_cuda:
        torch.cuda.synchronize(sample.device)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
