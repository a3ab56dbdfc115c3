"""Which numbers stand on few cases, and the words that go wherever such a number is shown.

One rule for all: AUC, CPM, sensitivity, F1, accuracy and their like. The limits are round numbers:
with 20 positives one of them is 5 points of sensitivity, and a bootstrap over fewer than 10
patients has too few distinct resamples for its interval to be believed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from medkd.types import ClassificationResult, FrocResult

FEW_CASES = 20
"""Fewer nodules, positive or negative samples: a number on them moves a lot with each."""

FEW_GROUPS = 10
"""Fewer patients or scans: no claim is made on them."""


def few_words(counts: Iterable[tuple[int, str]], groups: Iterable[tuple[int, str]] = ()) -> str:
    """Say on how few cases numbers stand; empty where there are enough.

    Args:
        counts: nodules, positive and negative samples, each with its noun in the plural.
        groups: patients or scans, likewise.

    Example:
        >>> few_words([(7, "nodules")], [(3, "scans")])
        'few cases (7 nodules, 3 scans): other cases would give other numbers'
        >>> few_words([(20, "nodules")], [(10, "scans")])
        ''
    """
    few = [(n, noun) for n, noun in counts if n < FEW_CASES]
    few += [(n, noun) for n, noun in groups if n < FEW_GROUPS]
    if not few:
        return ""
    told = ", ".join(f"{n} {_noun(n, noun)}" for n, noun in few)
    return f"few cases ({told}): other cases would give other numbers"


def sentence(caution: str) -> str:
    """Turn a caution into a sentence; empty stays empty."""
    return f"{caution[:1].upper()}{caution[1:]}." if caution else ""


def froc_caution(result: FrocResult) -> str:
    """Say on how few nodules and scans a FROC stands; empty where there are enough."""
    return few_words([(result.nodules, "nodules")], [(result.scans, "scans")])


def classification_caution(result: ClassificationResult) -> str:
    """Say on how few samples and patients scores stand; empty where there are enough."""
    negatives = result.samples - result.positives
    counts = [(result.positives, "positive samples"), (negatives, "negative samples")]
    return few_words(counts, [(result.patients, "patients")])


def _noun(count: int, plural: str) -> str:
    return re.sub(r"s\b", "", plural, count=1) if count == 1 else plural
