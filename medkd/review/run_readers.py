"""The readers of a RUN: their decisions in its store, compared with its reference standard."""

from __future__ import annotations

from collections.abc import Sequence

from medkd.review.agreement import study_readers
from medkd.review.decision import Decision
from medkd.review.store import open_store
from medkd.review.stored_scores import read_reference
from medkd.runs import RunFolder
from medkd.types import ReaderStudy


def read_reader_study(run: RunFolder) -> ReaderStudy | None:
    """Read what the readers decided; None without a store, or if there is nothing to report.

    Only the store in the run itself is read, and none is created.

    Raises:
        MedkdError: if the store or the reference standard cannot be read, with all reasons.
    """
    if not run.review.is_file():
        return None
    store = open_store(run.review)
    try:
        study = study_run(run, store.history())
    finally:
        store.close()
    return study if study.points or study.pairs else None


def study_run(run: RunFolder, history: Sequence[Decision]) -> ReaderStudy:
    """Compare the readers of a run with each other and with its reference standard.

    Args:
        run: the run; without a reference standard no reader has a point.
        history: the decisions to compare, oldest first.

    Raises:
        MedkdError: if the reference standard cannot be read.
    """
    return study_readers(history, read_reference(run))
