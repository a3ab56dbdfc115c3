"""Scores of an acceptance test at each threshold: sensitivity by group, false marks per scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medkd.acceptance.results import (
    GroupKind,
    GroupResult,
    PointResult,
    ScoredNodule,
    ScoredScan,
)
from medkd.evaluate.intervals import bootstrap_interval
from medkd.evaluate.matching import nodule_scores
from medkd.evaluate.strata import SIZES, size_class
from medkd.synthetic.implant.kept import NoduleRow, ScanRow
from medkd.synthetic.implant.settings import TEXTURES
from medkd.types import Candidate, Estimate, Nodule, OperatingPoint, Reference

RESAMPLES = 1000


def score_points(
    scans: Sequence[ScoredScan], points: dict[str, OperatingPoint], *, seed: int
) -> Iterator[PointResult]:
    """Score nodules and false marks at each threshold, with bootstrap intervals by patient.

    Args:
        scans: the tested scans, at least one of them analysed.
        points: thresholds by name; names with the same threshold give one result.
        seed: seed of the bootstrap.
    """
    by_threshold: dict[float, list[str]] = {}
    for name, point in points.items():
        by_threshold.setdefault(point.threshold, []).append(name)
    analysed = [scan for scan in scans if scan.analysed]
    patients = [scan.patient_id for scan in analysed]
    for threshold, names in sorted(by_threshold.items(), reverse=True):
        point = points[names[0]]
        false = [sum(score >= threshold for score in scan.false_scores) for scan in analysed]
        yield PointResult(
            tuple(sorted(names)),
            threshold,
            point.chosen_on,
            point.fp_per_scan,
            _mean(np.array(false, dtype=np.float64), patients, seed=seed),
            tuple(_score_groups(scans, threshold, seed=seed)),
        )


def score_nodules(
    row: ScanRow, *, before: Sequence[Candidate], after: Sequence[Candidate]
) -> tuple[ScoredNodule, ...]:
    """Match the marks on a scan without and with nodules to the nodules, by LUNA16's rules.

    Args:
        row: the scan with its nodules.
        before: marks on the scan without the nodules.
        after: marks on the scan with them.
    """
    uid = row.seriesuid
    nodules = tuple(Nodule(uid, n.center_mm, n.diameter_mm) for n in row.nodules)
    truth = Reference(nodules, (), (uid,))
    best = [np.maximum(nodule_scores(marks, truth), 0.0).tolist() for marks in (after, before)]
    return tuple(map(ScoredNodule, row.nodules, *best))


def _score_groups(
    scans: Sequence[ScoredScan], threshold: float, *, seed: int
) -> Iterator[GroupResult]:
    rows = [(scan.patient_id, nodule) for scan in scans for nodule in scan.nodules]
    for kind, names, group_of in _GROUPS:
        for name in names:
            mine = [(patient, n) for patient, n in rows if group_of(n.nodule) == name]
            if not mine:
                continue
            found = np.array([n.score >= threshold for _, n in mine], dtype=np.float64)
            yield GroupResult(
                kind,
                name,
                nodules=len(mine),
                found=int(found.sum()),
                marked_before=sum(n.score_before >= threshold for _, n in mine),
                sensitivity=_mean(found, [patient for patient, _ in mine], seed=seed),
            )


_GROUPS: tuple[tuple[GroupKind, tuple[str, ...], Callable[[NoduleRow], str]], ...] = (
    ("all", ("all nodules",), lambda _: "all nodules"),
    ("size", SIZES, lambda nodule: size_class(nodule.diameter_mm)),
    ("texture", TEXTURES, lambda nodule: nodule.texture),
    ("attachment", ("free", "vessel", "pleura"), lambda nodule: nodule.attachment),
)
"""Kind of group, its groups in order, and the group of a nodule."""


def _mean(values: NDArray[np.float64], patients: Sequence[str], *, seed: int) -> Estimate:
    interval = bootstrap_interval(
        lambda weights: weights @ values / weights.sum(axis=1),
        patients,
        resamples=RESAMPLES,
        seed=seed,
        unit="patient",
    )
    return Estimate(float(values.mean()), interval)
