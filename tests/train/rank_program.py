"""Run by `torchrun`: compare the gradient of shared batches with that of whole batches.

`python -m torch.distributed.run --nproc-per-node 2 rank_program.py RESULTS.json`
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from medkd.data.sampling import Share
from medkd.train.ranks import ALONE, Ranks, join_ranks
from medkd.train.shared_layers import shared_layers
from medkd.transfer.mutual import MutualObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.table import ALIGNMENTS, NOTHING_WITH_TWO_CLASSES, TERMS
from medkd.types import PatchBatch
from tests.contracts import TinyNet, paired_batch, tiny_batch, tiny_objective
from tests.transfer import test_point_terms as points

MAPS = {"student_layer": "conv", "teacher_layer": "conv"}
EXAMPLES: dict[str, dict[str, object]] = {"hint": MAPS, "attention": MAPS, "feature_kl": MAPS}
Case = tuple[str, nn.Module, PatchBatch]


def cases() -> Iterator[Case]:
    """Yield every term and alignment, mutual learning, dropout, and batches of odd sizes."""
    for kind, its in TERMS.items():
        if its.settings.compares == "points":
            yield kind, points.objective_of({"kind": kind}), points.a_batch()
            continue
        several = kind in NOTHING_WITH_TWO_CLASSES
        labels = 3 if several else 1
        settings = TransferSettings.model_validate(
            {
                "terms": [{"kind": kind, **EXAMPLES.get(kind, {})}],
                "outputs": "exclusive" if several else "independent",
            }
        )
        objective = tiny_objective(settings, spatial_dims=2, labels=labels)
        objective.prepare([tiny_batch(spatial_dims=2, labels=labels, samples=40)])
        yield kind, objective, tiny_batch(spatial_dims=2, labels=labels, samples=7)
    for kind in ALIGNMENTS:
        settings = TransferSettings.model_validate({"alignment": {"kind": kind}})
        yield kind, tiny_objective(settings, spatial_dims=2), paired_batch(spatial_dims=2)
    batch = tiny_batch(spatial_dims=2, samples=5)
    known = torch.tensor([[True], [True], [False], [False], [False]])
    unlabelled = replace(batch, label_known=known, view_number=(4, 3, 2, 1, 0))
    networks = [TinyNet(width=4, seed=seed, spatial_dims=2) for seed in (0, 1)]
    own, peers = networks[0], networks[1:]
    mutual = MutualObjective(own, peers, TransferSettings(), weight=1.0, temperature=1.0)
    yield "mutual", mutual, unlabelled
    plain = tiny_objective(TransferSettings(), spatial_dims=2)
    plain.student.pool.append(nn.Dropout(0.4))
    yield "known labels in one share", copy.deepcopy(plain), unlabelled
    yield "fewer rows than processes", plain, tiny_batch(spatial_dims=2, samples=1)


def in_float64(case: Case) -> Case:
    """Return a case in double precision, so that only the order of sums differs."""
    name, objective, batch = case
    if getattr(objective, "teacher", None) is not None:
        objective.teacher.network.double()
    other = replace(batch.other, image=batch.other.image.double()) if batch.other else None
    batch = replace(batch, image=batch.image.double(), other=other)
    return name, objective.double(), batch


def share_of(batch: PatchBatch, share: Share) -> PatchBatch:
    """Return the rows of a batch that a loader would load for a process."""
    total = len(batch.label)
    rows = share.rows(total)
    chosen = torch.arange(total)[rows]
    return replace(
        batch,
        image=batch.image[rows],
        label=batch.label[rows],
        label_known=batch.label_known[rows],
        sample_id=batch.sample_id[rows],
        view_number=batch.view_number[rows],
        points=batch.points.select(chosen) if batch.points else None,
        other=share_of(batch.other, share) if batch.other else None,
        whole_rows=total,
    )


def step(objective: nn.Module, batch: PatchBatch, ranks: Ranks) -> dict[str, Tensor]:
    """Return loss, gradients, and what batch norm keeps, after one forward and backward pass."""
    torch.manual_seed(5)
    objective.train()
    batch = ranks.with_all_labels(share_of(batch, ranks.share))
    objective.join = ranks.join
    networks = [objective.student, *getattr(objective, "peers", ())]
    with shared_layers(networks, ranks, len(batch.label)):
        loss = objective(batch, 0.7).loss
    loss.backward()
    ranks.average_gradients(objective.parameters())
    found = {"loss": loss.detach(), "next random number": torch.rand(1)}
    found |= {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return found | {f"buffer {name}": value for name, value in objective.named_buffers()}


def main() -> None:
    """Write the largest relative difference of each case, over all processes."""
    found = {}
    with join_ranks() as ranks:
        for name, objective, batch in map(in_float64, cases()):
            whole = step(copy.deepcopy(objective), batch, ALONE)
            shared = step(objective, batch, ranks)
            assert whole.keys() == shared.keys()
            found[name] = max(
                float((whole[key] - shared[key]).abs().max() / (1e-6 + whole[key].abs().max()))
                for key in whole
            )
        ours = ranks.from_first(found)
        if ranks.is_first:
            Path(sys.argv[1]).write_text(json.dumps(ours))


if __name__ == "__main__":
    main()
