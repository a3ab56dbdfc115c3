"""An INDEX as something to review: its cases as a worklist that no model has looked at.

`index.csv` gets a folder `index.review` beside it, which has the form of a RUN as far as the
viewer needs it (`cases.csv`, readers' decisions). Reference nodules and labels are read from the
INDEX itself, so that a reader can see whether annotations landed where they belong.
"""

from __future__ import annotations

from pathlib import Path

from medkd.io.index_table import ArchiveIndex, IndexedCase, read_index
from medkd.review.cases import check_run
from medkd.runs import RunFolder, write_cases
from medkd.types import RunCase

FOLDER_SUFFIX = ".review"


def open_index(index: Path) -> RunFolder:
    """Write the worklist of an INDEX beside it, as the INDEX is now.

    Args:
        index: index.csv.

    Returns:
        The folder `index.review`; decisions that stand in it are kept.

    Raises:
        SeriesError: if it is no INDEX that can be read.
    """
    archive = read_index(index)
    run = RunFolder(index.with_suffix(FOLDER_SUFFIX))
    placed = {nodule.seriesuid for nodule in archive.nodules if nodule.counts_as == "included"}
    words = f"../{index.name}"
    write_cases(run.cases, [_run_case(case, words, placed) for case in archive.cases])
    return run


def open_review(place: Path) -> RunFolder:
    """Return what shall be reviewed: the folder of a RUN, or that of an INDEX.

    Raises:
        SettingsError: if it is neither.
        SeriesError: if it is an INDEX that cannot be read.
    """
    return open_index(place) if place.suffix == ".csv" else check_run(place)


def is_index(run: RunFolder) -> bool:
    """Whether a folder is the one that `open_index` made."""
    return run.path.suffix == FOLDER_SUFFIX


def index_of(run: RunFolder) -> Path:
    """Return the index.csv that a folder of `open_index` belongs to."""
    return run.path.with_suffix(".csv")


def label_rows(archive: ArchiveIndex, case_id: str) -> list[tuple[str, str, str]]:
    """Say each label of a case in words: name, present / absent / not known, source."""
    words = {1: "present", 0: "absent", None: "not known"}
    return [
        (label.name, words[label.value], label.source)
        for label in archive.labels
        if label.case_id == case_id
    ]


def _run_case(case: IndexedCase, path: str, placed: set[str]) -> RunCase:
    return RunCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        kind=case.kind,
        path=path,
        split=case.origin,
        row=None,
        label=1 if case.case_id in placed else None,
        score=None,
        status="analysed" if case.status == "ready" else "not_analysed",
        reasons=case.reasons,
    )
