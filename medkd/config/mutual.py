"""What an arm learns: transfer from a finished teacher, or training together with other networks.

Terms are defined in `medkd.transfer` and networks in `medkd.models`; here both are known.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, model_validator

from medkd.models.probe import ProbeSettings
from medkd.models.table import ModelSettings
from medkd.settings import Settings
from medkd.transfer.settings import TransferSettings


class MutualSettings(Settings):
    """Networks that are trained with the student (Zhang et al. 2018, 1706.00384).

    Each learns from the labels and from the outputs of the others.
    """

    models: tuple[ModelSettings, ...] = Field(
        min_length=1,
        description="The networks trained with the student, of any size; they are not saved.",
    )
    weight: float = Field(1.0, gt=0, description="Factor on the divergence from the others.")
    temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Softens the outputs; its square scales the loss.",
    )


class ArmTransferSettings(TransferSettings):
    """What an arm learns beside its labels: terms of a finished teacher, or mutual learning."""

    mutual: MutualSettings | None = Field(
        None,
        description="Networks that are trained with the student, instead of terms of a finished "
        "teacher.",
    )

    @model_validator(mode="after")
    def _mutual_fits(self) -> ArmTransferSettings:
        if reasons := list(self._mutual_misfits()):
            raise ValueError("; ".join(reasons))
        return self

    @property
    def needs_no_teacher(self) -> bool:
        """Whether it is mutual, or only aligned: something is transferred without a teacher."""
        return self.mutual is not None or (self.alignment is not None and not self.terms)

    def _mutual_misfits(self) -> Iterator[str]:
        if self.mutual is None:
            return
        if self.terms:
            named = ", ".join(term.kind for term in self.terms)
            yield (
                f"mutual compares outputs of networks in training, but {named} need a finished "
                "teacher: leave out terms, or use an arm for each"
            )
        if self.targets.mode == "stored":
            yield "mutual: outputs of networks in training cannot be stored: use targets.mode: live"
        if self.only_if_better:
            yield "mutual: only_if_better needs a finished teacher"
        for model in self.mutual.models:
            if model.finds_points:
                yield "mutual.models: a point detector has maps, and mutual compares logits"
            if isinstance(model, ProbeSettings):
                yield "mutual.models: a probe is fitted and cannot be trained with the student"
