"""What the parts of the results page read from a RUN, cached until a file of it changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import login
import session

from medkd.review.crops import RingColor, draw_crop, draw_thumbnail
from medkd.review.misses import Mistakes, WrongPlace, find_mistakes
from medkd.review.opened import Review, pixels_path, read_case_scan
from medkd.review.run_readers import study_run
from medkd.review.search_cost import SearchCost, search_cost
from medkd.review.store import Decision
from medkd.review.stored_scores import ScoredSet, StoredScores, read_scores, read_searches
from medkd.review.strata import Stratum, build_lung_map, find_strata
from medkd.review.wrong_images import WrongImages, find_wrong_images
from medkd.runs import ARMS
from medkd.types import Evaluation, ReaderStudy, RunCase


def load_scores(review: Review, evaluation: Evaluation, arm: str, what: ScoredSet) -> StoredScores:
    """Return the stored scores of an arm, over which a threshold can be moved."""
    name = f"scores {arm} {what}"
    with session.stopping():
        return session.cached_scores(
            name,
            _files_of(review, arm),
            lambda: read_scores(review.run, evaluation, arm, what),
        )


def load_mistakes(review: Review, evaluation: Evaluation) -> Mistakes | None:
    """Return what the shown arm got wrong on scans; None if it was not scored on scans."""
    marks = session.load_marks(review)
    with session.stopping():
        return session.cached_scores(
            "mistakes",
            _files_of(review, session.ARM),
            lambda: find_mistakes(review.run, evaluation, marks, arm=session.ARM),
        )


def load_wrong_images(review: Review, evaluation: Evaluation) -> list[WrongImages]:
    """Return what the shown arm called wrongly on whole images, for each label; may be empty."""
    with session.stopping():
        return session.cached_scores(
            "wrong images",
            _files_of(review, session.ARM),
            lambda: find_wrong_images(review.run, evaluation, arm=session.ARM),
        )


def load_reader_study(review: Review) -> ReaderStudy:
    """Compare the readers whose decisions this reader may see."""
    history = _visible_history(review)
    name = f"readers {len(history)} {history[-1].hash if history else ''}"
    files = review.run.reference_tables
    with session.stopping():
        return session.cached_scores(name, files, lambda: study_run(review.run, history))


def load_strata(review: Review, found: Mistakes) -> list[Stratum]:
    """Return nodules and false marks by size and place."""
    files = [path for arm in ARMS for path in _files_of(review, arm)]

    def read() -> list[Stratum]:
        lungs = build_lung_map(one for arm in ARMS for one in read_searches(review.run, arm))
        return find_strata(found.findings, found.missed, found.false_marks, lungs)

    with session.stopping():
        return session.cached_scores("strata", files, read)


def load_search_costs(review: Review, arms: Sequence[str]) -> list[SearchCost]:
    """Return what the searches of whole scans took; arms that searched none are omitted."""
    folders = [review.run.result(arm, "x").parent for arm in arms]
    with session.stopping():
        costs = session.cached_scores(
            "costs",
            folders,
            lambda: [search_cost(a, read_searches(review.run, a)) for a in arms],
        )
    return [cost for cost in costs if cost is not None]


def load_crops(
    review: Review, case: RunCase, places: Sequence[WrongPlace], color: RingColor
) -> list[bytes | None]:
    """Return a small picture of each place of one scan; the scan is read once for all of them.

    Raises:
        MedkdError: if the scan cannot be read, with all reasons.
    """

    def read() -> list[bytes | None]:
        scan = read_case_scan(review, case)
        return [draw_crop(scan, one.center_mm, one.diameter_mm, color=color) for one in places]

    name = f"crops {case.case_id} {color} {[one.ring_id for one in places]}"
    return session.cached_crops(
        name, [pixels_path(review, case), *_files_of(review, session.ARM)], read
    )


def load_thumbnail(review: Review, case: RunCase) -> bytes:
    """Return a small picture of a radiograph, or of a row of a MedMNIST file.

    Raises:
        MedkdError: if it cannot be read, with all reasons.
    """

    def read() -> bytes:
        return draw_thumbnail(session.load_pixels(review, case))

    name = f"thumbnail {case.case_id} {case.split} {case.row}"
    return session.cached_crops(name, [pixels_path(review, case)], read)


def _visible_history(review: Review) -> list[Decision]:
    """Return all decisions that the reader may see, oldest first."""
    with session.stopping():
        reader = login.current_reader()
        return [one for one in session.load_store(review).history() if reader.may_see(one)]


def _files_of(review: Review, arm: str) -> list[Path]:
    """Return all files of a RUN that the scores of an arm are computed from."""
    run = review.run
    return [
        run.evaluation, run.marks(arm), run.result(arm, "x").parent,
        *run.reference_tables, run.predictions(arm, "test"),
    ]  # fmt: skip
