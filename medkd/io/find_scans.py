"""Search for scans in files and folders by content: DICOM series and volumes.

`medkd index` classifies and groups files by the same rules (`file_kind.py`, `grouping.py`), so
`detect` and `implant` find the same cases in a folder as its INDEX has. Zip archives are not
opened here; only `medkd index` reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medkd.io.file_kind import FileKind, kind_of_file
from medkd.io.file_ref import FileRef, shown_name
from medkd.io.grouping import (
    FOLDER_CODE,
    NAMELESS_REASON,
    SliceNames,
    group_key,
    is_nameless,
    is_suspect,
    is_zip_archive,
    suspect_reasons,
)
from medkd.io.volume import VOLUME_SUFFIXES, volume_suffix
from medkd.io.walk import FoundFile, walk_files


@dataclass(frozen=True, slots=True)
class ScanPlace:
    """A scan on disk, or a path that cannot be read as a scan, with the reasons.

    Args:
        path: the volume, or the folder of the series' first file.
        files: the volume, or every file of the series, which may be in several folders; empty if
            no file of a scan was found at `path`.
        seriesuid: SeriesInstanceUID, or a substitute if the slices have none; empty if it is not a
            DICOM series.
        reasons: why it cannot be read or may be incomplete, each "code: text".
    """

    path: Path
    files: tuple[Path, ...] = ()
    seriesuid: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of its files, sorted."""
        return tuple(sorted({file.parent for file in self.files}))


@dataclass(frozen=True, slots=True)
class FoundPlaces:
    """The scans and radiographs (one file each) that were found, sorted by path."""

    scans: tuple[ScanPlace, ...] = ()
    images: tuple[Path, ...] = ()


@dataclass(slots=True)
class _Sorted:
    """Files by their type; `suspects` are files that may be damaged slices."""

    series: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    uids: dict[str, str] = field(default_factory=dict)
    others: list[ScanPlace] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    suspects: list[tuple[Path, FileKind]] = field(default_factory=list)


def find_places(
    inputs: Sequence[Path], *, progress: Callable[[int], None] | None = None
) -> FoundPlaces:
    """Find every scan and radiograph at or below some paths.

    A series is one scan even if its files are in several folders. A path of a file is always
    returned as a scan or radiograph; if it is neither, it has `reasons`, or reading it fails.

    Args:
        inputs: existing files and folders; a file below two of them counts once.
        progress: called with the number of files examined so far.
    """
    found = _Sorted()
    for count, (path, kind, is_named) in enumerate(classified_files(inputs), start=1):
        _add(found, path, kind, is_named=is_named)
        if progress is not None:
            progress(count)
    scans = [*_series_places(found), *found.others]
    return FoundPlaces(
        tuple(sorted(scans, key=lambda place: (place.path, place.seriesuid))),
        tuple(sorted(found.images)),
    )


def find_scans(path: Path) -> tuple[Path, ...]:
    """Return the volumes and the folders of DICOM slices at or below a path, sorted.

    Args:
        path: a file or a folder.
    """
    if not path.is_dir():
        return (path,)
    found: set[Path] = set()
    for place in find_places([path]).scans:
        is_volume = place.files == (place.path,)
        found.update([place.path] if is_volume else place.folders)
    return tuple(sorted(found))


def classified_files(inputs: Iterable[Path]) -> Iterator[tuple[Path, FileKind, bool]]:
    """Yield (path, type, whether the path is itself an input) of each file at or below the inputs.

    A file below several inputs is yielded once.

    Args:
        inputs: existing files and folders.
    """
    seen: set[Path] = set()
    for start in inputs:
        is_named = not start.is_dir()
        files = [_input_file(start)] if is_named else walk_files(start, skip=lambda _: False)
        for file in files:
            path = start if is_named else start / file.path
            absolute = path.absolute()
            if absolute not in seen:
                seen.add(absolute)
                yield path, _kind_of(path, file), is_named


def _input_file(path: Path) -> FoundFile:
    if not path.is_file():
        return FoundFile(path, form="other", reason="not a regular file")
    return FoundFile(path, size=path.stat().st_size)


def _kind_of(path: Path, file: FoundFile) -> FileKind:
    if file.form:
        return FileKind(file.form, file.reason)
    return kind_of_file(FileRef(path), file.size)


def _add(found: _Sorted, path: Path, kind: FileKind, *, is_named: bool) -> None:
    if kind.form == "series":
        key = group_key(shown_name(path.as_posix()), kind)
        found.series[key].append(path)
        uid = kind.head.seriesuid if kind.head is not None else ""
        found.uids[key] = uid or key.partition(":")[2]
        if is_nameless(key):
            found.suspects.append((path, FileKind("unreadable", NAMELESS_REASON)))
    elif kind.form == "image":
        found.images.append(path)
    elif kind.form == "volume" or (volume_suffix(path) and kind.form == "unreadable"):
        # The reader of a damaged file gives better reasons; other reasons are final.
        known = kind.form == "unreadable" and not kind.reason.startswith("damaged")
        found.others.append(ScanPlace(path, (path,), reasons=(kind.reason,) if known else ()))
    elif kind.reason.startswith(FOLDER_CODE):
        found.others.append(ScanPlace(path, reasons=(kind.reason,)))
    elif kind.form == "container" and (is_named or not kind.names):
        found.others.append(ScanPlace(path, reasons=(_container_reason(kind),)))
        if is_zip_archive(kind) and not is_named:
            found.suspects.append((path, kind))
    elif is_named:
        expected = f"expected DICOM, or a volume ({', '.join(VOLUME_SUFFIXES)})"
        found.others.append(ScanPlace(path, reasons=(f"not_ct: {kind.reason}: {expected}",)))
    elif is_suspect(kind.form, kind.reason):
        found.suspects.append((path, kind))


def _container_reason(kind: FileKind) -> str:
    what = "name its folder instead" if kind.names else "unpack it"
    return f"not_ct: {kind.reason}: {what}, or index it first: medkd index"


def _series_places(found: _Sorted) -> Iterator[ScanPlace]:
    """Yield every series; it has reasons if a file beside it may be one of its slices, damaged."""
    beside: dict[Path, list[tuple[Path, FileKind]]] = defaultdict(list)
    for path, kind in found.suspects:
        beside[path.parent].append((path, kind))
    claimed = {path for key, files in found.series.items() if is_nameless(key) for path in files}
    for key, files in found.series.items():
        place = ScanPlace(min(files).parent, tuple(sorted(files)), found.uids[key])
        suspects = [] if is_nameless(key) else list(_suspects(place, beside))
        claimed.update(path for path, _ in suspects)
        named = ((shown_name(path.name), kind.reason) for path, kind in suspects)
        yield replace(place, reasons=suspect_reasons(named))
    for folder, suspects in sorted(beside.items()):
        others = [(p, k) for p, k in suspects if p not in claimed and _is_slice(p, k)]
        if others:
            reasons = tuple(f"unreadable: {shown_name(p.name)}: {k.reason}" for p, k in others)
            yield ScanPlace(folder, tuple(sorted(p for p, _ in others)), reasons=reasons)


def _suspects(
    place: ScanPlace, beside: Mapping[Path, list[tuple[Path, FileKind]]]
) -> Iterator[tuple[Path, FileKind]]:
    for folder in place.folders:
        names = SliceNames(file.name for file in place.files if file.parent == folder)
        for path, kind in beside.get(folder, ()):
            if names.may_be_slice(path.name, kind.form, kind.reason):
                yield path, kind


def _is_slice(path: Path, kind: FileKind) -> bool:
    """Return whether the content or the name of a file without a series is that of a slice."""
    is_named = path.suffix.lower() in (".dcm", ".dicom", ".ima")
    return kind.reason.startswith("damaged_dicom") or (is_named and kind.form == "unreadable")
