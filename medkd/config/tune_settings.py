"""Settings of `medkd tune`: the keys to search, and how a trial is scored."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from medkd.settings import Settings

MAX_KEYS = 12
"""With more keys, the number of trials that people can wait for says little about each of them."""


class SearchRange(Settings):
    """The values of one key that are tried: numbers from low to high, or one of some choices."""

    low: int | float | None = Field(
        None, description="Least number; integers are tried if both ends are integers (1, not 1.0)."
    )
    high: int | float | None = Field(None, description="Greatest number.")
    log: bool = Field(
        False, description="Numbers are drawn on a logarithmic scale, as for learning rates."
    )
    choices: tuple[Any, ...] = Field(
        (),
        description="Values to choose from, in place of low and high; a value may be a whole "
        "section, for example a network. Paths are relative to the current folder.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> SearchRange:
        ends = (self.low, self.high)
        if self.choices:
            if ends != (None, None) or self.log:
                raise ValueError("give either choices, or low and high (with log, if wanted)")
            if len({repr(choice) for choice in self.choices}) < max(2, len(self.choices)):
                raise ValueError("choices: expected at least two different values, each once")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"expected low below high, got low {self.low} and high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: true needs low above 0, got {self.low}")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether only integers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class TuneSettings(Settings):
    """A search of settings. Each trial trains with changed settings and is scored on validation."""

    trials: int = Field(
        20, ge=1, description="Trials, including pruned and failed ones; may grow with --resume."
    )
    metric: Literal["roc_auc", "pr_auc", "loss"] = Field(
        "roc_auc",
        description="Score on validation. loss: the log loss of logits before calibration, with "
        "equal weight of both classes; the lowest is best.",
    )
    arm: Literal["student", "control", "teacher"] = Field(
        "student", description="The arm that is scored. Only the arms that it needs are trained."
    )
    seed: int = Field(0, ge=0, description="Seed of the values that are tried.")
    space: dict[str, SearchRange] = Field(
        min_length=1,
        max_length=MAX_KEYS,
        description="Keys of this configuration, with dots as for --set (also "
        "`transfer.terms.0.weight`), and the values that are tried.",
    )


class TunedSettings(Settings):
    """Where searched settings come from. A run with this section says so in its report."""

    trials: int = Field(ge=1, description="Trials that were scored on validation.")
    metric: str = Field(description="The score by which the settings were chosen.")
    study: str = Field(description="Name of the search.")

    @property
    def words(self) -> str:
        """The sentence of the report."""
        trials = f"{self.trials} trial{'' if self.trials == 1 else 's'}"
        return (
            f"settings chosen from {trials} of medkd tune on validation ({self.metric}): scores "
            "on validation are optimistic, those on test are not affected"
        )
