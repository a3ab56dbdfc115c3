"""The term `adversarial`: a discriminator tries to tell the student's features from the teacher's.

Projector and discriminator belong to this term and are discarded after training.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.transfer.features import Projector, check_direction, direction, vectors
from medkd.transfer.outputs import at_least_float32
from medkd.transfer.terms import LayerTermSettings, TermContext, TermInputs


class AdversarialSettings(LayerTermSettings):
    """The student's embedding comes to look like the teacher's to a discriminator."""

    kind: Literal["adversarial"] = "adversarial"
    hidden: int = Field(32, ge=1, le=1024, description="width of the discriminator's hidden layer")
    reversal: float = Field(
        1.0, gt=0.0, description="factor on the reversed gradient that reaches the student"
    )
    normalise: bool = Field(True, description="compare directions, not lengths, of embeddings")


class AdversarialTerm(nn.Module):
    """`adversarial_loss` between two layers, with the projector and discriminator it trains."""

    def __init__(self, settings: AdversarialSettings, context: TermContext) -> None:
        super().__init__()
        self.settings = settings
        teacher, student = settings.features(context)
        width = teacher.shape[1]
        if settings.normalise:
            check_direction(width)
        self.projector = Projector(student.shape[1], width)
        self.discriminator = build_discriminator(width, settings.hidden)

    def forward(self, inputs: TermInputs) -> Tensor:
        """Return the unweighted loss."""
        teacher, student = vectors(*self.settings.features(inputs))
        student = at_least_float32(self.projector(student))
        if self.settings.normalise:
            teacher, student = direction(teacher), direction(student)
        return adversarial_loss(
            teacher, student, discriminator=self.discriminator, reversal=self.settings.reversal
        )


def adversarial_loss(
    teacher: Tensor, student: Tensor, *, discriminator: nn.Module, reversal: float
) -> Tensor:
    """Cross-entropy of a discriminator (Goodfellow et al. 2014, 1406.2661, equation 1).

    1/2 mean_n [-log sigmoid(D(t)) - log(1 - sigmoid(D(s)))]

    Minimising it trains D to tell teacher t from student s. The gradient that reaches s is
    multiplied by -reversal (gradient reversal: Ganin et al. 2016, 1505.07818, section 4.2): the
    same step trains the student to be classified as the teacher. The teacher is detached. Equal
    features give ln 2 at best and not 0, because D can only guess.

    Args:
        teacher: [B, C].
        student: [B, C].
        discriminator: maps [B, C] to a logit [B, 1].
        reversal: factor > 0.

    Returns:
        Scalar >= 0.
    """
    of_teacher = discriminator(teacher.detach()).float()
    of_student = discriminator(reverse_gradient(student, reversal)).float()
    return (F.softplus(-of_teacher) + F.softplus(of_student)).mean() / 2


def build_discriminator(width: int, hidden: int) -> nn.Sequential:
    """Build a network with one hidden layer that maps features [B, width] to a logit [B, 1]."""
    return nn.Sequential(nn.Linear(width, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))


def reverse_gradient(value: Tensor, factor: float) -> Tensor:
    """Return the value itself, whose gradient is multiplied by -factor."""
    return (value + factor * value).detach() - factor * value
