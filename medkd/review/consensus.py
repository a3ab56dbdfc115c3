"""What several readers decided together: which places are nodules, which X-rays have a finding.

Only the latest decision of each reader on a mark counts. Model marks and added nodules within the
radius of the larger one, or 2 mm, are one place: two readers who add the same nodule, or one who
rejects a mark and adds the nodule beside it, mean one finding. A place is a nodule if more readers
accepted or added it than rejected it, and a known negative in the opposite case. With equal counts
it is disputed, and neither. If an adjudicator decided on a place, that decision alone counts. The
same rules decide whether the finding that a model looked for is present on a whole X-ray.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from medkd.archive.merge import reach_mm
from medkd.review.decision import WHOLE_CASE, Decision
from medkd.types import Point, ReviewedImage, ReviewedMark

UNKNOWN_MM = -1.0
"""The diameter of a mark whose diameter is unknown."""

POSITIVE = frozenset({"accept", "added"})
DECIDED = POSITIVE | {"reject"}


@dataclass(frozen=True, slots=True)
class Consensus:
    """What the readers decided together.

    `reviewed` has the readers who finished each case. `disputed` has the number of places of a
    case on which equally many readers decided either way; an X-ray is one place. `adjudicator` is
    empty if nobody is. `unnamed` is the number of X-rays with decisions on an unknown finding.
    """

    marks: tuple[ReviewedMark, ...]
    reviewed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disputed: dict[str, int] = field(default_factory=dict)
    adjudicator: str = ""
    images: tuple[ReviewedImage, ...] = ()
    unnamed: int = 0


def latest_decisions(history: Iterable[Decision]) -> list[Decision]:
    """Return the latest decision of each (case, mark, reader).

    Args:
        history: oldest first.
    """
    return list({(d.case_id, d.mark_id, d.reader): d for d in history}.values())


def find_consensus(
    history: Iterable[Decision], *, adjudicator: str = "", finding: str = ""
) -> Consensus:
    """Join the decisions of all readers.

    Args:
        history: decisions on any cases, oldest first.
        adjudicator: the reader whose decision alone counts; empty: nobody.
        finding: the finding that is accepted or rejected on X-rays; empty: unknown.
    """
    latest = sorted(latest_decisions(history), key=lambda d: d.number)
    whole = [d for d in latest if d.mark_id == WHOLE_CASE]
    placed = [d for d in latest if d.mark_id != WHOLE_CASE and d.center_mm is not None]
    marks = [
        (case_id, _joined(place, adjudicator))
        for case_id, decisions in _decided_by_case(placed)
        for place in find_places(decisions)
    ]
    on_images = _decided_by_case(whole)
    images = [
        (case_id, _joined_image(decisions, finding, adjudicator))
        for case_id, decisions in (on_images if finding else ())
    ]
    reviewed: dict[str, list[str]] = defaultdict(list)
    for decision in whole:
        if decision.verdict == "reviewed":
            reviewed[decision.case_id].append(decision.reader)
    return Consensus(
        tuple(mark for _, mark in marks if mark is not None),
        {name: tuple(sorted(readers)) for name, readers in reviewed.items()},
        dict(Counter(case_id for case_id, agreed in (*marks, *images) if agreed is None)),
        adjudicator,
        tuple(image for _, image in images if image is not None),
        0 if finding else len(on_images),
    )


def _decided_by_case(decisions: Iterable[Decision]) -> list[tuple[str, list[Decision]]]:
    """Group the decisions for or against a finding by case, in the order of the case ids."""
    by_case: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.verdict in DECIDED:
            by_case[decision.case_id].append(decision)
    return sorted(by_case.items())


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
    yes, no = _sides(place, adjudicator)
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


def _joined_image(
    decisions: Sequence[Decision], finding: str, adjudicator: str
) -> ReviewedImage | None:
    """Return what the readers of an X-ray agree on; None if it is disputed."""
    yes, no = _sides(decisions, adjudicator)
    if len(yes) == len(no):
        return None
    deciding = yes if len(yes) > len(no) else no
    decided_at = max(d.decided_at for d in decisions if d.reader in deciding)
    case_id = decisions[0].case_id
    return ReviewedImage(case_id, finding, 1 if deciding is yes else 0, tuple(deciding), decided_at)


def _sides(decisions: Sequence[Decision], adjudicator: str) -> tuple[list[str], list[str]]:
    """Return the readers who decided for a finding, and those against; the adjudicator alone."""
    votes = {reader: vote_of(decisions, reader) for reader in readers_of(decisions)}
    if votes.get(adjudicator) is not None:
        votes = {adjudicator: votes[adjudicator]}
    yes, no = (sorted(reader for reader, vote in votes.items() if vote == v) for v in (1, 0))
    return yes, no


def _center(decision: Decision) -> Point:
    if decision.center_mm is None:
        raise ValueError(f"expected a decision with a place, got {decision!r}")
    return decision.center_mm
