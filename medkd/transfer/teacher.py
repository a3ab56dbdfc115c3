"""The teacher, frozen by construction: nothing that happens to a student can change it.

It is no `nn.Module`: it is in no `state_dict`, no list of parameters, and `train()` of what
holds it does not reach it. Batch norm uses its stored statistics always.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from medkd.transfer.taps import FeatureTaps


@dataclass(frozen=True, slots=True, eq=False)
class TeacherOutput:
    """What a teacher says of one batch, detached: logits [B, K], features by layer."""

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


class FrozenTeacher:
    """A copy of a network that only answers.

    Args:
        network: copied; the original is not changed.
        temperature: from calibration on validation data, one for all outputs or one for each;
            logits are divided by it (> 0).

    Raises:
        ValueError: if the temperature is not positive.

    Example:
        >>> teacher = FrozenTeacher(nn.Linear(2, 1), temperature=1.5)
        >>> teacher(torch.ones(4, 2)).logits.requires_grad
        False
    """

    def __init__(self, network: nn.Module, temperature: float | Sequence[float] = 1.0) -> None:
        given = (temperature,) if isinstance(temperature, float | int) else tuple(temperature)
        if not all(value > 0 for value in given):
            raise ValueError(f"a temperature is positive, got {temperature!r}")
        self._network = copy.deepcopy(network).eval().requires_grad_(False)
        self.temperature = given

    @property
    def embedding_layer(self) -> str | None:
        """Name of the layer that puts out the pooled embedding, if the network names one."""
        return getattr(self._network, "embedding_layer", None)

    @property
    def label_count(self) -> int | None:
        """Number of outputs, if the network names it."""
        return getattr(self._network, "label_count", None)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The only spatial shape that it takes, if there is one."""
        return getattr(self._network, "input_shape", None)

    def __call__(self, view: Tensor, layers: Sequence[str] = ()) -> TeacherOutput:
        """Answer without gradient, in eval mode, on the view's device.

        Args:
            view: [B, C, *spatial]; the very tensor that the student sees.
            layers: names of layers whose output is wanted.

        Returns:
            Calibrated logits [B, K] and the layers' outputs.
        """
        network = self._network.to(view.device).eval()
        with torch.no_grad(), FeatureTaps(network, layers) as taps:
            logits = network(view)
            scale = torch.tensor(self.temperature, dtype=logits.dtype, device=logits.device)
            logits = logits / scale.view(-1, *(1,) * (logits.ndim - 2))
        return TeacherOutput(logits.detach(), {k: v.detach() for k, v in taps.features().items()})

    def fingerprint(self) -> str:
        """Return the sha256 over all parameters and buffers; it never changes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._network.state_dict().items()):
            digest.update(name.encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
