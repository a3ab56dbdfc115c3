"""Several processes (ranks) that train one network together, started by `torchrun`.

The first process (rank 0) runs the whole program and alone writes the RUN. The others wait for its
orders and compute their share of every training step. `Ranks` has what both sides need; of a
training in one process, `ALONE`, every method returns its argument.

The loss is that of the whole batch on every process: outputs of networks are joined before the
losses are computed, so terms that compare samples with each other see all of them. The gradient of
`join` is summed over the processes, and the gradients of the parameters are then averaged, which
gives the gradient of a single process for every parameter.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor, nn

from medkd.data.sampling import Share
from medkd.errors import OtherProcessError
from medkd.processes import launched
from medkd.transfer.outputs import at_least_float32
from medkd.types import ABSENT, PatchBatch, Points

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

_LONGEST_WAIT = timedelta(days=30)
"""How long processes wait for the first one, which evaluates whole scans between two trainings."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The place of this process among those that train together.

    Args:
        share: number of this process, and of all.
        messages: the group through which the first process sends its orders.
    """

    share: Share
    messages: dist.ProcessGroup | None = None

    @property
    def count(self) -> int:
        """The number of processes."""
        return self.share.ranks

    @property
    def is_first(self) -> bool:
        """Whether this process leads."""
        return self.share.rank == 0

    def from_first(self, value: Value) -> Value:
        """Return the value of the first process, on every process.

        Args:
            value: what the first process sends; that of other processes is not used.

        Raises:
            OtherProcessError: if another process has ended.
        """
        if self.count == 1:
            return value
        values: list[Any] = [value if self.is_first else None]
        with _connected():
            dist.broadcast_object_list(values, src=0, group=self.messages)
        found: Value = values[0]
        return found

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Run a block on the first process, then on the others, which find what it has written."""
        if not self.is_first:
            self.from_first(None)
        yield
        if self.is_first:
            self.from_first(None)

    def join(self, rows: Tensor, total: int) -> Tensor:
        """Return the rows of all processes in the order of the batch, with gradient.

        Args:
            rows: [b, ...] of this process; [total, ...] is returned as it is.
            total: rows of the whole batch.
        """
        return rows if len(rows) == total else join_rows(rows, _sizes(total, self.count))

    def with_all_labels(self, batch: PatchBatch) -> PatchBatch:
        """Return a share of a batch with labels, points and names of the whole batch.

        Args:
            batch: `image` stays that of this process. A batch that is not divided is returned as
                it is.
        """
        if batch.whole_rows is None or batch.whole_rows == len(batch.image):
            return batch
        own = batch.to(torch.device("cpu"))
        sent = (own.label, own.label_known, own.sample_id, own.view_number, own.points)
        parts: list[Any] = [None] * self.count
        with _connected():
            dist.all_gather_object(parts, sent, group=self.messages)
        labels, known, names, views, points = zip(*parts, strict=True)
        device = batch.image.device
        return replace(
            batch,
            label=torch.cat(labels).to(device),
            label_known=torch.cat(known).to(device),
            sample_id=tuple(name for part in names for name in part),
            view_number=tuple(view for part in views for view in part),
            points=_join_points(points).to(device) if own.points else None,
            other=self.with_all_labels(batch.other) if batch.other else None,
        )

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their means over the processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _connected():
            dist.all_reduce(flat)
        means = torch.split(flat / self.count, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))


ALONE = Ranks(Share())
"""The only process of a training."""


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Connect the processes that `torchrun` has started; `ALONE` if there is one process.

    After an error the connections are closed, by which the other processes notice it and end.

    Raises:
        OtherProcessError: if a process does not arrive.
    """
    here = launched()
    if here.count == 1:
        yield ALONE
        return
    with _connected():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        messages = dist.new_group(backend="gloo", timeout=_LONGEST_WAIT)
    if not isinstance(messages, dist.ProcessGroup):
        raise TypeError("this process is not in the group of all processes")
    finished = False
    try:
        yield Ranks(Share(here.rank, here.count), messages)
        finished = True
    finally:
        # After an error NCCL would wait for work of the others; the end of this process ends them.
        if finished or not torch.cuda.is_available():
            dist.destroy_process_group()


def missing_gpus() -> str:
    """Return why the processes of this machine cannot have a GPU each; empty if they can."""
    wanted, found = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if wanted <= found:
        return ""
    return (
        f"{wanted} processes on this machine need a GPU each, but it has {found}: use torchrun "
        f"--nproc-per-node {found}"
    )


def join_rows(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Join rows of all processes; the gradients that all of them have for a row are summed.

    Args:
        rows: [b, ...] of this process.
        sizes: b of each process.
    """
    joined: Tensor = _JoinRows.apply(rows, tuple(sizes))
    return joined


class _JoinRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...]) -> Tensor:  # noqa: ANN401  # torch
        rank = dist.get_rank()
        ctx.first, ctx.size = sum(sizes[:rank]), sizes[rank]
        sent = _sendable(rows.detach())
        padding = (0, 0) * (sent.ndim - 1) + (0, max(sizes) - len(sent))
        sent = F.pad(sent, padding)
        parts = [torch.empty_like(sent) for _ in sizes]
        with _connected():
            dist.all_gather(parts, sent)
        return torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)]).to(rows.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401  # torch
        total = _sendable(gradients[0]).clone()
        with _connected():
            dist.all_reduce(total)
        own = total[ctx.first : ctx.first + ctx.size]
        return own.to(gradients[0].dtype), None


def _sendable(rows: Tensor) -> Tensor:
    """Return rows in an order and a precision that every backend can send, without rounding."""
    return at_least_float32(rows).contiguous()


def _sizes(total: int, count: int) -> list[int]:
    shares = [Share(rank, count).rows(total) for rank in range(count)]
    return [rows.stop - rows.start for rows in shares]


def _join_points(parts: Sequence[Points]) -> Points:
    """Join the findings of several views, filled up with absent rows as `join_findings` does."""
    most = max(part.kind.shape[1] for part in parts)
    missing = [most - part.kind.shape[1] for part in parts]
    padded = list(zip(parts, missing, strict=True))
    return Points(
        torch.cat([F.pad(part.center_vox, (0, 0, 0, n)) for part, n in padded]),
        torch.cat([F.pad(part.diameter_mm, (0, n), value=-1.0) for part, n in padded]),
        torch.cat([F.pad(part.kind, (0, n), value=ABSENT) for part, n in padded]),
    )


@contextmanager
def _connected() -> Iterator[None]:
    """Convert the errors by which torch reports a lost process."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ConnectionError) as error:
        logger.info("torch reports a lost process: %s", error)
        raise OtherProcessError(
            "another process of this training has ended",
            [
                "its own message, above or in the log of its machine, says why",
                "finished epochs are kept: continue with --resume",
                "medkd -v train shows what torch reports",
            ],
        ) from error
