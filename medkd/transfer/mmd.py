"""The alignment `mmd`: both domains have the same distribution of features, seen by kernels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medkd.transfer.alignment import AlignmentLoss, AlignmentSettings, domain_vectors
from medkd.transfer.features import gram

BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths of the kernels, relative to the median squared distance of the joint batch."""

EPSILON = 1e-12


class MmdSettings(AlignmentSettings):
    """Maximum mean discrepancy with five Gaussian kernels."""

    kind: Literal["mmd"] = "mmd"


def build_mmd(_settings: MmdSettings, _width: int) -> AlignmentLoss:
    """Build the alignment `mmd`."""
    return AlignmentLoss(mmd_loss)


def mmd_loss(own: Tensor, other: Tensor) -> Tensor:
    """Squared maximum mean discrepancy, unbiased (Gretton et al. 2012, JMLR 13:723, equation 4).

    mean_{i != j} [k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i)]
    k(a, b) = mean_f exp(-|a - b|^2 / (f m)),   f = 1/4, 1/2, 1, 2, 4

    m is the median of |a - b|^2 over the pairs of the joint batch and is detached. A mixture of
    kernels around the median is that of Long et al. 2015 (1502.02791, section 3), who use more of
    them and also learn their weights; here the weights are equal. Features are averaged over space.
    Both domains receive a gradient.

    Args:
        own: [B, C, *spatial], B >= 2.
        other: [B, C, *spatial].

    Returns:
        Scalar, at most 2; 0 if both batches are equal. An unbiased estimate of a distance near 0
        is below 0 about half of the time.

    Raises:
        ValueError: if the batches differ in size.
    """
    if len(own) != len(other):
        raise ValueError(f"expected two batches of one size, got {len(own)} and {len(other)}")
    kernel = _kernel(torch.cat(domain_vectors(own, other)))
    size = len(own)
    within = kernel[:size, :size] + kernel[size:, size:]
    across = kernel[:size, size:]
    pairs = ~torch.eye(size, dtype=torch.bool, device=kernel.device)
    return (within - across - across.T)[pairs].mean()


def _kernel(rows: Tensor) -> Tensor:
    """Return k of all pairs of rows, [N, N]."""
    distance = squared_distances(rows)
    first, second = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    median = distance.detach()[first, second].median().clamp_min(EPSILON)
    kernels = [torch.exp(-distance / (factor * median)) for factor in BANDWIDTHS]
    return torch.stack(kernels).mean(dim=0)


def squared_distances(rows: Tensor) -> Tensor:
    """Return |a - b|^2 of all pairs of rows, [N, C] to [N, N]."""
    # Distances do not change by a common shift, but fewer digits cancel around the mean.
    products = gram(rows - rows.detach().mean(dim=0))
    lengths = products.diagonal()
    return (lengths[:, None] + lengths[None, :] - 2 * products).clamp_min(0)
