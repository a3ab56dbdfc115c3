"""The scans that a command is given: paths, folders of scans, or an INDEX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medkd.errors import SettingsError
from medkd.io.index_table import IndexedCase, read_index
from medkd.io.scans import find_scans
from medkd.io.synthetic_mark import not_stated, stamp_of


@dataclass(frozen=True, slots=True)
class ScanInput:
    """A scan: a path, or with `case` the scan of the INDEX (.csv) at that path."""

    path: Path
    case: IndexedCase | None = None

    @property
    def synthetic(self) -> bool:
        """Whether `medkd phantom` made the scan, or `medkd implant` its nodules."""
        return bool(self.generator)

    @property
    def generator(self) -> str:
        """The stamp of what made it, empty for a scan that is not synthetic."""
        if self.case is None:
            return stamp_of(self.path)
        return self.case.generator or (not_stated() if self.case.synthetic else "")


def list_inputs(
    inputs: Sequence[Path],
    *,
    headline: str = "the inputs cannot be searched",
    ready_only: bool = False,
) -> list[ScanInput]:
    """List the scans at or below the inputs, each once; radiographs of an INDEX are left out.

    Args:
        inputs: scans, folders, or an INDEX.
        headline: what a refusal says first.
        ready_only: leave out the scans of an INDEX that are not ready.

    Raises:
        SettingsError: with every input that is absent or holds no scan.
        SeriesError: if an INDEX cannot be read.
    """
    found: dict[tuple[Path, str], ScanInput] = {}
    reasons = []
    for place in inputs:
        scans = _scans_at(place, ready_only=ready_only) if place.exists() else []
        if not scans:
            reasons.append(f"{place}: {'no scan in it' if place.exists() else 'no such place'}")
        found |= {(s.path, s.case.case_id if s.case else ""): s for s in scans}
    if reasons:
        raise SettingsError(headline, reasons)
    return list(found.values())


def _scans_at(place: Path, *, ready_only: bool) -> list[ScanInput]:
    if place.suffix != ".csv":
        return [ScanInput(path) for path in find_scans(place)]
    scans = (case for case in read_index(place).cases if case.kind == "scan")
    return [ScanInput(place, case) for case in scans if case.status == "ready" or not ready_only]
