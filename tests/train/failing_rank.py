"""Run by `torchrun`: the command line, in which the last process fails in the student's training.

`python -m torch.distributed.run --nproc-per-node 2 failing_rank.py train CONFIG --out RUN`
"""

from __future__ import annotations

from collections.abc import Iterator

from medkd.cli import main
from medkd.errors import SeriesError
from medkd.processes import launched
from medkd.train.engine import Engine
from medkd.types import PatchBatch

whole = Engine.views


def views(self: Engine, batches: object, view: object) -> Iterator[PatchBatch]:
    """Yield the batches of an epoch; the second one of the student's second epoch is broken."""
    second = 1 * self.steps_per_epoch + 1
    for batch in whole(self, batches, view):
        if self.title == "student" and self.step == second and launched().rank == 1:
            raise SeriesError("scan-7: the file is broken", ["copy it again"])
        yield batch


if __name__ == "__main__":
    Engine.views = views
    main()
