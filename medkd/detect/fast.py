"""A copy of a point detector that computes the same map in less time and memory.

Batch norms are folded into the convolutions before them, and feature maps are stored with the
channels last. On a processor with bfloat16 arithmetic the convolutions are computed in bfloat16,
which changes the logits by a few hundredths; only the last layer stays in float32, so that logits,
offsets and diameters are not rounded.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from medkd.models.detector import PointDetector
from medkd.models.network import Network

_SLAB = 16
Precision = Literal["auto", "float32", "bfloat16"]


def fast_copy(network: Network, precision: Precision = "auto") -> Network:
    """Return a copy of a point detector for fast inference.

    Args:
        network: a network in eval mode; only a `PointDetector` is copied, any other network is
            returned itself.
        precision: of the convolutions; "auto" is bfloat16 on processors that compute with it,
            otherwise float32.
    """
    if not isinstance(network, PointDetector):
        return network
    copy = deepcopy(network).requires_grad_(False)
    for module in list(copy.modules()):
        if isinstance(module, nn.Sequential):
            _fold_batch_norms(module)
    on_cpu = next(network.parameters()).device.type == "cpu"
    if precision == "bfloat16" or (precision == "auto" and on_cpu and has_bfloat16()):
        copy = copy.bfloat16()
        copy.add_module("head", _FloatHead(network.head))
    return copy.to(memory_format=torch.channels_last_3d)


def has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 numbers in hardware."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


class _FloatHead(nn.Module):
    """Computes a 1 x 1 x 1 convolution in float32, slab by slab to limit memory."""

    def __init__(self, layer: nn.Conv3d) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.float().flatten(1), requires_grad=False)
        bias = layer.bias if layer.bias is not None else torch.zeros(len(self.weight))
        self.bias = nn.Parameter(bias.float(), requires_grad=False)

    def forward(self, feature: Tensor) -> Tensor:
        cells = feature.movedim(1, -1)
        found = cells.new_empty((*cells.shape[:-1], len(self.weight)), dtype=torch.float32)
        for first in range(0, cells.shape[1], _SLAB):
            slab = cells[:, first : first + _SLAB].float()
            found[:, first : first + _SLAB] = F.linear(slab, self.weight, self.bias)
        return found.movedim(-1, 1)


def _fold_batch_norms(layers: nn.Sequential) -> None:
    """Replace each convolution and the batch norm after it by one convolution."""
    for number, (first, second) in enumerate(pairwise(list(layers))):
        if isinstance(first, nn.Conv3d) and isinstance(second, nn.BatchNorm3d):
            layers[number] = fuse_conv_bn_eval(first, second)
            layers[number + 1] = nn.Identity()
