"""Adapt a trained network to another domain by statistics of its samples, without their labels.

`adapt_batch_norm` replaces the statistics that batch norm stored while training.
`adapt_embedding` standardises the embedding per domain and folds this into the linear head, so the
architecture does not change. Both assume that the domains differ in appearance only. If the share
of positives differs too, a part of the real difference is removed with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from medkd.models.network import Network

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

LEAST_SD = 1e-6
"""A channel with a smaller standard deviation is constant."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and standard deviation of each channel, [C] float64."""

    mean: Tensor
    sd: Tensor


class _Sums:
    """Number, sum and sum of squares of the values of each channel, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.total = torch.zeros((), dtype=torch.float64)
        self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, feature: Tensor) -> None:
        """Include the values of [B, C, *spatial]."""
        axes = [axis for axis in range(feature.ndim) if axis != 1]
        self.total = self.total + feature.sum(dim=axes, dtype=torch.float64).cpu()
        squares = feature.square().sum(dim=axes, dtype=torch.float64)
        self.squares = self.squares + squares.cpu()
        self.count += feature.numel() // feature.shape[1]

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def variance(self) -> Tensor:
        """The unbiased variance, as batch norm stores it."""
        centred = self.squares - self.count * self.mean.square()
        return (centred / (self.count - 1)).clamp_min(0)


def adapt_batch_norm(network: nn.Module, views: Iterable[Tensor]) -> None:
    """Re-estimate the statistics of every batch norm (Li et al. 2016, 1603.04779, algorithm 1).

    mean_c and var_c of each layer's input over all samples and positions of the new domain replace
    the stored ones. As in training, each batch is normalised by itself on its way through the
    network, so batches should mix the samples of many scans. Nothing but these two buffers changes.

    Args:
        network: it is changed in place; its mode is restored.
        views: batches [B, C, *spatial] of at least 2 samples.

    Raises:
        ValueError: if the network has no batch norm with stored statistics, or there is no batch.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(1))
        >>> adapt_batch_norm(network, [torch.tensor([[1.0], [3.0]])])
        >>> network[0].running_mean.item(), network[0].running_var.item()
        (2.0, 2.0)
    """
    norms = batch_norms(network)
    if not norms:
        raise ValueError(no_batch_norm(network))
    sums = {name: _Sums() for name in norms}
    with ExitStack() as hooks, torch.no_grad(), _own_statistics(network, norms.values()):
        for name, norm in norms.items():
            hooks.enter_context(norm.register_forward_pre_hook(partial(_collect, sums[name])))
        for view in views:
            network(view)
    if any(not found.count for found in sums.values()):
        raise ValueError("expected batches that run through every batch norm, got none")
    for name, norm in norms.items():
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.copy_(sums[name].mean)
            norm.running_var.copy_(sums[name].variance)


def batch_norms(network: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """Return the batch norms of a network that store statistics, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None
    }


def no_batch_norm(network: nn.Module) -> str:
    """Return the reason why a network without batch norm cannot be adapted by it."""
    return (
        f"{type(network).__name__} has no batch norm with stored statistics, so adapt: batch_norm "
        "would change nothing: use adapt: embedding, or another network"
    )


def measure_embedding(network: Network, views: Iterable[Tensor]) -> Moments:
    """Measure mean and standard deviation of each channel of the embedding.

    Args:
        network: its mode is restored.
        views: batches [B, C, *spatial], together at least 2 samples.

    Raises:
        ValueError: if there are fewer than 2 samples.
    """
    sums, layer = _Sums(), network.get_submodule(network.embedding_layer)
    training = network.training
    with torch.no_grad(), layer.register_forward_hook(partial(_collect_output, sums)):
        network.eval()
        for view in views:
            network(view)
    network.train(training)
    if sums.count < 2:
        raise ValueError(f"expected at least 2 samples, got {sums.count}")
    return Moments(sums.mean, sums.variance.sqrt())


def adapt_embedding(network: Network, *, source: Moments, target: Moments) -> None:
    """Give each channel of the embedding the mean and SD that it has on the source.

    e' = (e - m_t) / s_t * s_s + m_s is what the head receives. The head is linear, so its weights
    and bias take this over: w' = w s_s / s_t, b' = b + w (m_s - m_t s_s / s_t). A channel that is
    constant on the target becomes m_s.

    Args:
        network: its linear head is changed in place.
        source: moments on the domain on which the network was trained.
        target: moments on the domain to which it is adapted.

    Raises:
        ValueError: if the network has no linear head on its embedding.
    """
    if reason := no_linear_head(network):
        raise ValueError(reason)
    head = network.head
    if not isinstance(head, nn.Linear):
        raise TypeError(f"expected a linear head, got {type(head).__name__}")
    varies = target.sd > LEAST_SD
    scale = torch.where(varies, source.sd / target.sd.clamp_min(LEAST_SD), 0.0)
    shift = source.mean - target.mean * scale
    with torch.no_grad():
        weight = head.weight.double().cpu()
        head.bias.add_((weight @ shift).to(head.bias))
        head.weight.copy_(weight * scale)


def no_linear_head(network: Network) -> str:
    """Return why the embedding of a network cannot be adapted; empty if it can."""
    head = getattr(network, "head", None)
    if isinstance(head, nn.Linear) and not network.finds_points:
        return ""
    return (
        f"{type(network).__name__} has no linear head on its embedding, so adapt: embedding cannot "
        "be stored in it: use adapt: batch_norm, or another network"
    )


def _collect(sums: _Sums, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    sums.add(inputs[0])


def _collect_output(
    sums: _Sums, _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    sums.add(output)


@contextmanager
def _own_statistics(
    network: nn.Module, norms: Iterable[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]
) -> Iterator[None]:
    """Let batch norms normalise by each batch without storing anything; the rest is in eval."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    changed = list(norms)
    for norm in changed:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in changed:
            norm.track_running_stats = True
        for module, mode in modes.items():
            module.training = mode
