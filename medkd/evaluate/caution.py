"""The warning that accompanies every number computed from few cases.

One rule holds for AUC, CPM, sensitivity, F1, accuracy and similar scores. The limits are round
numbers: with 20 positives a single one changes sensitivity by 5 percentage points, and a bootstrap
over fewer than 10 patients has too few distinct resamples for a reliable interval.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from medkd.types import ClassificationResult, FrocResult

FEW_CASES = 20
"""With fewer nodules, positive or negative samples, a single one changes a score considerably."""

FEW_GROUPS = 10
"""With fewer patients or scans, a bootstrap interval is not reliable."""


def few_cases_warning(
    counts: Iterable[tuple[int, str]], groups: Iterable[tuple[int, str]] = ()
) -> str:
    """Return a warning with the counts that are too small; empty if all are large enough.

    Args:
        counts: numbers of nodules, positive and negative samples, each with its plural noun.
        groups: numbers of patients or scans, likewise.

    Example:
        >>> few_cases_warning([(7, "nodules")], [(3, "scans")])
        'few cases (7 nodules, 3 scans): numbers may differ greatly on other cases'
        >>> few_cases_warning([(20, "nodules")], [(10, "scans")])
        ''
    """
    few = [(n, noun) for n, noun in counts if n < FEW_CASES]
    few += [(n, noun) for n, noun in groups if n < FEW_GROUPS]
    if not few:
        return ""
    listed = ", ".join(f"{n} {_noun(n, noun)}" for n, noun in few)
    return f"few cases ({listed}): numbers may differ greatly on other cases"


def sentence(caution: str) -> str:
    """Return a warning as a sentence with capital and full stop; an empty text stays empty."""
    return f"{caution[:1].upper()}{caution[1:]}." if caution else ""


def froc_caution(result: FrocResult) -> str:
    """Return a warning if a FROC has few nodules or scans, else ""."""
    return few_cases_warning([(result.nodules, "nodules")], [(result.scans, "scans")])


def classification_caution(result: ClassificationResult) -> str:
    """Return a warning if there are few positive samples, negative samples or patients, else ""."""
    negatives = result.samples - result.positives
    counts = [(result.positives, "positive samples"), (negatives, "negative samples")]
    return few_cases_warning(counts, [(result.patients, "patients")])


def _noun(count: int, plural: str) -> str:
    return re.sub(r"s\b", "", plural, count=1) if count == 1 else plural
