"""Read the outputs of named layers without changing the network."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from medkd.errors import SettingsError


class FeatureTaps:
    """A context manager that keeps the outputs of named layers of one forward pass.

    Args:
        network: the network that is run inside the `with` block.
        layers: names as in `network.named_modules()`.

    Raises:
        SettingsError: if a layer does not exist, with close names; on reading, if a layer did
            not run or its output is not a tensor.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with FeatureTaps(network, ["0"]) as taps:
        ...     _ = network(torch.ones(4, 2))
        >>> taps["0"].shape
        torch.Size([4, 3])
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        self._modules = find_layers(network, layers)
        self._outputs: dict[str, object] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._outputs.clear()
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._keep(name)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._outputs:
            raise SettingsError(f"layer {layer!r} did not run", [f"tapped: {list(self._modules)}"])
        output = self._outputs[layer]
        if not isinstance(output, Tensor):
            raise SettingsError(
                f"the output of layer {layer!r} is not a tensor", [f"got {type(output).__name__}"]
            )
        return output

    def features(self) -> dict[str, Tensor]:
        """Return the output of every tapped layer by name."""
        return {layer: self[layer] for layer in self._modules}

    def _keep(self, name: str) -> Any:  # noqa: ANN401  # the hook's type differs between torches
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            self._outputs[name] = output

        return hook


def find_layers(network: nn.Module, layers: Sequence[str]) -> dict[str, nn.Module]:
    """Find layers by name.

    Raises:
        SettingsError: with every name that does not exist, and existing names close to it.
    """
    known = dict(network.named_modules())
    known.pop("", None)
    reasons = []
    for name in layers:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:8]
            reasons.append(f"no layer {name!r}; close are {', '.join(close)}")
    if reasons:
        raise SettingsError(f"{type(network).__name__} lacks layers to tap", reasons)
    return {name: known[name] for name in layers}
