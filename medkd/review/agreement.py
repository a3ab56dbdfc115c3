"""Agreement between readers, and the operating point of each reader.

Cohen's kappa (J. Cohen, Educ Psychol Meas 20, 1960) compares how often two readers agree with how
often they would by chance. Only places on which both decided count. A nodule that one reader added
and the other never saw is no disagreement here; such places are counted separately.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from medkd.evaluate.intervals import bootstrap_interval
from medkd.evaluate.matching import match_marks
from medkd.review.consensus import (
    DECIDED,
    POSITIVE,
    find_places,
    latest_decisions,
    readers_of,
    vote_of,
)
from medkd.review.decision import WHOLE_CASE, Decision
from medkd.types import Candidate, Estimate, PairAgreement, ReaderPoint, ReaderStudy, Reference

Float64 = NDArray[np.float64]


def study_readers(
    history: Sequence[Decision], reference: Reference, *, bootstrap: int = 1000, seed: int = 0
) -> ReaderStudy:
    """Compare the readers with each other and with a reference standard.

    Args:
        history: decisions, oldest first.
        reference: nodules and excluded findings; without a scan there are no points.
        bootstrap: number of resamples of the cases; 0: no interval.
        seed: seed of the resamples.
    """
    return ReaderStudy(
        tuple(find_reader_points(history, reference)),
        tuple(find_agreement(history, bootstrap=bootstrap, seed=seed)),
    )


def find_agreement(
    history: Iterable[Decision], *, bootstrap: int = 1000, seed: int = 0
) -> list[PairAgreement]:
    """Compare every two readers.

    Args:
        history: decisions, oldest first.
        bootstrap: number of resamples of the cases; 0: no interval.
        seed: seed of the resamples.

    Returns:
        One result for every two readers, in the order of their names.
    """
    votes, cases = _votes(history)
    readers = sorted({reader for of_place in votes for reader in of_place})
    return [
        _compare(pair, votes, cases, bootstrap=bootstrap, seed=seed)
        for pair in combinations(readers, 2)
    ]


def find_reader_points(history: Iterable[Decision], reference: Reference) -> list[ReaderPoint]:
    """Score each reader's accepted and added marks against a reference standard.

    Args:
        history: decisions, oldest first.
        reference: nodules and excluded findings. A scan counts for a reader who marked it as
            reviewed: what a reader has not finished is no miss.

    Returns:
        One point for each reader who finished a scan of the reference, by name.
    """
    scored = set(reference.seriesuids)
    done: dict[str, set[str]] = defaultdict(set)
    marks: dict[str, list[Candidate]] = defaultdict(list)
    for decision in latest_decisions(history):
        if decision.mark_id == WHOLE_CASE:
            if decision.verdict == "reviewed" and decision.case_id in scored:
                done[decision.reader].add(decision.case_id)
        elif decision.verdict in POSITIVE and decision.center_mm is not None:
            mark = Candidate(decision.case_id, decision.center_mm, 1.0)
            marks[decision.reader].append(mark)
    return [_point(reader, marks[reader], done[reader], reference) for reader in sorted(done)]


def _votes(history: Iterable[Decision]) -> tuple[list[dict[str, int]], list[str]]:
    """Return for each place the vote of each reader who decided on it (1 or 0), and its case."""
    by_case: dict[str, list[Decision]] = defaultdict(list)
    for decision in sorted(latest_decisions(history), key=lambda d: d.number):
        if decision.verdict in DECIDED and decision.center_mm is not None:
            by_case[decision.case_id].append(decision)
    found = [
        (dict(_votes_on(place)), case_id)
        for case_id, decisions in sorted(by_case.items())
        for place in find_places(decisions)
    ]
    return [votes for votes, _ in found], [case_id for _, case_id in found]


def _votes_on(place: Sequence[Decision]) -> Iterator[tuple[str, int]]:
    for reader in readers_of(place):
        vote = vote_of(place, reader)
        if vote is not None:
            yield reader, vote


def _compare(
    pair: tuple[str, str],
    votes: Sequence[dict[str, int]],
    cases: Sequence[str],
    *,
    bootstrap: int,
    seed: int,
) -> PairAgreement:
    first, second = pair
    shared = [n for n, of_place in enumerate(votes) if first in of_place and second in of_place]
    mine = np.array([votes[n][first] for n in shared], dtype=np.float64)
    other = np.array([votes[n][second] for n in shared], dtype=np.float64)
    return PairAgreement(
        first,
        second,
        both_yes=int((mine * other).sum()),
        only_first_yes=int((mine * (1 - other)).sum()),
        only_second_yes=int(((1 - mine) * other).sum()),
        both_no=int(((1 - mine) * (1 - other)).sum()),
        only_first=sum(first in v and second not in v for v in votes),
        only_second=sum(second in v and first not in v for v in votes),
        kappa=_kappa(mine, other, [cases[n] for n in shared], bootstrap=bootstrap, seed=seed),
    )


def _kappa(
    mine: Float64, other: Float64, cases: Sequence[str], *, bootstrap: int, seed: int
) -> Estimate | None:
    if not len(mine) or len({*mine.tolist(), *other.tolist()}) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    def of_resamples(weights: Float64) -> Float64:
        """Return kappa of each resample; NaN where chance alone would agree always."""
        total = weights.sum(axis=1)
        agreed = weights @ (mine == other).astype(np.float64) / total
        yes, other_yes = weights @ mine / total, weights @ other / total
        chance = yes * other_yes + (1 - yes) * (1 - other_yes)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(chance < 1, (agreed - chance) / (1 - chance), np.nan)

    interval = bootstrap_interval(
        of_resamples, cases, resamples=bootstrap, seed=seed, unit="series"
    )
    return Estimate(float(cohen_kappa_score(mine, other)), interval)


def _point(
    reader: str, marks: Sequence[Candidate], done: set[str], reference: Reference
) -> ReaderPoint:
    scans = tuple(name for name in reference.seriesuids if name in done)
    of_scans = Reference(
        tuple(n for n in reference.nodules if n.seriesuid in done),
        tuple(n for n in reference.excluded if n.seriesuid in done),
        scans,
    )
    matching = match_marks([mark for mark in marks if mark.seriesuid in done], of_scans)
    nodules, found = len(of_scans.nodules), int(matching.is_nodule.sum())
    return ReaderPoint(
        reader,
        len(scans),
        nodules,
        found / nodules if nodules else None,
        int((~matching.is_nodule).sum()) / len(scans),
    )
