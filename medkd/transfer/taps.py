"""Read the outputs of named layers without changing the network."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from medkd.errors import SettingsError

Join = Callable[[Tensor, int], Tensor]
"""Maps the rows [b, ...] of this process, of a batch of B rows, to the rows [B, ...] of all.

A tensor that has all rows already is returned as it is.
"""


def own_rows(rows: Tensor, _total: int) -> Tensor:
    """Return the rows as they are: this process computes the whole batch."""
    return rows


@contextmanager
def tap_layers(network: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of named layers while the network runs inside the `with` block.

    Args:
        network: the network that is run.
        layers: names as in `network.named_modules()`.

    Yields:
        The outputs by layer; they are complete at the end of the block.

    Raises:
        SettingsError: if a layer does not exist, with similar names; at the end of the block, if a
            layer did not run or its output is not a tensor.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with tap_layers(network, ["0"]) as outputs:
        ...     _ = network(torch.ones(4, 2))
        >>> outputs["0"].shape
        torch.Size([4, 3])
    """
    outputs: dict[str, Any] = {}

    def keep(name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        outputs[name] = output

    with ExitStack() as hooks:
        for name, module in find_layers(network, layers).items():
            hooks.enter_context(module.register_forward_hook(partial(keep, name)))
        yield outputs
    if idle := [name for name in layers if name not in outputs]:
        raise SettingsError(f"layers {idle} did not run", [f"tapped: {list(layers)}"])
    for name, output in outputs.items():
        if not isinstance(output, Tensor):
            reason = f"got {type(output).__name__}"
            raise SettingsError(f"the output of layer {name!r} is not a tensor", [reason])


def probe_layers(
    network: nn.Module, view: Tensor, layers: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a network once in eval mode, to learn the shapes of layers; its state is not changed.

    Args:
        network: the network; modules keep the modes that they have.
        view: [B, C, *spatial] on the network's device.
        layers: names as in `network.named_modules()`.

    Returns:
        The output of the network, and the outputs of the layers by name.

    Raises:
        SettingsError: as `tap_layers`.
    """
    modes = {module: module.training for module in network.modules()}
    try:
        with tap_layers(network.eval(), layers) as features:
            output = network(view)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return output, features


def check_channels(network: nn.Module, features: Mapping[str, Tensor]) -> None:
    """Refuse layers whose channels are not on the first axis after the batch.

    Args:
        network: the network of the layers; without `channel_axis`, nothing is known and refused.
        features: outputs of layers for one view, by name.

    Raises:
        SettingsError: with every reason.
    """
    axis_of: Callable[..., int] | None = getattr(network, "channel_axis", None)
    if axis_of is None:
        return
    reasons: list[str] = []
    for name, feature in features.items():
        try:
            axis = axis_of(name, feature, samples=1)
        except SettingsError as error:
            reasons.append("; ".join([f"layer {name!r}", *error.reasons]))
            continue
        if axis != 1:
            reasons.append(
                f"layer {name!r} gives {tuple(feature.shape[1:])} for one view, with its channels "
                "last: name a layer that gives [C, *spatial], or the pooled embedding"
            )
    if reasons:
        raise SettingsError(
            f"{type(network).__name__}: layers that cannot be compared or aligned", reasons
        )


def find_layers(network: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """Find layers by name.

    Raises:
        SettingsError: lists every name that does not exist, with similar existing names.
    """
    known = dict(network.named_modules())
    known.pop("", None)
    reasons = []
    for name in layers:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:8]
            reasons.append(f"no layer {name!r}; similar names are {', '.join(close)}")
    if reasons:
        raise SettingsError(f"{type(network).__name__} does not have these layers", reasons)
    return {name: known[name] for name in layers}
