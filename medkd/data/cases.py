"""The cases of a data set, listed without reading pixels, and how to read the scan of a case.

The candidates of a scan become separate samples in `datasets.py`. Names of patients are never
stored. If a data set names no patients, each case counts as one patient.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from medkd.errors import SeriesError
from medkd.index.case import Case as Case  # the one record of a case, beside its `CaseIndex`
from medkd.index.case_store import locate_case, open_scan
from medkd.io.scans import read_scan
from medkd.types import LabelledCandidate, Nodule, Scan


@dataclass(frozen=True, slots=True, eq=False)
class CaseIndex:
    """The facts of a data set that are available without reading pixels.

    `labels` maps case ids to labels: 1 for a scan with an included nodule or a positive image,
    otherwise 0; in a multi-class set, the class number. A case without an entry has no known label.
    `several` are the values of each label of archived images with several labels (None: unknown);
    `labels` then say whether any known one is 1.
    Nodules, excluded findings and candidates are in LPS mm. `label_names` has one name per label,
    or one per class of a multi-class set, whose labels are `exclusive`: each case has one of them.
    Otherwise labels are independent: a case may have several or none. `refused` are the cases of an
    archive that are not analysed. `negatives` are marks that readers rejected: known negatives with
    label 0, which training does not drop.
    """

    name: str
    cases: tuple[Case, ...]
    labels: dict[str, int]
    label_names: tuple[str, ...]
    fingerprint: str
    nodules: tuple[Nodule, ...] = ()
    excluded: tuple[Nodule, ...] = ()
    candidates: tuple[LabelledCandidate, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[Case, ...] = ()
    negatives: tuple[LabelledCandidate, ...] = ()
    several: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    exclusive: bool = False

    @property
    def generators(self) -> tuple[str, ...]:
        """The generators of its synthetic cases, each once."""
        return tuple(sorted({case.generator for case in self.cases if case.generator}))

    @property
    def synthetic(self) -> bool:
        """Whether any case is synthetic."""
        return bool(self.generators)

    def by_id(self) -> dict[str, Case]:
        """Return the cases by their id."""
        return {case.case_id: case for case in self.cases}


T = TypeVar("T")

OnProgress = Callable[[int, int], None]
"""Called with (cases done, total)."""


class CaseSource(Protocol):
    """A source of cases: the settings of a data set. `medkd.config` chooses among the kinds."""

    def read_cases(self, work_dir: Path, progress: OnProgress | None = None, /) -> CaseIndex:
        """List the cases of the data set without reading pixels.

        Args:
            work_dir: a data set that is written on first use is written to `work_dir/data`.
            progress: called for each case that is written.

        Raises:
            SettingsError: if a path does not exist or names an unset environment variable.
            SeriesError: if the data set is broken, with every reason.
        """


def process_cases(
    work: Callable[[Case], T],
    cases: Sequence[Case],
    *,
    headline: str,
    progress: OnProgress | None = None,
) -> list[T]:
    """Run a function on many cases in a few threads; a refused case does not stop the others.

    Args:
        work: the function; it may raise SeriesError.
        cases: the cases.
        headline: headline of the error if cases are refused.
        progress: called with (cases done, total).

    Raises:
        SeriesError: lists every refused case with its reasons.
    """

    def attempt(case: Case) -> T | SeriesError:
        try:
            return work(case)
        except SeriesError as refusal:
            return refusal

    results: list[T] = []
    reasons: list[str] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            found = zip(cases, pool.map(attempt, cases), strict=True)
            for done, (case, result) in enumerate(found, start=1):
                if isinstance(result, SeriesError):
                    why = result.reasons or (result.headline,)
                    reasons += [f"{case.case_id}: {reason}" for reason in why]
                else:
                    results.append(result)
                if progress is not None:
                    progress(done, len(cases))
        finally:  # an interruption does not wait for cases that have not begun
            pool.shutdown(wait=False, cancel_futures=True)
    if reasons:
        raise SeriesError(headline, reasons)
    return results


def read_scan_of(case: Case) -> Scan:
    """Read the scan of a case; its seriesuid and patient_id are those of the case.

    Raises:
        SeriesError: lists all reasons why it cannot be read.
    """
    if case.archived:
        return open_scan(case.path, case.case_id)
    return read_scan(case.path, seriesuid=case.case_id, patient_id=case.patient_id)


def file_states(case: Case) -> list[list[str | int]]:
    """Return path, size and modification time of all files of a scan, for keys of caches.

    Store only a hash of it, because a path in an archive may contain a name. A digest of the
    pixels is not enough, because a corrected header moves the same pixels to another position.

    Raises:
        SeriesError: if the case is unknown or a file is missing.
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
        reason = f"one of its files can no longer be found: {type(error).__name__}"
        raise SeriesError(f"{case.case_id}: cannot be read", [reason]) from None
    return [[name, state.st_size, state.st_mtime_ns] for name, state in states]
