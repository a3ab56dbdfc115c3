"""The difficulty of a generator's phantoms, as one line that is printed beside every score.

A score measured on phantoms can be interpreted only together with the difficulty of the generator
that made them. `tests/bench/phantom_difficulty` measures it and explains the three measures.
"""

from __future__ import annotations

from medkd.io.synthetic_mark import is_implant

MEASURED = {
    "medkd phantom 6 b032c0e6afae9375": (
        "blob finder CPM 0.15 [0.09, 0.30], LUNA16 classifier AUC 0.92 [0.88, 0.95], "
        "masked surroundings AUC 0.55 [0.49, 0.61] (40 full scans)"
    ),
}
"""Stamp of a generator to the scores, with 95 % intervals, of methods that were not trained on
phantoms: of a blob finder inside the true lung (CPM); of a classifier of real nodules on the
nodules and the blob finder's false marks (ROC AUC); and of boosted trees on the same positions
with the nodule masked out (ROC AUC, 0.5 if the surroundings contain no information)."""


def difficulty_words(stamp: str) -> str:
    """Describe in one line the synthetic scans that a score was measured on, and their difficulty.

    Args:
        stamp: stamp of the generator that made the scans.

    Example:
        >>> difficulty_words("medkd phantom 1")
        'medkd phantom 1: difficulty not measured for this generator'
    """
    if is_implant(stamp):
        return f"{stamp}: synthetic nodules in real scans"
    return f"{stamp}: {MEASURED.get(stamp, 'difficulty not measured for this generator')}"
