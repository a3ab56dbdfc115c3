"""What a training writes while it runs: a CSV row and TensorBoard events an epoch.

Columns of `log.csv`: `epoch` (from 1), `seconds`, `learning_rate` (at the epoch's end),
`train_loss`, `term_<name>` (mean value of each term over the epoch, before its weight),
`val_roc_auc`, `val_pr_auc`, `val_loss`, `best` (1 where the kept weights come from so far).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from medkd.files import write_text
from medkd.train.state import Scores

Progress = Callable[[str, int, int, str], None]
"""Called as (what is being done, done, in all, a few words).

The first ends with what is counted, in the plural: "teacher: training steps". In all 0: not known.
"""


def no_progress(_what: str, _done: int, _total: int, _note: str = "") -> None:
    """Say nothing."""


class TrainingLog:
    """`log.csv` and `events/` of one arm; a context manager.

    Args:
        folder: RUN/training/<arm>.
        history: rows of the epochs that were finished before; events after them are dropped.
    """

    def __init__(self, folder: Path, history: Sequence[Scores] = ()) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.folder = folder
        if history:  # a kill may have come between the state and its row
            write_text(folder / "log.csv", _as_csv(history))
        self._events = SummaryWriter(str(folder / "events"), purge_step=len(history) + 1)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._events.close()

    def write(self, history: Sequence[Scores]) -> None:
        """Write the whole CSV anew and the last row as events."""
        write_text(self.folder / "log.csv", _as_csv(history))
        row = history[-1]
        for name, value in row.items():
            if name != "epoch":
                self._events.add_scalar(name, value, int(row["epoch"]))
        self._events.flush()


def _as_csv(history: Sequence[Scores]) -> str:
    columns = list(dict.fromkeys(name for row in history for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in history:
        writer.writerow({name: _as_text(value) for name, value in row.items()})
    return stream.getvalue()


def _as_text(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else f"{value:.6g}"
