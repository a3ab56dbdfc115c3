"""The cases of a data set, known before any pixel is used, and how to read the pixels of one.

Candidates of a scan are separate samples in `datasets.py`. Names of patients are never kept. If a
set names no patients, each case counts as one patient.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medkd.errors import SeriesError
from medkd.index.case import Case as Case  # the one record of a case, beside its `CaseIndex`
from medkd.index.case_store import locate_case, open_scan
from medkd.io.scans import read_scan
from medkd.types import LabelledCandidate, Nodule, Scan


@dataclass(frozen=True, slots=True, eq=False)
class CaseIndex:
    """Everything known of a data set without its pixels.

    `labels` says for each case whether it is positive (an included nodule in the scan; a
    positive label, or the class number, of the image); a case that it does not hold has no known
    label. Nodules, excluded findings and candidates are in LPS mm. `label_names` has one name a
    label output. `refused` are cases of an archive that are not analysed.
    """

    name: str
    cases: tuple[Case, ...]
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    candidates: tuple[LabelledCandidate, ...]
    labels: dict[str, int]
    label_names: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()
    refused: tuple[Case, ...] = ()

    @property
    def generators(self) -> tuple[str, ...]:
        """The stamps of what made its synthetic cases, each once."""
        return tuple(sorted({case.generator for case in self.cases if case.generator}))

    @property
    def synthetic(self) -> bool:
        """Whether any case is synthetic."""
        return bool(self.generators)

    def by_id(self) -> dict[str, Case]:
        """Return the cases by their id."""
        return {case.case_id: case for case in self.cases}


Told = Callable[[int, int], None]
"""Called with (cases made so far, cases in all) while a data set is being made."""


def ignore(_done: int, _total: int) -> None:
    """Report nothing."""


class CaseSource(Protocol):
    """A source of cases: the settings of a data set, which can read what the set holds."""

    def read_cases(self, work_dir: Path, told: Told = ignore, /) -> CaseIndex:
        """Read what the set holds, without any pixel.

        Args:
            work_dir: where a set that is made on first use is written, below `data/`.
            told: reports progress.

        Raises:
            SettingsError: if a path names an unknown or unset environment variable, or nothing.
            SeriesError: if the set is broken, with every reason.
        """


def read_scan_of(case: Case) -> Scan:
    """Read a scan under the names that its case has.

    Raises:
        SeriesError: with every reason why it cannot be read.
    """
    if case.archived:
        return open_scan(case.path, case.case_id)
    return read_scan(case.path, seriesuid=case.case_id, patient_id=case.patient_id)


def file_states(case: Case) -> list[list[str | int]]:
    """Return path, size and time of change of every file that a scan is read from.

    Use it for keys of caches and only as a hash, since a path of an archive may contain a name. A
    digest of the pixels is not enough: a corrected header moves the same pixels to another place.

    Raises:
        SeriesError: if the case is not known or a file is gone.
    """
    files: Iterable[Path]
    if case.archived:
        files = [ref.path for ref in locate_case(case.path, case.case_id).refs]
    elif case.path.is_dir():
        files = case.path.iterdir()
    else:
        files = case.path.parent.glob(f"{glob.escape(case.path.stem)}.*")
    try:
        states = [(str(file.resolve()), file.stat()) for file in sorted(set(files))]
    except OSError as error:
        reason = f"a file of it cannot be found any more: {type(error).__name__}"
        raise SeriesError(f"{case.case_id}: cannot be read", [reason]) from None
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]
