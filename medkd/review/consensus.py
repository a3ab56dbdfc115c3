"""What several readers decided together: which places are nodules and which are not.

Only the latest decision of each reader on a mark counts. Model marks and added nodules within the
radius of the larger one, or 2 mm, are one place: two readers who add the same nodule, or one who
rejects a mark and adds the nodule beside it, mean one finding. A place is a nodule if more readers
accepted or added it than rejected it, and a known negative in the opposite case. With equal counts
it is disputed, and neither. If an adjudicator decided on a place, that decision alone counts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from medkd.archive.merge import reach_mm
from medkd.review.decision import WHOLE_CASE, Decision
from medkd.types import Point, ReviewedMark

UNKNOWN_MM = -1.0
"""The diameter of a mark whose diameter is unknown."""

POSITIVE = frozenset({"accept", "added"})
DECIDED = POSITIVE | {"reject"}


@dataclass(frozen=True, slots=True)
class Consensus:
    """What the readers decided together.

    `reviewed` has the readers who finished each case. `disputed` has the number of places of a
    case on which equally many readers decided either way. `adjudicator` is empty if nobody is.
    """

    marks: tuple[ReviewedMark, ...]
    reviewed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disputed: dict[str, int] = field(default_factory=dict)
    adjudicator: str = ""


def latest_decisions(history: Iterable[Decision]) -> list[Decision]:
    """Return the latest decision of each (case, mark, reader).

    Args:
        history: oldest first.
    """
    return list({(d.case_id, d.mark_id, d.reader): d for d in history}.values())


def find_consensus(history: Iterable[Decision], *, adjudicator: str = "") -> Consensus:
    """Join the decisions of all readers.

    Args:
        history: decisions on any cases, oldest first.
        adjudicator: the reader whose decision alone counts; empty: nobody.
    """
    latest = latest_decisions(history)
    by_case: dict[str, list[Decision]] = defaultdict(list)
    reviewed: dict[str, list[str]] = defaultdict(list)
    for decision in sorted(latest, key=lambda d: d.number):
        if decision.mark_id == WHOLE_CASE:
            if decision.verdict == "reviewed":
                reviewed[decision.case_id].append(decision.reader)
        elif decision.verdict in DECIDED and decision.center_mm is not None:
            by_case[decision.case_id].append(decision)
    marks: list[ReviewedMark] = []
    disputed: Counter[str] = Counter()
    for case_id, decisions in sorted(by_case.items()):
        for place in find_places(decisions):
            mark = _joined(place, adjudicator)
            if mark is None:
                disputed[case_id] += 1
            else:
                marks.append(mark)
    done = {name: tuple(sorted(readers)) for name, readers in reviewed.items()}
    return Consensus(tuple(marks), done, dict(disputed), adjudicator)


def find_places(decisions: Sequence[Decision]) -> list[list[Decision]]:
    """Group the decisions on one case by the place that they concern.

    Marks of a model are different places, as the model separates them. An added nodule belongs to
    the nearest place within reach, unless its reader accepted or added another mark there.

    Args:
        decisions: with a place (LPS mm) each, oldest first.
    """
    of_mark: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        of_mark[decision.mark_id].append(decision)
    places = [group for group in of_mark.values() if not group[0].is_added]
    for group in (group for group in of_mark.values() if group[0].is_added):
        near = [(gap, n) for n, place in enumerate(places) if (gap := _gap(group, place)) <= 0]
        if near:
            places[min(near)[1]] += group
        else:
            places.append(list(group))
    return places


def vote_of(place: Sequence[Decision], reader: str) -> Literal[1, 0] | None:
    """Return whether a reader decided that a place is a nodule; None: the reader did not decide."""
    verdicts = {d.verdict for d in place if d.reader == reader}
    if verdicts & POSITIVE:
        return 1
    return 0 if "reject" in verdicts else None


def readers_of(place: Sequence[Decision]) -> Iterator[str]:
    """Yield each reader who decided on a place, once."""
    yield from dict.fromkeys(decision.reader for decision in place)


def _gap(group: Sequence[Decision], place: Sequence[Decision]) -> float:
    """Return by how many mm two groups are too far apart; infinite if they cannot be one place."""
    positive = {d.reader for d in group if d.verdict in POSITIVE}
    if positive & {d.reader for d in place if d.verdict in POSITIVE}:
        return math.inf
    pairs = ((mine, other) for mine in group for other in place)
    return min(
        math.dist(_center(mine), _center(other))
        - max(reach_mm(decision.diameter_mm or 0.0) for decision in (mine, other))
        for mine, other in pairs
    )


def _joined(place: Sequence[Decision], adjudicator: str) -> ReviewedMark | None:
    """Return the mark that the readers of a place agree on; None if it is disputed."""
    votes = {reader: vote_of(place, reader) for reader in readers_of(place)}
    if votes.get(adjudicator) is not None:
        votes = {adjudicator: votes[adjudicator]}
    yes = sorted(reader for reader, vote in votes.items() if vote == 1)
    no = sorted(reader for reader, vote in votes.items() if vote == 0)
    if len(yes) == len(no):
        return None
    deciding, wanted = (yes, POSITIVE) if len(yes) > len(no) else (no, frozenset({"reject"}))
    mine = [d for d in place if d.reader in deciding and d.verdict in wanted]
    first = next((d for d in mine if d.diameter_mm is not None), mine[0])
    of_model = any(not decision.is_added for decision in mine)
    positive = "accepted" if of_model else "added"
    return ReviewedMark(
        seriesuid=first.case_id,
        center_mm=_center(first),
        diameter_mm=UNKNOWN_MM if first.diameter_mm is None else first.diameter_mm,
        verdict="rejected" if deciding is no else positive,  # type: ignore[arg-type]  # one of two
        readers=tuple(deciding),
        decided_at=max(decision.decided_at for decision in mine),
    )


def _center(decision: Decision) -> Point:
    if decision.center_mm is None:
        raise ValueError(f"expected a decision with a place, got {decision!r}")
    return decision.center_mm
