"""The alignment `dann`: a discriminator cannot distinguish the features of the two domains.

The discriminator belongs to the alignment and is discarded after training.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor, nn

from medkd.transfer.adversarial import build_discriminator, reverse_gradient
from medkd.transfer.alignment import AlignmentSettings, domain_vectors


class DannSettings(AlignmentSettings):
    """A discriminator of domains, trained against the network by a reversed gradient."""

    kind: Literal["dann"] = "dann"
    hidden: int = Field(32, ge=1, le=1024, description="width of the discriminator's hidden layer")


class DannAlignment(nn.Module):
    """`domain_loss` with the discriminator that it trains.

    Args:
        settings: width of the discriminator.
        width: channels of the features.
    """

    def __init__(self, settings: DannSettings, width: int) -> None:
        super().__init__()
        self.discriminator = build_discriminator(width, settings.hidden)

    def forward(self, own: Tensor, other: Tensor, progress: float) -> Tensor:
        """Return the unweighted loss."""
        reversal = reversal_at(progress)
        return domain_loss(own, other, discriminator=self.discriminator, reversal=reversal)


def domain_loss(own: Tensor, other: Tensor, *, discriminator: nn.Module, reversal: float) -> Tensor:
    """Cross-entropy of a discriminator of domains (Ganin et al. 2016, 1505.07818, section 4.2).

    1/2 [mean_n -log sigmoid(D(x_n)) + mean_n -log(1 - sigmoid(D(y_n)))]

    Minimising it trains D to distinguish own samples x from those of the other domain y. The
    gradient that reaches x and y is multiplied by -reversal: the same step trains the network to
    make them alike. Features are averaged over space. Features that D cannot distinguish give
    ln 2, not 0.

    Args:
        own: [B, C, *spatial].
        other: [N, C, *spatial].
        discriminator: maps [B, C] to a logit [B, 1].
        reversal: factor >= 0.

    Returns:
        Scalar >= 0.
    """
    first, second = (reverse_gradient(rows, reversal) for rows in domain_vectors(own, other))
    of_own, of_other = discriminator(first).float(), discriminator(second).float()
    return (F.softplus(-of_own).mean() + F.softplus(of_other).mean()) / 2


def reversal_at(progress: float) -> float:
    """Return the factor on the reversed gradient, 2 / (1 + exp(-10 p)) - 1 at progress p.

    It rises from 0 to nearly 1: the discriminator learns before it counts (Ganin and Lempitsky
    2015, 1409.7495, section 4).

    Example:
        >>> [round(reversal_at(p), 3) for p in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.462, 0.987, 1.0]
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1
