"""The keys of a teacher that make it fit the target domain, without labels of the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from medkd.models.network import NetworkSettings
from medkd.settings import Settings
from medkd.transfer.settings import POINTS_NOT_ALIGNED
from medkd.transfer.table import AnyAlignmentSettings


class AdaptationSettings(Settings):
    """Alignment during the training, and adaptation after it."""

    alignment: AnyAlignmentSettings | None = Field(
        None,
        description="Makes the features of source and target alike during the training, without "
        "labels of the target; null: not aligned.",
    )
    adapt: Literal["batch_norm", "embedding"] | None = Field(
        None,
        description="Adapts the finished teacher to the target, without its labels. batch_norm: "
        "statistics of batch norm from its training samples; embedding: each channel of the "
        "embedding gets the mean and SD that it has on the source; null: not adapted.",
    )

    def unfit_for_given(self) -> str:
        """Return why a network that is not trained in the run cannot be adapted; empty if it can.

        Its source domain is not part of the run.
        """
        if self.alignment is not None:
            return (
                "alignment needs model: a network given by from is not trained; adapt: batch_norm "
                "adapts it to the target"
            )
        if self.adapt == "embedding":
            return (
                "adapt: embedding needs model and source: mean and SD of the source are not known "
                "for a network given by from; use batch_norm"
            )
        return ""

    def misfits(
        self, model: NetworkSettings, *, batch_size: int, two_domains: bool
    ) -> Iterator[str]:
        """Yield why a network that is trained in the run cannot be aligned or adapted.

        Args:
            model: the network.
            batch_size: samples per forward pass.
            two_domains: whether source and target are two domains.
        """
        if self.alignment is not None:
            yield from self.alignment.misfits(batch_size)
            yield from [POINTS_NOT_ALIGNED] if model.finds_points else []
        if self.adapt is not None and model.finds_points:
            yield f"adapt: {self.adapt} is for classifiers, the teacher is a point detector"
        for key in ("alignment", "adapt"):
            if getattr(self, key) is not None and not two_domains:
                yield f"{key}: it needs two domains, but source is null: give source"
