"""The scans among the inputs of a command: files, folders of scans, or an INDEX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medkd.errors import SeriesError, SettingsError
from medkd.index.case import Case
from medkd.index.table import is_index, read_index
from medkd.io.dicom.scope import generator_of_files
from medkd.io.file_ref import shown_name
from medkd.io.find_scans import FoundPlaces, ScanPlace, find_places
from medkd.io.remedies import with_option
from medkd.io.synthetic_mark import stamp_of
from medkd.io.volume import VOLUME_SUFFIXES, volume_suffix


@dataclass(frozen=True)
class ScanInput:
    """A scan: one on disk (`place`), or with `case` that scan of the INDEX at `path`."""

    path: Path
    case: Case | None = None
    place: ScanPlace | None = None

    @property
    def name(self) -> str:
        """What the scan is called: the INDEX's case, its series, or its file."""
        if self.case is not None:
            return self.case.case_id
        if self.place is not None and self.place.seriesuid:
            return self.place.seriesuid
        name = self.path.name
        return shown_name(name[: len(name) - len(volume_suffix(self.path))])

    @property
    def files(self) -> tuple[Path, ...]:
        """The files on disk that it is read from."""
        return self.place.files if self.place is not None else (self.path,)

    @property
    def synthetic(self) -> bool:
        """Whether `medkd phantom` made the scan or `medkd implant` made its nodules."""
        return bool(self.generator)

    @cached_property
    def generator(self) -> str:
        """The stamp of the program that made it; empty for a scan that is not synthetic."""
        if self.case is not None:
            return self.case.stamp
        return stamp_of(self.path, seriesuid=self.name) or self._headed()

    def _headed(self) -> str:
        """Return the stamp in the headers of a DICOM series; copies of the series keep it."""
        is_series = self.place is not None and self.place.seriesuid
        return generator_of_files(self.files) if is_series else ""


def refusal_of(given: ScanInput, error: SeriesError) -> SeriesError:
    """Add the path of a scan on disk to its refusal, and the option that would accept the scan.

    Args:
        given: a scan that does not come from an INDEX.
        error: why it cannot be read.
    """
    files = len(given.place.files) if given.place is not None else 0
    where = f"in {given.path} ({files} files)" if files > 1 else f"in {given.path}"
    reasons = with_option(error.reasons or (error.headline,))
    return SeriesError(f"{given.path}: not analysed", (*reasons, where))


@dataclass(frozen=True, slots=True)
class ScanInputs:
    """The scans found; `left_out` counts the radiographs among the inputs."""

    scans: tuple[ScanInput, ...]
    left_out: int = 0


def list_inputs(inputs: Sequence[Path]) -> list[ScanInput]:
    """List the scans at or below the inputs, each once; see `find_inputs`."""
    return list(find_inputs(inputs).scans)


def find_inputs(
    inputs: Sequence[Path],
    *,
    headline: str = "the inputs cannot be searched",
    ready_only: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ScanInputs:
    """Find the scans at or below the inputs, each once, and count the radiographs.

    Args:
        inputs: files, folders, or an INDEX; a series in several of them is one scan.
        headline: first line of a refusal.
        ready_only: leave out scans of an INDEX that are not ready.
        progress: called with the number of files looked at so far.

    Raises:
        SettingsError: naming every input that does not exist or contains no scan.
        SeriesError: if an INDEX cannot be read.
    """
    indexes = [place for place in inputs if is_index(place)]
    on_disk = [place for place in inputs if place.exists() and place not in indexes]
    found = find_places(on_disk, progress=progress)
    listed = {index: _indexed(index, ready_only=ready_only) for index in indexes}
    reasons = [_absence(p, found, listed) for p in inputs]
    if any(reasons):
        raise SettingsError(headline, filter(None, reasons))
    scans = [ScanInput(place.path, place=place) for place in found.scans]
    scans += [scan for index in listed for scan in listed[index]]
    return ScanInputs(tuple(scans), len(found.images))


def _indexed(index: Path, *, ready_only: bool) -> list[ScanInput]:
    scans = (case for case in read_index(index).cases if case.kind == "scan")
    return [ScanInput(index, case) for case in scans if case.status == "ready" or not ready_only]


def _absence(given: Path, found: FoundPlaces, listed: dict[Path, list[ScanInput]]) -> str:
    """Say why an input contains no scan; empty if it contains one."""
    if not given.exists():
        return f"{given}: no such place"
    if given in listed:
        reason = "no scan in it that can be used: medkd check says what it holds"
        return "" if listed[given] else f"{given}: {reason}"
    files = (file for place in found.scans for file in (place.path, *place.files))
    if any(file == given or given in file.parents for file in files):
        return ""
    expected = f"expected DICOM CT, or volumes ({', '.join(VOLUME_SUFFIXES)})"
    images = sum(image == given or given in image.parents for image in found.images)
    reason = f"{images} radiographs and no scan in it" if images else "no scan in it"
    return f"{given}: {reason}; {expected}: name the folder that holds them"
