"""The loss on the data's own labels; it is part of every objective and no transfer term."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor

from medkd.settings import Settings
from medkd.transfer.outputs import Outputs, at_least_float32, mean_over_known


class HardLabelSettings(Settings):
    """The loss on the data's own labels."""

    weight: float = Field(
        1.0,
        ge=0.0,
        description="factor on this loss; 0: the student learns from the teacher alone, and its "
        "control from the labels with weight 1",
    )
    smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of each label given to the other classes"
    )
    class_balanced: bool = Field(
        False, description="weight classes by the inverse of their share in the training data"
    )


def hard_label_loss(
    logits: Tensor,
    label: Tensor,
    *,
    outputs: Outputs,
    known: Tensor,
    smoothing: float = 0.0,
    positive_share: Tensor | None = None,
) -> Tensor:
    """Cross-entropy with the data's labels, averaged over the labels that are known.

    independent:  mean_nk w [-y log p - (1 - y) log(1 - p)],  p = sigmoid(z)
    exclusive:    mean_n  w [-sum_k y_k log p_k],             p = softmax(z)

    y is smoothed: (1 - smoothing) y + smoothing / classes. With `positive_share` w is
    1 / (classes * share of the sample's class), else 1.

    Args:
        logits: [B, K].
        label: [B, K] float in 0..1; exclusive: one-hot, or [B, 1] for two outputs.
        outputs: what the K outputs mean.
        known: bool, the shape of `label`; a label that is not known may have any value, even NaN.
        smoothing: 0..1.
        positive_share: [K] share of positives of each label in the training data, 0..1, or None.

    Returns:
        Scalar >= 0; 0 if nothing is known.
    """
    z = at_least_float32(logits)
    y = torch.where(known, label, torch.zeros_like(label)).to(z.dtype)
    share = None if positive_share is None else positive_share.to(z)
    if outputs == "exclusive" and z.shape[1] > 1:
        if y.shape[1] == 1:
            y = torch.cat([1 - y, y], dim=1)
            share = None if share is None else torch.cat([1 - share, share])
        weight = 1.0 if share is None else (y / (y.shape[1] * share)).sum(dim=1, keepdim=True)
        smooth = (1 - smoothing) * y + smoothing / y.shape[1]
        entropy = -(smooth * F.log_softmax(z, dim=1)).sum(dim=1, keepdim=True)
        return mean_over_known(weight * entropy, known)
    weight = 1.0 if share is None else y / (2 * share) + (1 - y) / (2 * (1 - share))
    smooth = (1 - smoothing) * y + smoothing / 2
    entropy = F.binary_cross_entropy_with_logits(z, smooth, reduction="none")
    return mean_over_known(weight * entropy, known)
