"""Base class of all networks: one view in, logits out, and the attributes that other code uses.

A view is float32 in 0..1, [B, C, I, J, K] (2-D: [B, C, I, J]). A network that needs another form
(ImageNet normalisation, three channels, HU, z-y-x order) converts the view in its own forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.models.layout import channel_axis
from medkd.settings import Settings


class NetworkSettings(Settings):
    """Base of all model settings; a subclass adds `kind` and the requirements on views."""

    spatial_dims: ClassVar[int]
    finds_points: ClassVar[bool] = False
    hu_window: ClassVar[tuple[float, float] | None] = None

    in_channels: int = Field(1, ge=1, description="channels of the view")
    label_count: int = Field(1, ge=1, description="outputs; binary is one logit")
    used_outputs: tuple[Annotated[int, Field(ge=-1)], ...] = Field(
        (),
        description="numbers of the outputs that are used, from 0, in this order (-1: a label "
        "without an output, its logit is 0); empty: all",
    )

    @model_validator(mode="after")
    def _used_outputs_exist(self) -> Self:
        if self.used_outputs and max(self.used_outputs) >= self.label_count:
            raise ValueError(
                f"used_outputs is {list(self.used_outputs)}, but the last output is number "
                f"{self.label_count - 1}"
            )
        named = [number for number in self.used_outputs if number >= 0]
        if len(set(named)) < len(named):
            raise ValueError(f"used_outputs names an output twice: {list(self.used_outputs)}")
        if self.used_outputs and not named:
            raise ValueError("used_outputs names no output")
        if self.used_outputs and self.finds_points:
            raise ValueError("used_outputs: a point detector has one output, for nodules")
        return self

    @property
    def used_count(self) -> int:
        """Number of outputs that are used, K."""
        return len(self.used_outputs) or self.label_count

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The only accepted spatial shape of a view; None: any shape."""
        return None

    @property
    def names_weights(self) -> bool:
        """Whether the settings name weights that are loaded into the new network."""
        return getattr(self, "weights", "none") != "none"

    def stored(self) -> dict[str, Any]:
        """Return the plain values that a model directory keeps; they rebuild the network."""
        return self.model_dump(mode="json", by_alias=True)


class Network(nn.Module):
    """Base of all networks.

    Args:
        settings: the network's settings. `spatial_dims` (2 or 3), `in_channels`, `label_count`
            (K, of the used outputs), `input_shape` and `hu_window` (None: any) become attributes
            of the network.
            `finds_points` is True if the output is a map of points (`detector.py`), not logits;
            `context_voxels` is then how far outside a cell the voxels can be that change it.
        embedding_layer: name of the submodule that outputs the pooled embedding [B, E].
        dense_stride: voxels between neighbouring cells of `forward_dense`; None: not supported.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        *,
        embedding_layer: str,
        dense_stride: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.stored = settings.stored()  # two networks with equal weights can differ in these
        self.spatial_dims = settings.spatial_dims
        self.in_channels = settings.in_channels
        self.label_count = settings.used_count
        self.used_outputs = settings.used_outputs
        self.finds_points = settings.finds_points
        self.input_shape = settings.input_shape
        self.hu_window = settings.hu_window
        self.embedding_layer = embedding_layer
        self.dense_stride = dense_stride
        self.context_voxels = 0
        self.initialisation = "random"

    def forward(self, view: Tensor) -> Tensor:
        """Compute the logits of views.

        Args:
            view: [B, C, *spatial] float in 0..1.

        Returns:
            [B, K] logits.

        Raises:
            ValueError: if the number of axes, the channels or the spatial shape is not accepted.
        """
        self._check_view(view)
        return self.pick_used(self._logits(view))

    def pick_used(self, logits: Tensor) -> Tensor:
        """Return those of the logits [B, outputs, ...] that are used."""
        if -1 in self.used_outputs:
            logits = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)  # the last one
        return logits[:, list(self.used_outputs)] if self.used_outputs else logits

    def forward_dense(self, view: Tensor, *, patch_shape: Sequence[int]) -> Tensor:
        """Compute the logits of all patches of a large view; see `classifiers.PooledConvNet`."""
        raise NotImplementedError(f"{type(self).__name__} has no dense run (patch {patch_shape})")

    def channel_axis(self, layer: str, output: object, *, samples: int) -> int:
        """Return the axis of the channels of a layer's output; see `layout.channel_axis`."""
        return channel_axis(self, layer, output, samples=samples)

    def _logits(self, view: Tensor) -> Tensor:
        raise NotImplementedError

    def _check_view(self, view: Tensor) -> None:
        if view.ndim != self.spatial_dims + 2 or view.shape[1] != self.in_channels:
            axes = "I, J, K" if self.spatial_dims == 3 else "I, J"
            raise ValueError(
                f"{type(self).__name__} accepts views [B, {self.in_channels}, {axes}], "
                f"got {tuple(view.shape)}"
            )
        if self.input_shape is not None and tuple(view.shape[2:]) != self.input_shape:
            raise ValueError(
                f"{type(self).__name__} accepts only views of shape {self.input_shape}, "
                f"got {tuple(view.shape[2:])}"
            )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global CPU generator within the context, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def parameter_count(network: nn.Module) -> int:
    """Return the number of trainable and frozen parameters, without buffers."""
    return sum(parameter.numel() for parameter in network.parameters())
