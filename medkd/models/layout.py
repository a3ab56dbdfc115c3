"""Where the channels of a layer's output are: on the first axis after the batch, or on the last.

Convolutional networks give [B, C, *spatial]. Transformers give tokens [B, N, C], and Swin and the
inner layers of ConvNeXt maps [B, I, J, C]. The networks of this package are convolutional, and
their layout is known. An image network of another library is run on a square image, so the two
equal axes of a map are its positions; of tokens, the channels are the axis whose size the layer's
own weights have. What stays unclear is refused: the wrong axis would be averaged without a sign.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from medkd.errors import SettingsError

FIRST = 1

_ON_LAST_AXIS = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention)
_ON_FIRST_AXIS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.GroupNorm
)  # fmt: skip


def channel_axis(network: nn.Module, layer: str, output: object, *, samples: int) -> int:
    """Return the axis of the channels of a layer's output.

    Args:
        network: a `Network`, or a module that contains one.
        layer: name of the layer, as in `network.named_modules()`.
        output: what the layer gave for a batch.
        samples: number of views of that batch, B.

    Returns:
        1 for [B, C] and [B, C, *spatial], 2 for tokens [B, N, C], 3 for maps [B, I, J, C].

    Raises:
        SettingsError: if the output is no tensor, or if its channels cannot be known.
    """
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise _unknown(
            layer, "it did not run" if output is None else f"its output is a {kind}, not a tensor"
        )
    size = tuple(output.shape)
    if output.ndim < 2 or size[0] != samples:
        raise _unknown(layer, f"it gives {size} for {samples} views: the first axis is no batch")
    if output.ndim == 2:
        return FIRST
    owner = _owner(network, layer)
    if not _is_image_network(owner):
        if output.ndim == int(getattr(owner, "spatial_dims", output.ndim - 2)) + 2:
            return FIRST
        raise _unknown(layer, f"it gives {size[1:]} for one view, without a place for each number")
    axis = _axis_by_shape(size) if output.ndim == 4 else None
    if axis is None and (output.ndim == 3 or size[1] == size[2] == size[3]):
        axis = _axis_by_weights(network.get_submodule(layer), size) or _axis_by_weights(
            owner.get_submodule("body"), size
        )
    if axis is None:
        raise _unknown(layer, f"it gives {size[1:]} for one view: no axis is known as its channels")
    return axis


def _axis_by_shape(size: tuple[int, ...]) -> int | None:
    """Return the axis that differs from two equal ones; None if there is no such axis."""
    first, last = size[2] == size[3], size[1] == size[2]
    if first == last:
        return None
    return FIRST if first else 3


def _axis_by_weights(module: nn.Module, size: tuple[int, ...]) -> int | None:
    """Return the axis of a size that the weights have; if both, the one on which they work."""
    widths = set(_widths(module))
    last = len(size) - 1
    fitting = [axis for axis in (FIRST, last) if size[axis] in widths]
    if len(fitting) == 2:
        on_last = any(isinstance(part, _ON_LAST_AXIS) for part in module.modules())
        on_first = any(isinstance(part, _ON_FIRST_AXIS) for part in module.modules())
        fitting = [last] * on_last + [FIRST] * on_first
    return fitting[0] if len(fitting) == 1 else None


def _widths(module: nn.Module) -> Iterator[int]:
    """Yield the number of channels that each layer inside a module gives."""
    for part in module.modules():
        for name in ("out_features", "out_channels", "num_features", "num_channels", "embed_dim"):
            if isinstance(width := getattr(part, name, None), int):
                yield width
        if isinstance(part, nn.LayerNorm):
            yield part.normalized_shape[-1]


def _owner(network: nn.Module, layer: str) -> nn.Module:
    """Return the innermost network that contains a layer, such as the backbone of a probe."""
    inside = layer.split(".")
    for count in range(len(inside) - 1, 0, -1):
        part = network.get_submodule(".".join(inside[:count]))
        if hasattr(part, "spatial_dims") and hasattr(part, "embedding_layer"):
            return part
    return network


def _is_image_network(owner: nn.Module) -> bool:
    """Return whether a network comes from another library and resizes views to a square."""
    return hasattr(getattr(owner, "prepare", None), "image_size")


def _unknown(layer: str, reason: str) -> SettingsError:
    return SettingsError(
        f"layer {layer!r} cannot be read",
        [reason, "name another layer of `medkd layers`, such as the block around it"],
    )
