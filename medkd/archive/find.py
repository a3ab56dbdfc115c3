"""Find and classify every file of an archive, in batches, into the work store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from medkd.archive.work_store import ClassifiedFile, WorkStore, place_of
from medkd.io.file_kind import FileKind, kind_of_file
from medkd.io.file_ref import FileRef
from medkd.io.grouping import group_key
from medkd.io.reference import OBJECT_KINDS
from medkd.io.walk import FoundFile, foreign_zip, walk_files, zip_members
from medkd.processes import Crashed, SafePool

BATCH = 200
"""Number of files that are classified and stored at once; a kill loses at most these."""

_NO_SIZE = -1
"""Stored as the size of a file that the next run must examine again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Files to classify: below `root`."""

    root: Path
    files: tuple[FoundFile, ...]


def find_files(
    store: WorkStore,
    root: Path,
    *,
    workers: int,
    skip: Callable[[Path], bool],
    progress: Callable[[int], None],
) -> None:
    """Bring the store up to date with the archive.

    Args:
        store: receives the files, batch by batch.
        root: the archive.
        workers: number of processes.
        skip: says whether an absolute path belongs to medkd itself.
        progress: called with the number of files so far.
    """
    pool = SafePool(classify_batch, workers)
    fresh = _fresh_batches(store, root, skip, progress)
    for batch, result in pool.run(fresh):
        files = _crashed(batch) if isinstance(result, Crashed) else result
        zips = [file for file in files if file.form == "container" and not file.reason]
        # A zip archive is stored after its members: a kill in between would lose the members.
        store.add_files(file for file in files if file not in zips)
        for file in zips:
            _add_zip(store, root, file)
    store.end_walk()


def classify_batch(batch: Batch) -> list[ClassifiedFile]:
    """Say what each file of a batch is."""
    return [_classified(batch.root, found) for found in batch.files]


def _fresh_batches(
    store: WorkStore,
    root: Path,
    skip: Callable[[Path], bool],
    progress: Callable[[int], None],
) -> Iterator[Batch]:
    """Yield the files that are not known yet, and mark the others as seen."""
    fresh: list[FoundFile] = []
    count = 0
    for files in _batched(walk_files(root, skip=skip)):
        same = store.unchanged(files)
        fresh += [file for file in files if file not in same]
        while len(fresh) >= BATCH:
            yield Batch(root, tuple(fresh[:BATCH]))
            del fresh[:BATCH]
        count += len(files)
        progress(count)
    if fresh:
        yield Batch(root, tuple(fresh))


def _classified(root: Path, found: FoundFile) -> ClassifiedFile:
    if found.form:
        return ClassifiedFile(found, found.form, found.reason)
    kind = kind_of_file(FileRef(root / found.path, found.member or None), found.size)
    if kind.form == "container":
        return _container(root, found, kind)
    key = group_key(place_of(found.path, found.member), kind)
    head = kind.head if key else None
    form: str = kind.form
    if kind.head is not None and form == "annotation":
        form = OBJECT_KINDS[kind.head.sop_class]
    return ClassifiedFile(found, form, kind.reason, key, kind.companion, head)


def _container(root: Path, found: FoundFile, kind: FileKind) -> ClassifiedFile:
    """Classify a container; only a zip archive whose members must be read gets no reason."""
    if kind.names:
        folder = root / found.path.parent
        absent = [] if found.member else [n for n in kind.names if not (folder / n).exists()]
        absence = f"; {len(absent)} of {len(kind.names)} files that it lists are absent"
        again = replace(found, size=_NO_SIZE)  # the files that it lists may change without it
        return ClassifiedFile(again, "container", kind.reason + (absence if absent else ""))
    if found.member or "zip" not in kind.reason:
        nested = "a zip archive inside a zip archive: unpack it"
        reason = nested if "zip" in kind.reason else kind.reason
        return ClassifiedFile(found, "container", reason)
    try:
        foreign = foreign_zip(root, found.path)
    except Exception as error:  # noqa: BLE001  # zipfile raises many types for broken archives
        return ClassifiedFile(found, "unreadable", _damaged_zip(error))
    return ClassifiedFile(found, "other" if foreign else "container", foreign)


def _add_zip(store: WorkStore, root: Path, file: ClassifiedFile) -> None:
    try:
        members = list(zip_members(root, file.found.path))
    except Exception as error:  # noqa: BLE001  # zipfile raises many types for broken archives
        store.add_files([_with(file, "unreadable", _damaged_zip(error))])
        return
    for batch in _batched(members):
        store.add_files(classify_batch(Batch(root, batch)))
    store.add_files([_with(file, "container", f"a zip archive of {len(members)} files")])


def _with(file: ClassifiedFile, form: str, reason: str) -> ClassifiedFile:
    return ClassifiedFile(file.found, form, reason)


def _crashed(batch: Batch) -> list[ClassifiedFile]:
    """Classify files again, one by one in separate processes, after they killed their process."""
    if len(batch.files) == 1:
        again = replace(batch.files[0], size=_NO_SIZE)
        return [ClassifiedFile(again, "unreadable", "damaged_file: reading its beginning crashes")]
    alone = SafePool(classify_batch, 1)
    files: list[ClassifiedFile] = []
    for single, result in alone.run(Batch(batch.root, (file,)) for file in batch.files):
        files += _crashed(single) if isinstance(result, Crashed) else result
    return files


def _batched(files: Iterable[FoundFile]) -> Iterator[tuple[FoundFile, ...]]:
    waiting = iter(files)
    while batch := tuple(islice(waiting, BATCH)):
        yield batch


def _damaged_zip(error: Exception) -> str:
    return f"damaged_zip: it cannot be opened ({type(error).__name__})"
