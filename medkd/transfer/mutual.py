"""Several networks that are trained together, each on the labels and on the others' outputs.

Deep mutual learning (Zhang et al. 2018, 1706.00384). No network is finished before the others, so
there is no frozen teacher. The others' outputs are detached, so each network follows its own loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from medkd.transfer.hard_labels import hard_label_loss
from medkd.transfer.objective import TransferOutput, check_objective
from medkd.transfer.outputs import Outputs
from medkd.transfer.settings import TransferSettings
from medkd.transfer.soft_labels import soft_label_loss
from medkd.transfer.taps import Join, own_rows
from medkd.types import PatchBatch


class MutualObjective(nn.Module):
    """A student and its peers, and the losses that train all of them.

    The loss is the sum over the networks i of L_i = L_labels(i) + weight * D_i, see
    `mutual_divergences`: Zhang et al. 2018 (1706.00384), eq. 4 and 5 for two networks, eq. 6 for
    more. The article updates the networks in turn; here all are updated in one step, from the
    outputs before it.

    Args:
        student: the network that is validated and saved; a submodule.
        peers: the networks that are trained with it; submodules, which are not saved.
        settings: labels and schedule, without terms.
        weight: of the divergences.
        temperature: T > 0 of the divergences; 1 in the article.
        positive_share: as for `TransferObjective`.

    Raises:
        SettingsError: with every reason why a network cannot be trained like this.

    Example:
        >>> networks = [nn.Sequential(nn.Flatten(), nn.Linear(4, 1)) for _ in range(2)]
        >>> objective = MutualObjective(
        ...     networks[0], networks[1:], TransferSettings(), weight=1.0, temperature=1.0
        ... )
        >>> image, label = torch.rand(3, 1, 2, 2), torch.ones(3, 1)
        >>> batch = PatchBatch(image, label, label.bool(), ("a", "b", "c"))
        >>> sorted(objective(batch, progress=0.0).terms)
        ['hard_label', 'hard_label_peer_1', 'mutual', 'mutual_peer_1']
    """

    def __init__(
        self,
        student: nn.Module,
        peers: Sequence[nn.Module],
        settings: TransferSettings,
        *,
        weight: float,
        temperature: float,
        positive_share: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for network in (student, *peers):
            check_objective(settings, network, None, positive_share=positive_share)
        self.student = student
        self.join: Join = own_rows
        self.peers = nn.ModuleList(peers)
        self.settings = settings
        self.weight = weight
        self.temperature = temperature
        balanced = settings.hard_label.class_balanced and positive_share is not None
        self._share = torch.tensor(positive_share) if balanced else None

    def forward(self, batch: PatchBatch, progress: float) -> TransferOutput:
        """Run all networks on the same views and sum their losses.

        Args:
            batch: views and labels; samples without label are learned from the others alone.
            progress: share of training done, 0..1, which sets the weight of the divergences.
        """
        total = len(batch.label)
        networks = (self.student, *self.peers)
        logits = [self.join(network(batch.image), total) for network in networks]
        outputs = self.settings.outputs
        pulls = mutual_divergences(logits, outputs=outputs, temperature=self.temperature)
        factor = self.weight * self.settings.schedule.factor(progress)
        losses: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        for number, (own, pull) in enumerate(zip(logits, pulls, strict=True)):
            suffix = f"_peer_{number}" if number else ""
            losses[f"hard_label{suffix}"] = self._label_loss(own, batch)
            weights[f"hard_label{suffix}"] = self.settings.hard_label.weight
            losses[f"mutual{suffix}"], weights[f"mutual{suffix}"] = pull, factor
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        return TransferOutput(loss, {k: v.detach() for k, v in losses.items()}, weights, logits[0])

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters to optimise: those of the student and of its peers."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)

    def _label_loss(self, logits: Tensor, batch: PatchBatch) -> Tensor:
        return hard_label_loss(
            logits,
            batch.label,
            outputs=self.settings.outputs,
            known=batch.label_known,
            smoothing=self.settings.hard_label.smoothing,
            positive_share=self._share,
        )


def mutual_divergences(
    logits: Sequence[Tensor], *, outputs: Outputs, temperature: float
) -> list[Tensor]:
    """Return how far each network is from the others: D_i = mean over j != i of KL(p_j || p_i).

    Zhang et al. 2018 (1706.00384), eq. 4 to 6, with the divergence of `soft_label_loss`, which is
    scaled by T^2. p_j is detached: D_i moves network i alone.

    Args:
        logits: [B, K] of each of at least two networks.
        outputs: what the K outputs mean.
        temperature: T > 0.
    """
    return [
        torch.stack(
            [
                soft_label_loss(other, own, outputs=outputs, temperature=temperature)
                for j, other in enumerate(logits)
                if j != i
            ]
        ).mean()
        for i, own in enumerate(logits)
    ]
