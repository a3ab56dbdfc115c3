"""The cost of running a network: parameters, multiply-accumulates, size on disk, latency.

This is the only module of `evaluate` that imports torch. Multiply-accumulates (MACs) are counted
by torch for convolutions and matrix products; pooling and activations are not counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medkd.types import Efficiency

_WARM_UP = 2
_LEAST_S = 0.3
"""Minimum duration of a measurement: the system counts CPU time in hundredths of a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A network to measure, already on its device, and the size of its file on disk in bytes."""

    network: nn.Module
    size_bytes: int


def measure_efficiency(
    models: Mapping[str, Measured],
    input_shape: tuple[int, ...],
    *,
    device: str = "cpu",
    repeats: int = 20,
) -> dict[str, Efficiency]:
    """Measure parameters, MACs, file size and latency of networks; the input is all zeros.

    The networks run in evaluation mode; afterwards their modes are restored, and their buffers have
    not changed. The timed runs of all networks alternate, so other load on the machine affects all
    of them alike. Networks of the same architecture are timed once and share the latency, because
    it does not depend on the weights.

    Args:
        models: networks by name.
        input_shape: [B, C, *spatial]; B = 1 for the cost of one sample.
        device: torch device.
        repeats: least number of timed runs per network, after two warm-up runs; rounds are added
            until the whole measurement has taken `_LEAST_S`.

    Example:
        >>> costs = measure_efficiency({"a": Measured(nn.Linear(3, 2), 2**20)}, (1, 3), repeats=2)
        >>> costs["a"].parameters, costs["a"].macs, costs["a"].size_mib
        (8, 6, 1.0)
    """
    sample = torch.zeros(input_shape, device=device)
    kinds = {name: _architecture(model.network) for name, model in models.items()}
    timed = {kinds[name]: model.network for name, model in models.items()}
    before = _used_cpu_s()
    durations = _alternate(timed, sample, repeats=repeats)
    busy = _others_share(before, _used_cpu_s())
    return {
        name: Efficiency(
            parameters=sum(parameter.numel() for parameter in model.network.parameters()),
            macs=_count_macs(model.network, sample),
            size_mib=model.size_bytes / 2**20,
            latency_ms=float(np.median(durations[kinds[name]])),
            input_shape=tuple(input_shape),
            device=device,
            threads=torch.get_num_threads(),
            latency_spread_ms=_quartiles(durations[kinds[name]]),
            busy=busy,
        )
        for name, model in models.items()
    }


def _architecture(network: nn.Module) -> str:
    """Return a text that is equal for networks that differ only in their weights."""
    shapes = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    return f"{type(network).__qualname__} {network!r} {shapes}"


def _alternate(
    networks: Mapping[str, nn.Module], sample: torch.Tensor, *, repeats: int
) -> dict[str, list[float]]:
    """Time all networks in turn; return the durations in ms by name, without the warm-up.

    There are at least `repeats` rounds, and more until `_LEAST_S` seconds have passed.
    """
    found: dict[str, list[float]] = {name: [] for name in networks}
    started, rounds = time.perf_counter(), 0
    while rounds < _WARM_UP + repeats or time.perf_counter() - started < _LEAST_S:
        for name, network in networks.items():
            with _evaluating(network), torch.inference_mode():
                found[name].append(_time_ms(network, sample))
        rounds += 1
    return {name: times[_WARM_UP:] for name, times in found.items()}


@dataclass(frozen=True, slots=True)
class _UsedCpu:
    """Seconds since an arbitrary start: wall clock, CPU time of all processes, of this process."""

    clock: float
    everybody: float
    own: float


def _used_cpu_s() -> _UsedCpu | None:
    """Read the CPU time used so far; None if the system has no /proc/stat."""
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        ticks_per_s = os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return None
    # proc(5): user nice system idle iowait irq softirq steal; idle and iowait are not work.
    ticks = [int(word) for word in words[1:9]]
    own = os.times()
    everybody = (sum(ticks) - sum(ticks[3:5])) / ticks_per_s
    return _UsedCpu(time.perf_counter(), everybody, own.user + own.system)


def _others_share(before: _UsedCpu | None, after: _UsedCpu | None) -> float | None:
    if before is None or after is None:
        return None
    others = (after.everybody - before.everybody) - (after.own - before.own)
    available = (after.clock - before.clock) * (os.cpu_count() or 1)
    return min(max(others / available, 0.0), 1.0)


def _count_macs(network: nn.Module, sample: torch.Tensor) -> int:
    with (
        _evaluating(network),
        torch.inference_mode(),
        FlopCounterMode(display=False) as counter,
    ):
        network(sample)
    return int(counter.get_total_flops() // 2)


def _quartiles(durations: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(durations, [25, 75]).tolist()
    return low, high


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
    """Set every module to evaluation mode, and restore the modes afterwards."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
