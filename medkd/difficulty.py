"""How hard the phantoms of a generator are, in the one line that is printed beside every number.

A number measured on phantoms means something only beside the difficulty of the generator that
made them. The difficulty is measured by `tests/bench/phantom_difficulty`, which holds all of its
figures; the package keeps the three that it prints.
"""

from __future__ import annotations

from dataclasses import dataclass

from medkd.io.synthetic_mark import IMPLANT

NOT_MEASURED = "difficulty not measured for this generator"
_OF_IMPLANTS = "synthetic nodules in real scans"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What methods that never saw a phantom reach on the phantoms of one generator.

    Args:
        scans: full scans that were measured.
        blob_cpm: CPM of a blob finder inside the true lung.
        classifier_auc: ROC AUC of a classifier of real nodules, nodules against the blob
            finder's false marks; None: not measured.
        surroundings_auc: ROC AUC of boosted trees on the same places with the nodule masked out
            (.5: the surroundings give nothing away).
    """

    scans: int
    blob_cpm: Figure
    classifier_auc: Figure | None
    surroundings_auc: Figure


MEASURED: dict[str, Difficulty] = {
    "medkd phantom 6 b032c0e6afae9375": Difficulty(
        scans=40,
        blob_cpm=Figure(0.1537, 0.0914, 0.3004),
        classifier_auc=Figure(0.9192, 0.8800, 0.9452),
        surroundings_auc=Figure(0.5493, 0.4937, 0.6064),
    ),
}
"""By the generator's stamp."""


def difficulty_words(stamp: str) -> str:
    """Say in one line which synthetic scans a number was measured on, and how hard they are.

    Args:
        stamp: of the generator that made them.

    Example:
        >>> difficulty_words("medkd phantom 1")
        'medkd phantom 1: difficulty not measured for this generator'
    """
    if stamp.startswith(IMPLANT):
        return f"{stamp}: {_OF_IMPLANTS}"
    known = MEASURED.get(stamp)
    if known is None:
        return f"{stamp}: {NOT_MEASURED}"
    judged = known.classifier_auc or "not measured"
    return (
        f"{stamp}: blob finder CPM {known.blob_cpm}, LUNA16 classifier AUC {judged}, "
        f"masked surroundings AUC {known.surroundings_auc} ({known.scans} full scans)"
    )
