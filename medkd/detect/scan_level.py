"""Scan-level evaluation: ROC AUC of the highest mark for scans with and without a nodule.

This is the only evaluation of CT that needs just labels of whole scans. It does not show whether
the mark is on the nodule. If nodule positions are known, the LUNA16 FROC (`medkd froc`) does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medkd.data.archive_cases import known_scan_labels
from medkd.evaluate.caution import few_cases_warning
from medkd.evaluate.intervals import bootstrap_interval
from medkd.evaluate.metrics import build_metric, compute_metric
from medkd.index.table import ArchiveIndex
from medkd.types import CaseResult, Estimate

MEANING = (
    "ROC AUC of the highest mark of each scan for the presence of a nodule; it does not show "
    "whether the mark is on the nodule"
)


@dataclass(frozen=True, slots=True)
class ScanLevelScore:
    """ROC AUC over the scans of an INDEX that were analysed and have a known label.

    Two numbers of scans were left out: `unknown` without a label, `not_analysed` without a result.
    `caution` warns if there are only few cases; it is empty if there are enough.
    """

    roc_auc: Estimate
    scans: int
    positives: int
    patients: int
    unknown: int
    not_analysed: int
    meaning: str = MEANING
    caution: str = ""


def score_scan_level(
    results: Sequence[CaseResult],
    archive: ArchiveIndex,
    *,
    positive: Sequence[str] = ("nodule",),
    bootstrap: int = 1000,
    seed: int = 0,
) -> ScanLevelScore | None:
    """Compute the scan-level score of results; a scan without marks has the score 0.

    Args:
        results: results whose `seriesuid` is the case id.
        archive: the INDEX of the scans; a scan with a reference nodule is positive.
        positive: names of the labels; a scan with any of them is positive.
        bootstrap: number of resamples, by patient; 0: no interval.
        seed: seed of the bootstrap.

    Returns:
        The score; None if the scored scans do not include both classes.
    """
    known = known_scan_labels(archive, positive)
    cases = archive.by_id()
    indexed = [result for result in results if result.seriesuid in cases]
    analysed = [result for result in indexed if result.status == "analysed"]
    scored = [result for result in analysed if result.seriesuid in known]
    labels = [known[result.seriesuid] for result in scored]
    if len(set(labels)) < 2:
        return None
    highest = [max((m.score for m in result.candidates), default=0.0) for result in scored]
    patients = [cases[result.seriesuid].patient_id for result in scored]
    interval = bootstrap_interval(
        build_metric("roc_auc", labels, highest),
        patients,
        resamples=bootstrap,
        seed=seed,
        unit="patient",
    )
    return ScanLevelScore(
        Estimate(compute_metric("roc_auc", labels, highest), interval),
        scans=len(scored),
        positives=sum(labels),
        patients=len(set(patients)),
        unknown=len(analysed) - len(scored),
        not_analysed=len(indexed) - len(analysed),
        caution=few_cases_warning(
            [
                (sum(labels), "scans with a nodule"),
                (len(labels) - sum(labels), "scans without one"),
            ],
            [(len(set(patients)), "patients")],
        ),
    )
