"""What a transfer can tap in a network: its layers, found by running one empty view.

A layer is a submodule, named as in `network.named_modules()`. Its output is what
`transfer.taps.tap_layers` would read: of a layer that runs several times the last output, and as
later layers leave it if they work in place (the ReLU after a batch norm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.models.network import Network, parameter_count

OUTLINE = 24
"""Most layers of an outline."""

STAGES = 7
"""Most stages of a network."""

ASSUMED_SIZE = 32
"""Pixels or voxels along each axis of the empty view if no shape is known."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network.

    Args:
        name: as in `named_modules`; the value of `teacher_layer` and `student_layer`.
        kind: class of the module.
        output: shape [C, *cells] of its output for one view, without the batch, in transformers
            [*cells, C]; None: it cannot be tapped, and `note` states why.
        parameters: of the module and everything inside it.
        is_group: whether it contains other layers.
        is_embedding: whether the network declares it as its embedding layer.
        note: what to know before tapping it; empty: nothing.
    """

    name: str
    kind: str
    output: tuple[int, ...] | None
    parameters: int
    is_group: bool
    is_embedding: bool = False
    note: str = ""

    @property
    def depth(self) -> int:
        """Number of layers that it is inside of, plus 1."""
        return self.name.count(".") + 1


@dataclass(frozen=True, slots=True)
class NetworkLayers:
    """The layers of one network in the order of its definition, and the view that was run.

    `view_shape` is [C, *spatial]; `is_assumed` states that nothing else gave it.
    """

    network: str
    view_shape: tuple[int, ...]
    parameters: int
    layers: tuple[Layer, ...]
    is_assumed: bool = False


def list_layers(network: Network, view_shape: Sequence[int], *, kind: str = "") -> NetworkLayers:
    """List the layers of a network by running one empty view.

    Args:
        network: a 2-D or 3-D network; its training mode is restored.
        view_shape: [C, *spatial] of one view.
        kind: its name in the table of models.

    Raises:
        SettingsError: if the network does not accept a view of this shape.

    Example:
        >>> from medkd.models.classifiers import Shallow2dSettings, build_shallow
        >>> found = list_layers(build_shallow(Shallow2dSettings()), (1, 28, 28))
        >>> [(layer.name, layer.output) for layer in found.layers if layer.is_embedding]
        [('pool', (32,))]
    """
    runs = _run_empty_view(network, view_shape)
    rows = tuple(
        Layer(
            name=name,
            kind=type(module).__name__,
            output=runs[name].shape if name in runs else None,
            parameters=parameter_count(module),
            is_group=any(True for _ in module.children()),
            is_embedding=name == network.embedding_layer,
            note=runs[name].note if name in runs else "does not run",
        )
        for name, module in network.named_modules()
        if name
    )
    return NetworkLayers(
        kind or type(network).__name__, tuple(view_shape), parameter_count(network), rows
    )


def outline(layers: Sequence[Layer], most: int = OUTLINE) -> tuple[Layer, ...]:
    """Choose the layers to show of a long network: its groups, down to one depth.

    A layer without layers inside it is shown only if it is not inside a group, or if it is the
    embedding. The depth is the largest at which at most `most` layers are shown, and at least 1.
    Layers that cannot be tapped are left out. A network of at most `most` layers is shown whole.

    Args:
        layers: of one network.
        most: the limit.
    """
    able = [layer for layer in layers if layer.output is not None]
    if len(able) <= most:
        return tuple(able)
    shown: list[Layer] = []
    for depth in range(1, max(layer.depth for layer in able) + 1):
        chosen = [layer for layer in able if _is_shown(layer, depth)]
        if shown and len(chosen) > most:
            break
        shown = chosen
    return tuple(shown)


def stages(layers: Sequence[Layer], most: int = STAGES) -> tuple[Layer, ...]:
    """Choose the stages of a network: groups of one depth whose outputs are maps.

    The depth is the one with the most stages, and the smallest of several. Where a depth has more
    than `most` groups, the last one of each size of map counts.

    Args:
        layers: of one network.
        most: the limit.

    Returns:
        The stages, first to last; empty for a network without groups, such as a linear one.
    """
    maps = [layer for layer in layers if layer.is_group and _is_map(layer)]
    found: list[Layer] = []
    for depth in sorted({layer.depth for layer in maps}):
        here = [layer for layer in maps if layer.depth == depth]
        if len(here) > most:
            here = list({(layer.output or ())[1:]: layer for layer in here}.values())
        if len(found) < len(here) <= most:
            found = here
    return tuple(found)


def _is_map(layer: Layer) -> bool:
    """Return whether the output has several cells, so that it is no pooled vector."""
    return layer.output is not None and math.prod(layer.output[1:]) > 1


def _is_shown(layer: Layer, depth: int) -> bool:
    main = layer.depth == 1 or (layer.is_group and layer.depth <= depth)
    return main or layer.is_embedding


@dataclass(frozen=True, slots=True)
class _Run:
    shape: tuple[int, ...] | None
    note: str


class _Watch:
    """Keeps the outputs of every layer while a network runs."""

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.versions: dict[str, int] = {}

    def keep(self, name: str, output: object) -> None:
        self.outputs[name] = output
        self.counts[name] = self.counts.get(name, 0) + 1
        if isinstance(output, Tensor):
            self.versions[name] = output._version

    def runs(self) -> dict[str, _Run]:
        return {name: self._run(name, output) for name, output in self.outputs.items()}

    def _run(self, name: str, output: object) -> _Run:
        if not isinstance(output, Tensor):
            return _Run(None, f"its output is no tensor ({type(output).__name__})")
        notes = []
        if self.counts[name] > 1:
            notes.append(f"runs {self.counts[name]} times: the last output is tapped")
        if output._version != self.versions[name]:
            notes.append("a later layer changes its output in place")
        return _Run(tuple(output.shape[1:]), "; ".join(notes))


def _run_empty_view(network: Network, view_shape: Sequence[int]) -> Mapping[str, _Run]:
    watch = _Watch()

    def hook_for(name: str) -> Any:  # noqa: ANN401  # torch's own type of hooks
        return lambda _module, _inputs, output: watch.keep(name, output)

    device = next(network.parameters()).device
    modes = {module: module.training for module in network.modules()}
    hooks = [m.register_forward_hook(hook_for(name)) for name, m in _named(network)]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *view_shape, device=device))
    except (RuntimeError, ValueError) as error:  # torch's and the network's own refusals
        first = (str(error).splitlines() or [""])[0]
        raise SettingsError(
            f"{type(network).__name__} cannot be run on a view {list(view_shape)}", [first]
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return watch.runs()


def _named(network: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in network.named_modules() if name]
