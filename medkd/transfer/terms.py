"""What every transfer term has in common: the base of its settings, and what it may look at.

A term is one file with its settings (a `TermSettings`), its formula, and a module that is built
as `Term(settings, context)` and maps `TermInputs` to its unweighted loss. `table.py` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from medkd.settings import Settings
from medkd.transfer.outputs import Outputs, is_binary
from medkd.transfer.teacher import TeacherOutput

Side = Literal["teacher", "student"]
Compared = Literal["logits", "points", "features"]
"""What a term compares: logits of samples, maps of point detectors, or layers of any network."""


@dataclass(frozen=True, slots=True, eq=False)
class TermContext:
    """What a term is built from: the kind of outputs, and one view's features by layer name.

    From the features a term reads the number of channels of each layer that it compares, and it
    refuses layers that do not match. `label_count` is the number of the student's outputs, K, and 0
    if no term compares layers.
    """

    outputs: Outputs
    teacher_features: Mapping[str, Tensor]
    student_features: Mapping[str, Tensor]
    label_count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class TermInputs:
    """What a term may look at in one batch.

    Logits are [B, K], or maps [B, 5, ...] of point detectors; the teacher's are calibrated and
    detached. Features are the outputs of the compared layers by layer name. `label` is [B, K]
    float, any value where `label_known` [B, K] is false. `cell_mm` is the edge of a cell of a map.
    `progress` is the share of the training that is done, 0..1.
    """

    teacher_logits: Tensor
    student_logits: Tensor
    teacher_features: Mapping[str, Tensor]
    student_features: Mapping[str, Tensor]
    label: Tensor
    label_known: Tensor
    cell_mm: float = 2.0
    progress: float = 0.0


class TermSettings(Settings):
    """The keys of every term, and what a term states about itself before anything is built."""

    teaches_outputs: ClassVar[bool] = False
    """Whether the student's outputs can be learned from this term alone, without hard labels."""

    compares: ClassVar[Compared] = "features"

    least_samples: ClassVar[int] = 1
    """Samples that a batch needs; terms that compare samples with each other need several."""

    kind: str
    weight: float = Field(1.0, gt=0.0, description="factor on this term")

    @property
    def identity(self) -> tuple[object, ...]:
        """Values that no two terms of one objective may share."""
        return (self.kind,)

    @property
    def needs_maps(self) -> bool:
        """Whether the compared layers must have positions, which the pooled embedding has not."""
        return False

    def layers(self, side: Side) -> tuple[str | None, ...]:
        """Name the layers that this term compares; None means the network's pooled embedding."""
        del side
        return ()

    def with_embeddings(self, embeddings: Mapping[Side, str | None]) -> Self:
        """Return these settings with None replaced by each network's own embedding layer."""
        del embeddings
        return self

    def misfits(
        self, outputs: Outputs, *, label_count: int, teacher_label_count: int | None
    ) -> tuple[str, ...]:
        """Return why this term cannot teach these outputs; empty if it can.

        Args:
            outputs: what the student's outputs mean.
            label_count: outputs of the student, K.
            teacher_label_count: outputs of the teacher; None if not known yet.
        """
        del outputs, label_count, teacher_label_count
        return ()


class LogitTermSettings(TermSettings):
    """The keys of a term that compares the logits of samples."""

    compares: ClassVar[Compared] = "logits"

    samples: Literal["all", "labelled"] = Field(
        "all", description="all: samples without a label are taught too"
    )

    def taught(self, label_known: Tensor) -> Tensor | None:
        """Return the labels [B, K] that are taught; None: all of them."""
        return label_known if self.samples == "labelled" else None

    def misfits(
        self, outputs: Outputs, *, label_count: int, teacher_label_count: int | None
    ) -> tuple[str, ...]:
        """Refuse a teacher whose outputs are not the student's; binary is one logit or two."""
        widths = {1, 2} if is_binary(outputs, label_count) else {label_count}
        if teacher_label_count is None or teacher_label_count in widths:
            return ()
        return (
            f"a teacher of {teacher_label_count} outputs cannot teach {label_count} {outputs} "
            "outputs: they do not name the same labels",
        )


class LayerTermSettings(TermSettings):
    """The keys of a term that compares one layer of the teacher with one of the student."""

    teacher_layer: str | None = Field(
        None, description="a name of `medkd layers`; null: the pooled embedding"
    )
    student_layer: str | None = Field(
        None, description="a name of `medkd layers`; null: the pooled embedding"
    )

    @property
    def identity(self) -> tuple[object, ...]:
        """The kind and its two layers."""
        return (self.kind, self.teacher_layer, self.student_layer)

    def layers(self, side: Side) -> tuple[str | None, ...]:
        """Return the one layer of that side."""
        return (self.teacher_layer if side == "teacher" else self.student_layer,)

    def with_embeddings(self, embeddings: Mapping[Side, str | None]) -> Self:
        """Return these settings with both layers named, as far as the networks name theirs."""
        named = {f"{side}_layer": self.layers(side)[0] or own for side, own in embeddings.items()}
        return self.model_copy(update=named)

    def features(self, seen: TermContext | TermInputs) -> tuple[Tensor, Tensor]:
        """Return the outputs of the teacher's and of the student's layer."""
        teacher = seen.teacher_features[str(self.teacher_layer)]
        return teacher, seen.student_features[str(self.student_layer)]


class LayerTerm(nn.Module):
    """A term that is a loss of two layers and has no parts of its own.

    Args:
        settings: they name the two layers.
        loss: maps the outputs of the teacher's and of the student's layer to the unweighted loss.
    """

    def __init__(
        self, settings: LayerTermSettings, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.settings = settings
        self.loss = loss

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        return self.loss(*self.settings.features(inputs))


class PreparedTerm(nn.Module):
    """A term that looks at the teacher's answers to the training samples before the training."""

    is_prepared = False

    def observe(self, answer: TeacherOutput, label: Tensor, known: Tensor) -> None:
        """Look at one batch.

        Args:
            answer: the teacher's logits and features.
            label: [B, K] float, any value where it is not known.
            known: [B, K] bool.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Prepare the term from all batches seen."""
        raise NotImplementedError
