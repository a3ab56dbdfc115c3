"""Layers that depend on the whole batch, while several processes compute a share of it each.

Batch norm uses the statistics of all rows, and dropout draws the mask of all rows and uses its own
part, with the same random numbers as a single process (on a CPU, bit for bit). The layers are
changed only inside the `with` block of one forward pass; names and states stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medkd.train.ranks import Ranks, join_rows
from medkd.transfer.outputs import at_least_float32

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@contextmanager
def shared_layers(networks: Iterable[nn.Module], ranks: Ranks, total: int) -> Iterator[None]:
    """Let batch norm and dropout act as on the whole batch.

    Args:
        networks: they are run inside the block on this process's share of a batch.
        ranks: the processes.
        total: rows of the whole batch; if it is not divided, nothing is changed.
    """
    divided = ranks.count > 1 and total >= ranks.count
    changed: list[nn.Module] = []
    modules = [module for network in networks for module in network.modules() if divided]
    try:
        for module in modules:
            if isinstance(module, _BatchNorm):
                module.forward = partial(_norm, module, ranks)  # type: ignore[method-assign]  # for a while
            elif isinstance(module, DROPOUTS):
                module.forward = partial(_drop, module, ranks, total)  # type: ignore[method-assign]  # for a while
            else:
                continue
            changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward


def _norm(norm: _BatchNorm, ranks: Ranks, features: Tensor) -> Tensor:
    """Normalise by the mean and variance of all rows, as `torch.nn.SyncBatchNorm` does on GPUs.

    The variance of all rows is that within the shares plus that of their means (Chan et al. 1979).
    """
    if not norm.training and norm.running_mean is not None:
        found: Tensor = type(norm).forward(norm, features)
        return found
    rows = at_least_float32(features)
    axes = [axis for axis in range(rows.ndim) if axis != 1]
    variance, mean = torch.var_mean(rows, dim=axes, correction=0)
    number = mean.new_tensor([rows.numel() / rows.shape[1]])
    own = torch.cat([mean, variance, number])[None]
    joined = join_rows(own, [1] * ranks.count)
    means, variances = joined[:, : len(mean)], joined[:, len(mean) : -1]
    numbers = joined[:, -1:].detach()
    weights = numbers / numbers.sum()
    mean = (weights * means).sum(dim=0)
    variance = (weights * (variances + (means - mean).square())).sum(dim=0)
    _update_statistics(norm, mean.detach(), variance.detach(), float(numbers.sum()))
    scale = (variance + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -mean * scale + (norm.bias if norm.affine else 0.0)
    shape = [1, -1, *[1] * (rows.ndim - 2)]
    return (rows * scale.view(shape) + shift.view(shape)).to(features.dtype)


@torch.no_grad()
def _update_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor, number: float) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    factor = norm.momentum
    if factor is None:
        factor = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor)
    unbiased = variance * (number / max(number - 1, 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), factor)


def _drop(dropout: nn.Module, ranks: Ranks, total: int, features: Tensor) -> Tensor:
    """Drop what one process would drop; features may hold several batches, one after another."""
    if not dropout.training:
        return features
    own = ranks.share.rows(total)
    batches = len(features) // (own.stop - own.start)
    mask: Tensor = features.new_ones(batches * total, *features.shape[1:])
    mask = type(dropout).forward(dropout, mask)
    mask = mask.view(batches, total, *features.shape[1:])[:, own]
    dropped: Tensor = features * mask.flatten(0, 1)
    return dropped
