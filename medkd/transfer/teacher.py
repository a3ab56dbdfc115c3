"""The teacher, frozen by construction: training a student cannot change it.

It is not an `nn.Module`, so it is in no `state_dict` and no list of parameters, and calling
`train()` on the object that holds it has no effect. Batch norm always uses its stored statistics.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medkd.transfer.taps import tap_layers
from medkd.types import PatchBatch

if TYPE_CHECKING:
    from medkd.transfer.targets import StoredTeacher


@dataclass(frozen=True, slots=True, eq=False)
class TeacherOutput:
    """The teacher's detached outputs for one batch: logits [B, K], features by layer name.

    The logits of a point detector are its map [B, 5, ...].
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


class FrozenTeacher:
    """A frozen copy of a network, used for inference only.

    Args:
        network: it is copied; the original is not changed.
        temperature: from calibration on validation data, one for all outputs or one for each,
            > 0; logits are divided by it.

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
        if self.finds_points:
            self._network.to(memory_format=torch.channels_last_3d)  # as in `Engine`
        self.temperature = given
        self._stored: StoredTeacher | None = None

    @property
    def network(self) -> nn.Module:
        """The frozen network."""
        return self._network

    @property
    def embedding_layer(self) -> str | None:
        """Name of the layer whose output is the pooled embedding, if the network declares one."""
        return getattr(self._network, "embedding_layer", None)

    @property
    def finds_points(self) -> bool:
        """Whether the network is a point detector."""
        return bool(getattr(self._network, "finds_points", False))

    @property
    def label_count(self) -> int | None:
        """Number of outputs, K, if the network declares it."""
        return getattr(self._network, "label_count", None)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The only spatial shape that the network accepts, if there is one."""
        return getattr(self._network, "input_shape", None)

    def with_answers(self, stored: StoredTeacher | None) -> FrozenTeacher:
        """Return the same teacher, which answers from stored answers; None: it is asked live."""
        other = copy.copy(self)
        other._stored = stored
        return other

    def answer(self, batch: PatchBatch, layers: Sequence[str] = ()) -> TeacherOutput:
        """Return the stored answers to the views of a batch or, if there are none, ask now.

        Args:
            batch: views with their sample ids and view numbers.
            layers: names of the layers whose outputs are wanted.
        """
        if self._stored is None:
            return self(batch.image, layers)
        device = batch.image.device
        return self._stored.answer(batch.sample_id, batch.view_number, device=device)

    def __call__(self, view: Tensor, layers: Sequence[str] = ()) -> TeacherOutput:
        """Run the network without gradient, in eval mode, on the device of the view.

        Args:
            view: [B, C, *spatial]; the very tensor that the student receives.
            layers: names of layers whose outputs are returned too.

        Returns:
            Calibrated logits [B, K] and the outputs of the layers.
        """
        network = self._network.eval()
        if next((p.device for p in network.parameters()), None) != view.device:  # `to` costs time
            network.to(view.device)
        with torch.no_grad(), tap_layers(network, layers) as features:
            logits = network(view)
            scale = torch.tensor(self.temperature, dtype=logits.dtype, device=logits.device)
            if self.finds_points:  # only the first channel of a map is a logit
                scale = torch.cat([scale, scale.new_ones(logits.shape[1] - 1)])
            logits = logits / scale.view(-1, *(1,) * (logits.ndim - 2))
        return TeacherOutput(logits.detach(), {k: v.detach() for k, v in features.items()})

    def fingerprint(self) -> str:
        """Return the sha256 of all parameters, buffers and settings; it never changes.

        Two networks with equal weights answer differently if they resize or pool differently.
        """
        settings = getattr(self._network, "stored", {})
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(self._network.state_dict().items()):
            digest.update(name.encode())
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()
