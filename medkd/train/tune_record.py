"""The record of `medkd tune`: the trials as a table, and the best configuration as YAML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medkd.config.tune_settings import TunedSettings
from medkd.files import write_text
from medkd.train.search_space import Values, with_values


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial. `state` is complete, pruned, failed, stopped (cut off) or running.

    `score` is None if there is none; that of a pruned trial is its last one.
    """

    number: int
    state: str
    values: dict[str, Any]
    score: float | None
    seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class TuneResult:
    """A search so far. `importance` is empty if there are too few trials or keys to tell."""

    study: str
    metric: str
    arm: str
    rows: tuple[TrialRow, ...]
    best: TrialRow | None
    importance: dict[str, float] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """Number of trials with a score on validation."""
        return sum(row.state in ("complete", "pruned") for row in self.rows)

    def is_telling(self, fewest: int) -> bool:
        """Return whether the importance of keys can be computed: enough trials, and two keys."""
        complete = [row for row in self.rows if row.state == "complete"]
        return len(complete) >= fewest and len(complete[0].values) > 1

    def lines(self) -> Iterator[str]:
        """Yield the lines that the command prints: counts, best values, importance."""
        states = [row.state for row in self.rows]
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        yield f"{len(self.rows)} trials: {counts}"
        if self.best is None or self.best.score is None:
            return
        number, score = self.best.number, self.best.score
        yield f"best {self.metric} of the {self.arm} on validation: {score:.4f} (trial {number})"
        for key, value in self.best.values.items():
            share = self.importance.get(key)
            yield f"  {key}: {_cell(value)}" + (
                "" if share is None else f"  (importance {share:.2f})"
            )


def write_result(result: TuneResult, folder: Path, values: Values) -> None:
    """Write `trials.csv` and, if a trial succeeded, `best.yaml`.

    Args:
        result: the search so far.
        folder: folder of the search.
        values: plain values of the settings of the search.
    """
    write_text(folder / "trials.csv", _table(result))
    if result.best is None:
        return
    tuned = TunedSettings(trials=result.scored, metric=result.metric, study=result.study)
    best = with_values(values, result.best.values) | {"tuned": tuned.model_dump(mode="json")}
    del best["tune"]
    text = yaml.safe_dump(best, sort_keys=False, allow_unicode=True)
    write_text(folder / "best.yaml", f"# Chosen by medkd tune on validation.\n{text}")


def _table(result: TuneResult) -> str:
    keys = list(dict.fromkeys(key for row in result.rows for key in row.values))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["number", "state", *keys, "score", "seconds", "reason"])
    for row in result.rows:
        cells = [_cell(row.values[key]) if key in row.values else "" for key in keys]
        score = "" if row.score is None else row.score
        seconds = "" if row.seconds is None else row.seconds
        writer.writerow([row.number, row.state, *cells, score, seconds, row.reason])
    return stream.getvalue()


def _cell(value: Any) -> str:  # noqa: ANN401  # plain YAML values
    return value if isinstance(value, str) else json.dumps(value)
