"""Scan-level evaluation: does the highest mark tell scans with a nodule from those without?

All that labels of whole scans allow for CT. It says nothing of whether the mark lies on the
nodule; LUNA16's FROC (`medkd froc`) does, where places are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medkd.data.archive_cases import known_scan_labels
from medkd.evaluate.caution import few_words
from medkd.evaluate.intervals import bootstrap_interval
from medkd.evaluate.metrics import build_metric, compute_metric
from medkd.index.table import ArchiveIndex
from medkd.types import CaseResult, Estimate

MEANING = (
    "ROC AUC of the highest mark of each scan against whether it holds a nodule; it does not say "
    "whether the mark lies on the nodule"
)


@dataclass(frozen=True, slots=True)
class ScanLevelScore:
    """ROC AUC over the scans of an INDEX that were analysed and whose label is known.

    `unknown` scans have no label, `not_analysed` no result: neither counts. `caution` says on how
    few cases the number stands; empty where there are enough.
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
    """Score results by the labels of whole scans; a scan without marks scores 0.

    Args:
        results: named by case id.
        archive: the INDEX that the scans come from; a scan with a reference nodule is positive.
        positive: names of labels, any of which makes a scan positive.
        bootstrap: resamples of patients; 0: no interval.
        seed: of the bootstrap.

    Returns:
        The score; None if analysed scans are not known to hold both classes.
    """
    known = known_scan_labels(archive, positive)
    cases = archive.by_id()
    mine = [result for result in results if result.seriesuid in cases]
    analysed = [result for result in mine if result.status == "analysed"]
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
        not_analysed=len(mine) - len(analysed),
        caution=few_words(
            [
                (sum(labels), "scans with a nodule"),
                (len(labels) - sum(labels), "scans without one"),
            ],
            [(len(set(patients)), "patients")],
        ),
    )
