"""The reading modes: what a reader sees of a case, and in which order the cases are read.

- concurrent: marks and scores are shown at once, the reference when the reader asks for it.
- second-reader: a first read without all of this; when it is finished and locked, as concurrent.
- blinded: no scores and no reference at any time, and the cases in a random order.
- adjudication: the adjudicator sees the decisions of the readers (`adjudication.py`).

The pages get only what may be seen: what is hidden here never reaches the browser.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, cast, get_args

from medkd.config.review_settings import Mode, ReviewSettings
from medkd.errors import SettingsError
from medkd.review.cases import HIDDEN_MARKS, CaseMarks, MarkSource
from medkd.review.decision import FIRST_READ, WHOLE_CASE, Decision
from medkd.review.worklist import Order, choose_orders, order_cases
from medkd.types import RunCase

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReadingMode:
    """The reading mode of a review; `show_marks` concerns the mode "blinded"."""

    name: Mode = "concurrent"
    show_marks: bool = True

    @property
    def two_reads(self) -> bool:
        """Whether each case is read first without marks and then with them."""
        return self.name == "second-reader"

    @property
    def hides_scores(self) -> bool:
        """Whether scores are shown at no time."""
        return self.name in {"blinded", "adjudication"}

    @property
    def is_open(self) -> bool:
        """Whether the pages show scores, reference and results, and admins the decisions of all.

        Otherwise readers of every role see the own decisions alone, because those of others tell
        where the marks are.
        """
        return self.name == "concurrent"


CONCURRENT = ReadingMode()


@dataclass(frozen=True, slots=True)
class Sight:
    """What a reader may see of a case.

    `marks` of the model, their `scores` and the probabilities, and the `reference` standard with
    labels and outcomes.
    """

    marks: bool = True
    scores: bool = True
    reference: bool = True


def sight_of(mode: ReadingMode, *, first_read_finished: bool) -> Sight:
    """Return what a reader may see of a case.

    Args:
        mode: the reading mode.
        first_read_finished: whether the reader has finished the first read of the case.

    Example:
        >>> sight_of(ReadingMode("blinded"), first_read_finished=False)
        Sight(marks=True, scores=False, reference=False)
    """
    if mode.two_reads:
        return Sight(first_read_finished, first_read_finished, first_read_finished)
    if mode.name == "blinded":
        return Sight(mode.show_marks, scores=False, reference=False)
    concurrent = mode.name == "concurrent"
    return Sight(scores=concurrent, reference=concurrent)


def check_mode(settings: ReviewSettings, kind: str) -> ReadingMode:
    """Return the reading mode of a review.

    Args:
        settings: the settings of `medkd review`.
        kind: RUN, RESULTS or INDEX.

    Raises:
        SettingsError: if the mode is not possible here.
    """
    mode, readers = settings.mode, settings.readers
    if mode == "adjudication":
        if not readers.adjudicator:
            reason = "name the reader in readers.adjudicator, or give --adjudicator NAME"
            raise SettingsError("mode: adjudication needs an adjudicator", [reason])
        if readers.names and readers.adjudicator not in (*readers.names, *readers.admins):
            reason = f"expected {readers.adjudicator!r} among them: add the name to readers.names"
            raise SettingsError("the adjudicator is not among the readers", [reason])
    if mode == "second-reader" and kind == "INDEX":
        reason = "an INDEX has no marks for a second read: review the RESULTS of medkd detect"
        raise SettingsError("mode: second-reader: not possible for an INDEX", [reason])
    if not settings.show_marks and mode in {"concurrent", "second-reader"}:
        reason = f"it belongs to mode: blinded, the mode is {mode}: remove show_marks"
        raise SettingsError("show_marks: false: not used", [reason])
    # The settings of a blinded study are also those of its adjudication.
    return ReadingMode(mode, settings.show_marks or mode != "blinded")


def write_mode(mode: ReadingMode) -> str:
    """Return the text by which the app receives the mode."""
    return mode.name if mode.show_marks else f"{mode.name}, no marks"


def read_mode(text: str) -> ReadingMode:
    """Read the text of `write_mode`; empty: the default mode.

    Raises:
        SettingsError: if it is none; nothing that a mode hides is then shown.

    Example:
        >>> read_mode(write_mode(ReadingMode("blinded", show_marks=False)))
        ReadingMode(name='blinded', show_marks=False)
    """
    name, _, marks = (text or "concurrent").partition(", ")
    if name not in get_args(Mode) or marks not in {"", "no marks"}:
        raise SettingsError(f"the reading mode {text!r} is not known", ["start medkd review again"])
    return ReadingMode(cast("Mode", name), show_marks=not marks)


def list_cases(
    cases: Iterable[RunCase], mode: ReadingMode, *, finished: Collection[str] = ()
) -> list[RunCase]:
    """Return the cases with what may be seen of them, by case id unless the mode is concurrent.

    Args:
        cases: all cases, by decreasing score.
        mode: the reading mode.
        finished: ids of the cases whose first read was finished.
    """
    if mode.name == "concurrent":
        return list(cases)
    seen = [_case_in_sight(case, mode, finished) for case in cases]
    return order_cases(seen, "case")


def orders_of(mode: ReadingMode, *, model_shown: bool) -> tuple[Order, ...]:
    """Return the orders of the worklist that a reader may choose; a study has the random one.

    Args:
        mode: the reading mode.
        model_shown: whether the worklist shows what a model says.
    """
    return ("random",) if mode.name == "blinded" else choose_orders(model_shown=model_shown)


def marks_in_sight(
    marks: Mapping[str, CaseMarks],
    mode: ReadingMode,
    *,
    finished: Collection[str] = (),
    threshold: Callable[[MarkSource], float | None] = lambda source: None,
) -> dict[str, CaseMarks]:
    """Return the marks that a reader may see, by case id.

    Args:
        marks: all marks by case id.
        mode: the reading mode.
        finished: ids of the cases whose first read was finished.
        threshold: returns the threshold for marks of a source. Without scores only marks that
            reach it are shown, in the order of their places.
    """
    found: dict[str, CaseMarks] = {}
    for case_id, of_case in marks.items():
        sight = sight_of(mode, first_read_finished=case_id in finished)
        if not sight.marks:
            found[case_id] = HIDDEN_MARKS
        elif not sight.scores:
            found[case_id] = _without_scores(of_case, threshold(of_case.source))
        else:
            found[case_id] = of_case
    return found


def reference_in_sight(
    by_case: Mapping[str, T], mode: ReadingMode, *, finished: Collection[str] = ()
) -> dict[str, T]:
    """Return what is known about cases whose reference may be seen: findings or probabilities."""
    return {
        case_id: value
        for case_id, value in by_case.items()
        if sight_of(mode, first_read_finished=case_id in finished).reference
    }


def decisions_in_sight(
    history: Iterable[Decision], mode: ReadingMode, *, finished: Collection[str] = ()
) -> list[Decision]:
    """Return decisions without those on hidden marks, and without hidden scores.

    A decision on a mark tells where the mark is. It may be from an earlier reading in another mode.

    Args:
        history: decisions of one reader.
        mode: the reading mode.
        finished: ids of the cases whose first read was finished.
    """
    found = []
    for row in history:
        sight = sight_of(mode, first_read_finished=row.case_id in finished)
        if sight.marks or row.is_added or row.mark_id in {WHOLE_CASE, FIRST_READ}:
            found.append(row if sight.scores else replace(row, score=None))
    return found


def _case_in_sight(case: RunCase, mode: ReadingMode, finished: Collection[str]) -> RunCase:
    if sight_of(mode, first_read_finished=case.case_id in finished).reference:
        return case
    return replace(case, score=None, label=None)


def _without_scores(found: CaseMarks, threshold: float | None) -> CaseMarks:
    """Number marks by their place from the head downwards: their order must not tell the scores."""
    placed = sorted(found.above(threshold), key=lambda mark: mark.candidate.center_mm[::-1])
    hidden = [
        replace(mark, number=n, scored=False, candidate=replace(mark.candidate, score=0.0))
        for n, mark in enumerate(reversed(placed), start=1)
    ]
    return CaseMarks(tuple(hidden), found.source, found.notes)
