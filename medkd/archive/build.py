"""`medkd index` turns a folder into an INDEX in three phases, which can be killed and resumed.

1. Find: every file is classified (`find.py`).
2. Assess: every series, image and volume passes its gate and is read once, in separate processes
   (`assess.py`).
3. Join: cases are named, annotations are joined, and all tables are written at once (`join.py`,
   `tables.py`).

The results of phases 1 and 2 are kept in the work store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from medkd.archive.assess import FACTS_JSON, CaseFacts, Group, assess_groups, crashed_facts
from medkd.archive.find import find_files
from medkd.archive.settings import IndexSettings, paths_of
from medkd.archive.tables import TableWriter
from medkd.archive.work_store import KnownFile, WorkStore, opened_store
from medkd.errors import SettingsError
from medkd.files import remove_partial
from medkd.index.pseudonyms import make_private_folder, open_pseudonyms, private_folder_of
from medkd.index.table import ArchiveIndex, index_tables, read_index_record
from medkd.io.file_ref import FileRef
from medkd.io.walk import walk_files
from medkd.processes import Crashed, SafePool

FACTS_VERSION = 5
"""Increased when the same files would give other facts, or facts are stored differently."""

KINDS_VERSION = "3"
"""Increased when the same file would be classified differently."""

Progress = Callable[[str, int, int, str], None]

_TOGETHER = 16
"""Number of pictures in one task, because each is small."""


def build_archive_index(
    root: Path, out: Path, settings: IndexSettings, *, progress: Progress
) -> ArchiveIndex:
    """Index an archive; work that an earlier run finished is not repeated.

    Args:
        root: folder of the archive.
        out: the index.csv to write; other tables and the private folder are written beside it.
        settings: how to index.
        progress: called with (what, done, total, note); the total is 0 while it is unknown.

    Returns:
        The index as it was written.

    Raises:
        SettingsError: if root or out cannot be used, or a source of annotations does not exist.
        SeriesError: if another archive was indexed there, or a table cannot be used.
    """
    root, out = root.resolve(), out.resolve()
    own = partial(_is_own, out)
    _check_places(root, out, settings)
    _check_not_empty(root, own)
    private = private_folder_of(out)
    make_private_folder(private)
    remove_partial(private)
    pseudonyms = open_pseudonyms(private, settings.identity)
    with opened_store(private) as store:
        store.begin(root, _facts_settings(settings), kinds=KINDS_VERSION)

        def report(count: int) -> None:
            progress("finding files", count, 0, "")

        find_files(store, root, workers=settings.workers, skip=own, progress=report)
        total = store.count_files()
        progress("finding files", total, total, "")
        _assess(store, root, settings, progress)
        writer = TableWriter(
            store, out, ref_of=partial(ref_of, root=root, identity=settings.identity),
            settings=settings, pseudonyms=pseudonyms,
        )  # fmt: skip
        return writer.write()


def ref_of(file: KnownFile, root: Path, identity: str) -> FileRef:
    """Return the reference of a file, labelled by its path or, if paths are private, by number."""
    label = file.place if identity == "keep" else f"f{file.number:06d}"
    return FileRef(root / file.path, file.member or None, label)


def _check_places(root: Path, out: Path, settings: IndexSettings) -> None:
    reasons = []
    if not root.is_dir():
        reasons.append(f"{root}: no such folder")
    if out.suffix != ".csv":
        reasons.append(f"--out {out.name}: expected a name that ends in .csv")
    for source in settings.annotations:
        absent = [path for path in paths_of(source) if not path.exists()]
        reasons += [f"annotations, kind {source.kind}: {path}: no such file" for path in absent]
    if out.is_file() and not reasons:
        known = read_index_record(out, older=True)["identity"]
        if known != settings.identity:
            reasons.append(f"it was made with identity {known}: give another --out")
    if reasons:
        raise SettingsError(f"{root}: cannot be indexed", reasons)


def _check_not_empty(root: Path, own: Callable[[Path], bool]) -> None:
    """Refuse a folder without files, which would replace an older index by an empty one."""
    first = next(walk_files(root, skip=own), None)
    if first is None:
        raise SettingsError(
            f"{root}: nothing to index",
            ["the folder is empty: name the folder with the scans; if it is a network drive or a "
             "disk, check that it is mounted"],
        )  # fmt: skip
    if first.path == Path() and first.form == "unreadable":
        raise SettingsError(f"{root}: cannot be indexed", [f"{first.reason}: give the right to it"])


def _facts_settings(settings: IndexSettings) -> str:
    kept = settings.model_dump_json(include={"identity", "gate", "allow_images"})
    return f"{FACTS_VERSION} {kept}"


def _is_own(out: Path, path: Path) -> bool:
    """Return whether a path belongs to the index being made and not to the archive."""
    if path.parent != out.parent:
        return False
    own = {table.name for table in index_tables(out)} | {private_folder_of(out).name}
    return path.name in own or (path.name[1:].startswith(out.stem) and path.suffix == ".part")


def _assess(store: WorkStore, root: Path, settings: IndexSettings, progress: Progress) -> None:
    waiting = store.waiting()
    total = store.count_groups()
    done = total - len(waiting)
    pool = SafePool(assess_groups, settings.workers)
    for groups, results in pool.run(_tasks(store, root, settings, waiting)):
        facts = _crashed(groups) if isinstance(results, Crashed) else results
        store.add_facts(
            (group.key, FACTS_JSON.dump_json(found, exclude_defaults=True).decode(), found.crashed)
            for group, found in zip(groups, facts, strict=True)
        )
        done += len(groups)
        progress("examining cases", done, total, "")


def _tasks(
    store: WorkStore, root: Path, settings: IndexSettings, keys: list[str]
) -> Iterator[list[Group]]:
    """Yield groups to assess: one series, one volume, or a few pictures at a time."""
    pictures: list[Group] = []
    for key in keys:
        refs = tuple(ref_of(file, root, settings.identity) for file in store.files_of(key))
        hidden = () if settings.identity == "keep" else store.companions_of(key)
        group = Group(key, refs, settings.gate, settings.allow_images, hidden)
        if key.startswith(("series:", "volume:", "patch:")):
            yield [group]
            continue
        pictures.append(group)
        if len(pictures) == _TOGETHER:
            yield pictures
            pictures = []
    if pictures:
        yield pictures


def _crashed(groups: Sequence[Group]) -> Sequence[CaseFacts]:
    """Assess groups again, each in its own process, after they killed their process."""
    if len(groups) == 1:
        return [crashed_facts(groups[0].key)]
    facts: list[CaseFacts] = []
    for single, results in SafePool(assess_groups, 1).run([group] for group in groups):
        facts += _crashed(single) if isinstance(results, Crashed) else results
    return facts
