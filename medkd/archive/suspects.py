"""Files of an archive that may be damaged slices of a series beside them (`io/grouping.py`).

They are searched when the tables are written, not when a series is assessed: a file that is added,
removed or repaired then changes the refusal of its neighbours without reading their pixels again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from medkd.archive.work_store import KnownFile, WorkStore
from medkd.io.file_ref import FileRef
from medkd.io.grouping import (
    NAMELESS_REASON,
    SliceNames,
    is_nameless,
    is_suspect,
    suspect_reasons,
)


class Suspects:
    """The suspect files of one archive.

    Args:
        store: every file, classified.
        ref_of: returns a file's reference, which names it in messages.
    """

    def __init__(self, store: WorkStore, ref_of: Callable[[KnownFile], FileRef]) -> None:
        self._store = store
        self._ref_of = ref_of
        self._beside: dict[PurePosixPath, list[tuple[KnownFile, str]]] = defaultdict(list)
        for file, reason in self._all():
            self._beside[PurePosixPath(file.place).parent].append((file, reason))

    def reasons(self, key: str) -> tuple[str, ...]:
        """Return why a group is refused because of files beside its own; empty if it is not."""
        if not self._beside or not key.startswith("series:") or is_nameless(key):
            return ()
        names: dict[PurePosixPath, list[str]] = defaultdict(list)
        for file in self._store.files_of(key):
            place = PurePosixPath(file.place)
            if place.parent in self._beside:
                names[place.parent].append(place.name)
        return suspect_reasons(
            (self._ref_of(file).name, reason)
            for folder, slices in names.items()
            for file, reason in self._fitting(folder, SliceNames(slices))
        )

    def _all(self) -> Iterator[tuple[KnownFile, str]]:
        for form in ("unreadable", "other"):
            for file in self._store.files(form):
                if is_suspect(form, file.reason):
                    yield file, file.reason
        for key in filter(is_nameless, self._store.groups()):
            yield from ((file, NAMELESS_REASON) for file in self._store.files_of(key))

    def _fitting(
        self, folder: PurePosixPath, slices: SliceNames
    ) -> Iterator[tuple[KnownFile, str]]:
        for file, reason in self._beside[folder]:
            if slices.may_be_slice(PurePosixPath(file.place).name, file.form, reason):
                yield file, reason
