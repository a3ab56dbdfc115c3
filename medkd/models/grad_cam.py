"""Grad-CAM of a classifier: the cells of its last spatial layer that raise an output.

Selvaraju et al. 2017, equations 1 and 2: the weight of a channel is the mean gradient of the
output's logit over all cells, and the map is the ReLU of the weighted sum of the channels. MONAI
computes it. A map shows what raised the logit, not where a finding is, and is as coarse as the
layer.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from medkd.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medkd.models.network import Network


class _Copy(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.clone()


class GradCam:
    """Grad-CAM of a network, of whose copy the last spatial layer is tapped.

    Args:
        network: a classifier in eval mode.
        view_shape: the spatial shape of its views.

    Raises:
        CheckpointError: if it has no spatial layer whose cells lie on the view.
    """

    def __init__(self, network: Network, view_shape: Sequence[int]) -> None:
        from monai.visualize import GradCAM

        self.layer = last_spatial_layer(network, view_shape)
        # MONAI's hooks stay in the network. What follows the layer may overwrite its output (the
        # ReLU of a DenseNet), which the hooks do not allow: it gets a copy.
        with torch.inference_mode(mode=False):
            tapped = copy.deepcopy(network)
        parent, _, name = self.layer.rpartition(".")
        layer = tapped.get_submodule(self.layer)
        setattr(tapped.get_submodule(parent), name, nn.Sequential(layer, _Copy()))
        self._cam = GradCAM(tapped, f"{self.layer}.0")

    def compute(self, views: Tensor, output: int) -> Tensor:
        """Return the maps [B, *cells] of one output, at least 0, on the CPU.

        Args:
            views: [B, C, *spatial] in 0..1, in 2-D and 3-D.
            output: number of the output.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            found: Tensor = self._cam.compute_map(views.clone().requires_grad_(), class_idx=output)
        return found[:, 0].detach().float().cpu()


def last_spatial_layer(network: Network, view_shape: Sequence[int]) -> str:
    """Return the name of the last layer to run whose output has several cells along the view.

    Raises:
        CheckpointError: if there is none, or if tokens follow it (a transformer): their places
            are no longer those of its cells.
    """
    axes = network.spatial_dims + 2
    ran: list[tuple[str, tuple[int, ...]]] = []

    def hook_for(name: str) -> object:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                ran.append((name, tuple(output.shape)))

        return note

    hooks = [
        module.register_forward_hook(hook_for(name))
        for name, module in network.named_modules()
        if name
    ]
    parameter = next(network.parameters())
    view = torch.zeros((1, network.in_channels, *view_shape), device=parameter.device)
    try:
        with torch.inference_mode():
            network(view)
    finally:
        for hook in hooks:
            hook.remove()
    spatial = [
        place
        for place, (_, shape) in enumerate(ran)
        if len(shape) == axes and torch.Size(shape[2:]).numel() > 1
    ]
    has_tokens = any(len(shape) == 3 for _, shape in ran[spatial[-1] + 1 :]) if spatial else False
    if not spatial or has_tokens:
        reason = "it works on tokens" if has_tokens else "none of its layers keeps places apart"
        raise CheckpointError(f"no Grad-CAM of a {type(network).__name__}", [reason])
    return ran[spatial[-1]][0]
