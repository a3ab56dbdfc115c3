"""What a search of whole scans took, as its results record it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from medkd.types import CaseResult


@dataclass(frozen=True, slots=True)
class SearchCost:
    """Seconds of one arm for a scan: median and quartiles over the analysed scans."""

    arm: str
    scans: int
    median_s: float
    quartiles_s: tuple[float, float]


def search_cost(arm: str, results: Iterable[CaseResult]) -> SearchCost | None:
    """Summarise the recorded durations of an arm; None if it analysed no scan."""
    seconds = [r.seconds for r in results if r.status == "analysed" and r.kind == "scan"]
    if not seconds:
        return None
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return SearchCost(arm, len(seconds), median, (low, high))
