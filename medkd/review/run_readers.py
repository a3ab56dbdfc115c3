"""The readers of a RUN: their decisions in its store, compared with its reference standard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medkd.errors import SettingsError
from medkd.review.agreement import study_readers
from medkd.review.cases import read_run_cases
from medkd.review.decision import Decision
from medkd.review.opened import open_review
from medkd.review.schemas import check_named, note_elsewhere, store_of
from medkd.review.store import name_of_store, read_history, verify_store
from medkd.review.stored_scores import read_reference
from medkd.runs import RunFolder
from medkd.types import ReaderStudy

NOTHING_TO_COMPARE = (
    "no reader has finished a scan of the reference standard, and no two readers have decided on "
    "the same place, so the report has no section on readers"
)


@dataclass(frozen=True, slots=True)
class FoundReaders:
    """The readers of a RUN; `study` is None if there is nothing to report.

    `notes` tell the user what was read and what was left out.
    """

    study: ReaderStudy | None = None
    notes: tuple[str, ...] = ()


def read_reader_study(run: RunFolder, *, store: str = "") -> FoundReaders:
    """Read what the readers decided; no store is created.

    Args:
        run: the run.
        store: path or URL of the store, as for `open_review`; empty: the file in the run, if any.

    Raises:
        SettingsError: if `store` is the store of another review, a URL that leads to none, or if it
            is empty and the decisions are in PostgreSQL.
        MedkdError: if the store or the reference standard cannot be read, with all reasons.
    """
    if not store and not run.record.is_file():
        return FoundReaders()
    review = open_review(run.path, store=store)
    place = store_of(review)
    if not store and not run.review.is_file():
        return FoundReaders()
    check_named(place)
    verify_store(place)  # refuses a store that does not exist
    history = read_history(place)
    own = _decisions_on(run, history, place)
    study = study_run(run, own)
    has_readers = bool(study.points or study.pairs)
    notes = [note_elsewhere(review), _read_words(place, own)]
    if left_out := len(history) - len(own):
        notes.append(f"left out: {left_out} decisions on cases that are not in this RUN")
    if own and not has_readers:
        notes.append(NOTHING_TO_COMPARE)
    return FoundReaders(study if has_readers else None, tuple(filter(None, notes)))


def study_run(run: RunFolder, history: Sequence[Decision]) -> ReaderStudy:
    """Compare the readers of a run with each other and with its reference standard.

    Args:
        run: the run; without a reference standard no reader has a point.
        history: the decisions to compare, oldest first.

    Raises:
        MedkdError: if the reference standard cannot be read.
    """
    return study_readers(history, read_reference(run))


def _decisions_on(run: RunFolder, history: Sequence[Decision], place: Path | str) -> list[Decision]:
    """Return the decisions on the cases of a run.

    Raises:
        SettingsError: if there are decisions, but none is on a case of the run.
    """
    known = {case.case_id for case in read_run_cases(run.cases)}
    own = [row for row in history if row.case_id in known]
    if history and not own:
        others = {row.case_id for row in history}
        reasons = [
            f"cases on which it has decisions: {len(others)}, for example {min(others)}; none of "
            "them is a case of this RUN",
            "give the store with which medkd review was started for this RUN",
        ]
        raise SettingsError(f"{name_of_store(place)}: not a store of {run.path}", reasons)
    return own


def _read_words(place: Path | str, own: Sequence[Decision]) -> str:
    readers = len({row.reader for row in own})
    return f"decisions in {name_of_store(place)}: {len(own)}, of readers: {readers}"
