"""How much of a radiograph is bright, read from its pixels: large findings have more of it.

`shortcuts.py` compares it with the labels. Reading every radiograph of a large archive would take
hours, so a random sample is read. Scans are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.index.case_store import open_image
from medkd.index.table import ArchiveIndex

BRIGHT = "share of bright pixels"


@dataclass(frozen=True, slots=True)
class Brightness:
    """The share of bright pixels by case id, 0..1, and notes on what was read."""

    shares: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def measure_brightness(
    path: Path,
    index: ArchiveIndex,
    *,
    most: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Brightness:
    """Measure a random sample of the radiographs that are ready and have a known label.

    Args:
        path: index.csv, its private folder beside it.
        index: its content.
        most: radiographs to read; 0: none.
        seed: of the draw.
        progress: called with (images read, total).

    Returns:
        The shares of the radiographs that could be read; notes count the others.
    """
    known = {label.case_id for label in index.labels if label.value is not None}
    ready = [
        case.case_id
        for case in index.cases
        if case.status == "ready" and case.kind == "image" and case.case_id in known
    ]
    chosen = np.random.default_rng(seed).permutation(len(ready))[:most].tolist()
    shares: dict[str, float] = {}
    faults: list[SeriesError] = []
    for done, place in enumerate(chosen, start=1):
        try:
            shares[ready[place]] = bright_share(open_image(path, ready[place]).pixels)
        except SeriesError as error:
            faults.append(error)
        if progress is not None:
            progress(done, len(chosen))
    notes = []
    if shares and len(shares) < len(ready):
        notes.append(
            f"the {BRIGHT} was compared with the labels on {len(shares)} of {len(ready)} "
            "labelled radiographs"
        )
    if faults:
        reason = "; ".join(faults[0].reasons) or faults[0].headline
        notes.append(f"the {BRIGHT} of {len(faults)} radiographs could not be read: {reason}")
    return Brightness(shares, tuple(notes))


def bright_share(pixels: NDArray[np.float32]) -> float:
    """Return the share of pixels brighter than half of the brightest one, 0..1.

    Args:
        pixels: [rows, columns] in 0..1.

    Example:
        >>> bright_share(np.array([[0.0, 0.1, 0.9, 1.0]], np.float32))
        0.5
    """
    return float(np.mean(pixels > pixels.max() / 2))
