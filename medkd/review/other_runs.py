"""The other runs beside a RUN, with which it can be compared."""

from __future__ import annotations

from medkd.io.luna16_tables import read_seriesuids
from medkd.runs import RunFolder, read_cases


def find_other_runs(run: RunFolder) -> list[RunFolder]:
    """List the evaluated runs in the folder that contains a run, by name."""
    own = run.path.resolve()
    beside = [RunFolder(path) for path in sorted(own.parent.iterdir()) if path != own]
    return [other for other in beside if other.record.is_file() and other.evaluation.is_file()]


def read_test_cases(run: RunFolder) -> list[str]:
    """Read the ids of the test cases: the scored scans, or the images of the worklist.

    Raises:
        SeriesError: if the table cannot be read; the error names the row.
    """
    scans = run.reference / "seriesuids.csv"
    if scans.is_file():
        return list(read_seriesuids(scans))
    return [case.case_id for case in read_cases(run.cases) if case.split == "test"]
