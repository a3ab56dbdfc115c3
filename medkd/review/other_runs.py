"""The other runs beside a RUN, with which it can be compared."""

from __future__ import annotations

from medkd.io.luna16_tables import read_seriesuids
from medkd.runs import RunFolder, read_cases


def find_other_runs(run: RunFolder) -> list[RunFolder]:
    """List the evaluated runs in the folder that contains a run, by name.

    What this account may not read is omitted.
    """
    own = run.path.resolve()
    try:
        beside = sorted(own.parent.iterdir())
    except PermissionError:
        return []
    return [RunFolder(path) for path in beside if path != own and _is_evaluated(RunFolder(path))]


def read_test_cases(run: RunFolder) -> list[str]:
    """Read the ids of the test cases: the scored scans, or the images of the worklist.

    Raises:
        SeriesError: if the table cannot be read; the error names the row.
    """
    scans = run.reference / "seriesuids.csv"
    if scans.is_file():
        return list(read_seriesuids(scans))
    return [case.case_id for case in read_cases(run.cases) if case.split == "test"]


def _is_evaluated(run: RunFolder) -> bool:
    try:
        return run.record.is_file() and run.evaluation.is_file()
    except PermissionError:
        return False
