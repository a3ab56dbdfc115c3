"""Alignment of two domains: what its kinds have in common.

A network that is trained on one domain sees a second batch beside each of its own: samples of
another domain, whose labels are not used. The alignment loss is small if the network's features of
both batches are distributed alike. Both batches pass through the network together, so batch norm
uses the same statistics for both, as it does after training. Two passes would normalise each
domain by itself and hide the difference that is to be reduced.

A kind is one file with its settings (an `AlignmentSettings`), its formula, and a module that maps
(own features, features of the other domain, progress) to the unweighted loss. `table.py` lists
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from medkd.settings import Settings
from medkd.transfer.features import pool
from medkd.transfer.outputs import at_least_float32
from medkd.transfer.taps import check_channels, probe_layers


class AlignmentSettings(Settings):
    """The keys of every kind of alignment."""

    least_samples: ClassVar[int] = 2
    """Samples that a batch needs: one sample shows no distribution."""

    kind: str
    weight: float = Field(1.0, gt=0.0, description="factor on the alignment loss")
    layer: str | None = Field(
        None, description="layer whose means over space are compared; null: the pooled embedding"
    )

    def misfits(self, batch_size: int) -> tuple[str, ...]:
        """Return why batches of this size cannot be used; empty if they can."""
        if batch_size >= self.least_samples:
            return ()
        return (
            f"alignment {self.kind}: it compares the distributions of two batches and needs at "
            f"least {self.least_samples} samples in each, got {batch_size}: raise "
            "training.batch_size",
        )


class AlignmentLoss(nn.Module):
    """An alignment that is a loss of two sets of vectors and has no parts of its own.

    Args:
        loss: maps [B, C] and [B, C] to the unweighted loss.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, own: Tensor, other: Tensor, progress: float) -> Tensor:
        """Return the unweighted loss, which does not depend on the progress of training."""
        del progress
        return self.loss(own, other)


def domain_vectors(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means over space of both features, [B, C], at least in float32."""
    return pool(at_least_float32(own)), pool(at_least_float32(other))


def trained_width(network: nn.Module, layer: str, view_shape: Sequence[int]) -> int:
    """Return the number of channels of a layer.

    Args:
        network: the network that is aligned; its state is not changed.
        layer: name of one of its layers.
        view_shape: [C, *spatial] of a view.

    Raises:
        ValueError: if no trained weight precedes the layer: its output cannot change.
        SettingsError: if its channels are not on the first axis after the batch.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with torch.enable_grad():
        _, features = probe_layers(network, torch.zeros(1, *view_shape, device=device), [layer])
    check_channels(network, features)
    if not features[layer].requires_grad:
        raise ValueError(
            f"no trained weight precedes the layer {layer!r}, so alignment would change nothing: "
            "name a later layer, or use another network"
        )
    return features[layer].shape[1]
