"""Several networks that answer together: the weighted mean of their logits on one scale.

The members of an ensemble may be calibrated differently or trained for another prevalence. Each
logit is therefore first moved by a factor and an offset, which whoever builds the ensemble chooses
(`train/ensembles.py`), and only then averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from pydantic import Field, model_validator
from torch import Tensor, nn

from medkd.models.network import Network, NetworkSettings


class EnsembleSettings(NetworkSettings):
    """The plain settings of the members; a run writes them."""

    kind: Literal["ensemble"] = "ensemble"
    members: tuple[dict[str, Any], ...] = Field(
        min_length=2, description="The settings of each member."
    )
    by_confidence: bool = Field(
        False, description="A member weighs more for the samples of which it is sure."
    )
    exclusive: bool = Field(False, description="The labels are the classes of one softmax.")

    @model_validator(mode="after")
    def _members_answer_alike(self) -> Self:
        made = [self._parsed(member) for member in self.members]
        for name in ("spatial_dims", "in_channels", "used_count"):
            if len(values := {getattr(one, name) for one in made}) > 1:
                raise ValueError(f"the members differ in {name}: {sorted(values)}")
        if any(one.finds_points for one in made):
            raise ValueError("a point detector cannot be a member: its output is a map")
        return self

    @staticmethod
    def _parsed(member: dict[str, Any]) -> NetworkSettings:
        from medkd.models.table import parse_model_settings  # the table also lists this network

        return parse_model_settings(member)

    @property
    def parsed(self) -> tuple[NetworkSettings, ...]:
        """The settings of the members."""
        return tuple(map(self._parsed, self.members))

    @property
    def spatial_dims(self) -> int:  # type: ignore[override]
        """Number of spatial axes of the members."""
        return self.parsed[0].spatial_dims

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The only spatial shape that a member accepts; None: any shape."""
        return next((m.input_shape for m in self.parsed if m.input_shape), None)

    @property
    def hu_window(self) -> tuple[float, float] | None:  # type: ignore[override]
        """The HU window that a member needs; None: any."""
        return next((m.hu_window for m in self.parsed if m.hu_window), None)


class Ensemble(Network):
    """Members, and for each member [M, K] a factor, an offset and a weight.

    logit = sum_m weight_m (factor_m z_m + offset_m), with weights that add up to 1. With
    `by_confidence` each sample has weights of its own, see `confidence_weights`. A member whose
    weight for a label is 0 does not answer it. Of exclusive classes, a member has one factor and
    one weight, so a constant added to all logits of one sample changes no softmax. The embedding is
    the members' logits side by side.
    """

    def __init__(self, settings: EnsembleSettings) -> None:
        from medkd.models.table import build_part  # the table also lists this network

        super().__init__(settings, embedding_layer="collect")
        self.by_confidence = settings.by_confidence
        self.exclusive = settings.exclusive
        self.networks = [build_part(one) for one in settings.parsed]
        self.members = nn.ModuleList(self.networks)
        self.collect = nn.Identity()
        shape = (len(self.members), settings.label_count)
        self.register_buffer("factor", torch.ones(shape))
        self.register_buffer("offset", torch.zeros(shape))
        self.register_buffer("weight", torch.full(shape, 1 / len(self.members)))

    def combine(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the mean [B, K] of the members' logits, each [B, K]."""
        stacked = torch.stack(list(logits))
        factor, offset, weight = (
            self.get_buffer(name)[:, None] for name in ("factor", "offset", "weight")
        )
        moved = factor * stacked + offset
        if self.by_confidence:
            weight = confidence_weights(moved, weight > 0, exclusive=self.exclusive)
        return (weight * moved).sum(dim=0)

    def _logits(self, view: Tensor) -> Tensor:
        logits: Tensor = self.collect(torch.cat([member(view) for member in self.networks], dim=1))
        return self.combine(logits.chunk(len(self.members), dim=1))


LEAST_ENTROPY = 1e-4


def confidence_weights(
    logits: Tensor, answers: Tensor | None = None, *, exclusive: bool = False
) -> Tensor:
    """Return weights of members for each sample: the surer a member, the more it weighs.

    weight_m = (1 / H_m) / sum_n (1 / H_n), H the entropy in nats of the member's Bernoulli
    probability sigmoid(z_m), or of its softmax, at least `LEAST_ENTROPY`. Kwon et al. 2020
    ("Adaptive knowledge distillation based on entropy") give labels of lower entropy more weight.

    Args:
        logits: [M, B, K] of M members, on one scale.
        answers: [M, 1, K] whether a member answers a label; None: all do. Others weigh 0.
        exclusive: the K labels are classes of one softmax, and a member has one weight for all.

    Returns:
        [M, B, K]; the weights of a sample add up to 1.

    Example:
        >>> weights = confidence_weights(torch.tensor([[[0.0]], [[4.0]]]))
        >>> [round(weight, 2) for weight in weights.flatten().tolist()]
        [0.12, 0.88]
    """
    if exclusive:
        log_p = F.log_softmax(logits, dim=-1)
        entropy = -(log_p.exp() * log_p).sum(dim=-1, keepdim=True).expand_as(logits)
    else:
        p = torch.sigmoid(logits)
        entropy = -(p * F.logsigmoid(logits) + (1 - p) * F.logsigmoid(-logits))
    sure = 1 / entropy.clamp(min=LEAST_ENTROPY)
    if answers is not None:
        sure = sure * answers
    return sure / sure.sum(dim=0)
