"""The places on which readers differ, for the adjudicator who decides on each of them.

Readers differ on a place if some took it for a nodule and others did not: they rejected it, or they
marked the whole case as reviewed without deciding there. Places are joined as in `consensus.py`.
Readers differ on an image if some accepted and others rejected it. The adjudicator's decision is
saved like any other, under the mark or added nodule of the place; `find_consensus` then uses it
alone. Decisions of the adjudicator do not make a difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from medkd.review.consensus import (
    DECIDED,
    POSITIVE,
    find_places,
    latest_decisions,
    readers_of,
    vote_of,
)
from medkd.review.decision import WHOLE_CASE, Decision, Verdict

SILENT = "reviewed the case without deciding here"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one reader decided on a place; `decision` is None if the reader did not mark it."""

    reader: str
    vote: Literal[1, 0] | None
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A place, or a whole image, on which readers differ.

    `number` counts from 1 within the case. `shown` is the decision on which the adjudicator's
    change is based, with place and diameter, and `ruling` what it says: 1 (a nodule, or the finding
    is present), 0 (not), None (not decided yet).
    """

    case_id: str
    number: int
    opinions: tuple[Opinion, ...]
    shown: Decision
    ruling: Literal[1, 0] | None


def find_differences(history: Iterable[Decision], adjudicator: str) -> list[Difference]:
    """Find the places and images on which readers differ.

    Args:
        history: decisions on any cases, oldest first.
        adjudicator: the reader who decides on them.

    Returns:
        The differences by case id; in a case from the head downwards.
    """
    by_case: dict[str, list[Decision]] = defaultdict(list)
    for decision in sorted(latest_decisions(history), key=lambda d: d.number):
        by_case[decision.case_id].append(decision)
    found = []
    for _, decisions in sorted(by_case.items()):
        done = [d.reader for d in decisions if d.verdict == "reviewed" and d.reader != adjudicator]
        differing = [place for place in _places(decisions) if _differ(place, done, adjudicator)]
        ordered = enumerate(sorted(differing, key=_height), start=1)
        found += [_difference(number, place, done, adjudicator) for number, place in ordered]
    return found


def ruling_verdict(shown: Decision, verdict: str) -> Verdict:
    """Return the verdict that is saved when the adjudicator accepts, rejects or clears a place."""
    if verdict == "accept":
        return "added" if shown.is_added else "accept"
    return "reject" if verdict == "reject" else "undecided"


def describe_opinion(opinion: Opinion) -> str:
    """Return what a reader decided, as words."""
    if opinion.decision is None:
        return SILENT
    return {"accept": "accepted", "added": "added", "reject": "rejected"}[opinion.decision.verdict]


def _places(decisions: Sequence[Decision]) -> Iterator[list[Decision]]:
    """Yield the decisions on each place of a case, and those on the case as an image."""
    decided = [d for d in decisions if d.verdict in DECIDED]
    whole = [d for d in decided if d.mark_id == WHOLE_CASE]
    if whole:
        yield whole
    yield from find_places([d for d in decided if d.mark_id != WHOLE_CASE and d.center_mm])


def _differ(place: Sequence[Decision], done: Sequence[str], adjudicator: str) -> bool:
    votes = [vote_of(place, reader) for reader in readers_of(place) if reader != adjudicator]
    of_image = place[0].mark_id == WHOLE_CASE
    silent = not of_image and bool(set(done) - set(readers_of(place)))
    return 1 in votes and (0 in votes or silent)


def _height(place: Sequence[Decision]) -> float:
    center = place[0].center_mm
    return -center[2] if center else 0.0


def _difference(
    number: int, place: Sequence[Decision], done: Sequence[str], adjudicator: str
) -> Difference:
    readers = {d.reader for d in place if d.reader != adjudicator}
    if place[0].mark_id != WHOLE_CASE:
        readers |= set(done)
    opinions = tuple(_opinion(place, reader) for reader in sorted(readers))
    first = _shown(place, adjudicator)
    ruling = vote_of(place, adjudicator)
    return Difference(first.case_id, number, opinions, first, ruling)


def _opinion(place: Sequence[Decision], reader: str) -> Opinion:
    vote = vote_of(place, reader)
    own = [d for d in place if d.reader == reader]
    wanted = POSITIVE if vote == 1 else DECIDED
    return Opinion(reader, vote, next((d for d in own if d.verdict in wanted), None))


def _shown(place: Sequence[Decision], adjudicator: str) -> Decision:
    """Return the adjudicator's decision on a place, or an undecided one on its first mark.

    If the adjudicator decided on several marks of the place, the one that decides is returned: the
    first positive one.
    """
    own = [d for d in place if d.reader == adjudicator]
    if own:
        return next((d for d in own if d.verdict in POSITIVE), own[0])
    first = next((d for d in place if d.verdict in POSITIVE), place[0])
    first = next((d for d in place if not d.is_added), first)
    sized = next((d.diameter_mm for d in (first, *place) if d.diameter_mm), None)
    fresh = Decision(first.case_id, first.mark_id, adjudicator, "undecided")
    return replace(fresh, center_mm=first.center_mm, diameter_mm=sized)
