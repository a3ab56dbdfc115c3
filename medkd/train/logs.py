"""The log of a training: per epoch one CSV row and TensorBoard events.

Columns of `log.csv`: `epoch` (from 1), `seconds`, `learning_rate` (at the end of the epoch),
`train_loss`, `term_<name>` (unweighted mean of each term over the epoch), `val_roc_auc`,
`val_pr_auc`, `val_loss`, `best` (1 if the weights of this epoch were kept at that time).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from medkd.files import write_text
from medkd.train.state import Scores

Progress = Callable[[str, int, int, str], None]
"""Called with (what is done, done, total, note).

The first ends with the counted things in the plural: "teacher: training steps". A total of 0 means
unknown.
"""

EpochHook = Callable[[str, int, Scores], None]
"""Called after every epoch with (name of the arm, epochs finished, validation scores).

It may end the training by an exception; the state of the epoch is already saved.
"""


def no_hook(_arm: str, _epoch: int, _scores: Scores) -> None:
    """Do nothing."""


def no_progress(_what: str, _done: int, _total: int, _note: str = "") -> None:
    """Report nothing."""


class TrainingLog:
    """`log.csv` and `events/` of one arm.

    Args:
        folder: RUN/training/<arm>.
        history: rows of the epochs finished before; later events are deleted.
    """

    def __init__(self, folder: Path, history: Sequence[Scores] = ()) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.folder = folder
        if history:  # the process may have been killed between writing the state and the row
            write_text(folder / "log.csv", _as_csv(history))
        self._events = SummaryWriter(str(folder / "events"), purge_step=len(history) + 1)
        self.close = self._events.close

    def write(self, history: Sequence[Scores]) -> None:
        """Rewrite the CSV and add the last row as events."""
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
    writer.writerows({name: _as_text(value) for name, value in row.items()} for row in history)
    return stream.getvalue()


def _as_text(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else f"{value:.6g}"
