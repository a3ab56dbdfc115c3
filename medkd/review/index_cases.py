"""An INDEX as something to review: its cases as a worklist that no model has looked at.

`index.csv` gets a folder `index.review` beside it, which has the form of a RUN as far as the
viewer needs it (`cases.csv`, readers' decisions). Reference nodules and labels are read from the
INDEX itself, so that a reader can see whether annotations landed where they belong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from medkd.errors import SeriesError, SettingsError
from medkd.index.case import Case
from medkd.index.scan_states import ScanState, label_values, scan_states
from medkd.index.table import ArchiveIndex, read_index
from medkd.review.cases import RUN_HINT, check_run
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
        SettingsError: if it is another table.
        SeriesError: if it is no INDEX that can be read, or the worklist cannot be written.
    """
    _check_table(index)
    archive = read_index(index)
    run = RunFolder(index.with_suffix(FOLDER_SUFFIX))
    placed = {nodule.seriesuid for nodule in archive.nodules if nodule.counts_as == "included"}
    words = f"../{index.name}"
    try:
        write_cases(run.cases, [_run_case(case, words, placed) for case in archive.cases])
    except OSError as error:
        remedy = (
            f"the worklist and the decisions are kept beside the INDEX: ask for the right to write "
            f"in {index.resolve().parent}, make room there, or make the INDEX in another folder"
        )
        raise SeriesError(f"{run.path}: cannot be written", [str(error), remedy]) from error
    return run


def _check_table(table: Path) -> None:
    if table.name == RunFolder(table.parent).cases.name:
        reasons = [f"give the folder {table.parent}", RUN_HINT]
        raise SettingsError(f"{table}: the worklist of a run, not an INDEX", reasons)
    if table.is_file() and not table.with_suffix(".json").exists():
        with table.open(encoding="utf-8", errors="replace") as stream:
            first = stream.readline(200).strip()
        if not first.startswith("case_id,"):
            raise SettingsError(
                f"{table}: not an INDEX", [f"its first line is {first!r}", RUN_HINT]
            )


def open_review(place: Path) -> RunFolder:
    """Return what shall be reviewed: the folder of a RUN, or that of an INDEX.

    Raises:
        SettingsError: if it is neither.
        SeriesError: if it is an INDEX that cannot be read.
    """
    is_table = place.suffix.lower() == ".csv" and not place.is_dir()
    return open_index(place) if is_table else check_run(place)


def is_index(run: RunFolder) -> bool:
    """Whether a folder is the one that `open_index` made; a run may have a name like it."""
    return run.path.suffix == FOLDER_SUFFIX and not run.config.is_file()


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


@dataclass(frozen=True, slots=True)
class NoduleFact:
    """What is known of a scan's nodules: how many have a place (None: not known), and in words."""

    count: int | None
    words: str


def nodule_facts(archive: ArchiveIndex) -> dict[str, NoduleFact]:
    """Say what is known of the nodules of each scan: one that nobody annotated may have some.

    Returns:
        Case id of every scan to what is known.
    """
    scans = [case for case in archive.cases if case.kind == "scan"]
    known = label_values(archive.labels, ["nodule"])
    counts = Counter(n.seriesuid for n in archive.nodules if n.counts_as == "included")
    states = scan_states(scans, archive.nodules, known=known)
    return {
        name: NoduleFact(counts[name] if state in {"nodules", "free"} else None, STATE_WORDS[state])
        for name, state in states.items()
    }


def synthetic_words(case: Case) -> str:
    """Say that a case is synthetic and what made it; empty for a patient's case."""
    if not case.synthetic and not case.generator:
        return ""
    return f"synthetic: {case.generator}" if case.generator else "synthetic"


STATE_WORDS: dict[ScanState, str] = {
    "nodules": "nodules with their places",
    "free": "annotated, no nodule",
    "label_only": "has a nodule, place not known",
    "unannotated": "not annotated",
}


def _run_case(case: Case, path: str, placed: set[str]) -> RunCase:
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
