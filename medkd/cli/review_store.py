"""What `medkd review` does with a store of decisions without starting the app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from medkd.cli.outputs import check_output, index_places
from medkd.cli.text import counted
from medkd.errors import SeriesError, SettingsError

if TYPE_CHECKING:
    from medkd.config.review_settings import ReviewSettings
    from medkd.review.consensus import Consensus
    from medkd.review.opened import Review


EARLIER_EXPORTS = (
    b"number,case_id,mark_id,reader,",
    b"seriesuid,coordX,coordY,coordZ,diameter_mm",
    b'{\n "kind": "medkd reviews"',
)
"""The beginnings of exports of every version of medkd; they may be overwritten."""


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What to do with a store.

    `path` is a RUN, RESULTS, INDEX or a store (None: the only one in the current folder), `export`
    the file to write (None: none), `head` the head that an earlier check printed (empty: none).
    """

    path: str | None
    settings: ReviewSettings
    export: Path | None
    form: str | None
    verify: bool
    head: str


def without_app(asked: StoreRequest) -> None:
    """Check a store, then export its decisions.

    Raises:
        MedkdError: if the store or the output cannot be used, or a row was changed.
    """
    from medkd.review.schemas import check_named, store_of

    store, opened = asked.settings.store, None
    if not _is_store(asked.path) and (asked.path is not None or not store):
        opened = _review_at(asked.path, store=store)
    place = store_of(opened) if opened else store or str(asked.path)
    check_named(place)
    if asked.verify:
        _verify(place, asked.head)
    if asked.export is not None:
        form = _form_of(asked.form, asked.export)
        _check_export(opened, asked.export)
        found = _consensus(place, opened, asked.settings.readers.adjudicator)
        _export(place, asked.export, form, found)


def review_settings(
    config: str | None, *, store: str | None, adjudicator: str | None, mode: str | None = None
) -> ReviewSettings:
    """Read the settings of a YAML file, and let the options replace them.

    Raises:
        SettingsError: if the file does not exist or is not valid, or no mode has that name.
    """
    from medkd.config.load import find_config, load_settings
    from medkd.config.review_settings import Mode, ReviewSettings

    settings = ReviewSettings()
    if config is not None:
        settings = load_settings(find_config(config), ReviewSettings, must_exist=True)
    readers = settings.readers
    if adjudicator is not None:
        readers = readers.model_copy(update={"adjudicator": adjudicator})
    if mode is not None and mode not in get_args(Mode):
        raise SettingsError(f"--mode {mode}: not known", [f"expected {', '.join(get_args(Mode))}"])
    update = {"store": store or settings.store, "readers": readers, "mode": mode or settings.mode}
    return settings.model_copy(update=update)


def write_reviews(stores: Sequence[str], folder: Path, *, adjudicator: str) -> list[Path]:
    """Write what the readers of each store decided together, for `medkd index`.

    Args:
        stores: stores of decisions; a JSON export is used as it is.
        folder: the private folder of the INDEX.
        adjudicator: the reader whose decision alone counts; empty: nobody.

    Returns:
        One JSON file a store; it has no notes of readers.

    Raises:
        MedkdError: if a store does not exist or cannot be read.
    """
    from medkd.files import write_text
    from medkd.review.export import consensus_json
    from medkd.review.schemas import check_named, store_of
    from medkd.review.store import verify_store

    files = []
    for number, store in enumerate(stores, start=1):
        if _is_export(store):
            files.append(Path(store))
            continue
        opened = None if _is_store(store) else _review_at(store)
        place = store_of(opened) if opened else store
        check_named(place)
        verify_store(place)  # refuses a store that does not exist
        found = _consensus(place, opened, adjudicator)
        files.append(folder / f"reviews-{number}.json")
        files[-1].touch(mode=0o600)
        write_text(files[-1], consensus_json(found))
    return files


def _consensus(place: Path | str, opened: Review | None, adjudicator: str) -> Consensus:
    """Return what the readers of a store decided together."""
    from medkd.review.consensus import find_consensus
    from medkd.review.finding import asked_finding, finding_of_store
    from medkd.review.store import read_history

    finding = asked_finding(opened) if opened else finding_of_store(str(place))
    return find_consensus(read_history(place), adjudicator=adjudicator, finding=finding)


def _is_export(path: str) -> bool:
    """Return whether a path is a file, but neither a store nor an INDEX: an export."""
    from medkd.index.table import is_index

    return not _is_store(path) and Path(path).is_file() and not is_index(Path(path))


def _is_store(path: str | None) -> bool:
    from medkd.io.file_kind import is_sqlite

    if path is None or "://" in path:
        return path is not None
    return Path(path).is_file() and is_sqlite(Path(path))


def _review_at(path: str | None, *, store: str = "") -> Review:
    from medkd.review.launch import find_review
    from medkd.review.opened import open_review

    place = Path(path) if path is not None else find_review(Path.cwd())
    return open_review(place, store=store)


def _verify(place: Path | str, head: str) -> None:
    from medkd.review.store import name_of_store, verify_store

    name, report = name_of_store(place), verify_store(place, noted=head)
    if report.fault:
        reasons = [
            report.fault,
            "keep a copy of the store as evidence, and restore it from a backup",
        ]
        raise SeriesError(f"{name}: decisions were changed outside medkd", reasons)
    typer.echo(f"{name}: {counted(report.decisions, 'decision')}, no row was changed")
    typer.echo(f"head of the chain: {report.head}")
    typer.echo("note it elsewhere, and give it to a later check: --verify --head HEAD")


def _form_of(form: str | None, export: Path) -> str:
    if form is None:
        return "json" if export.suffix.casefold() == ".json" else "csv"
    if form not in {"csv", "luna16", "json"}:
        raise SettingsError(f"--form {form}: not known", ["expected csv, luna16 or json"])
    return form


def _export(place: Path | str, out: Path, form: str, found: Consensus) -> None:
    from medkd.files import write_text
    from medkd.io.luna16_tables import write_annotations
    from medkd.review.export import consensus_json, consensus_nodules
    from medkd.review.store import export_csv, read_history

    if form == "csv":
        typer.echo(f"{export_csv(place, out)} decisions written to {out}")
        return
    history = read_history(place)
    nodules = consensus_nodules(found)
    if form == "json":
        write_text(out, consensus_json(found, history))
    else:
        write_annotations(out, nodules)
    what = f"{counted(len(nodules), 'accepted or added mark')}"
    typer.echo(f"{what} of {counted(len(history), 'decision')} written to {out}")
    if sizeless := sum(nodule.diameter_mm <= 0 for nodule in nodules):
        typer.echo(f"note: {sizeless} have no diameter: -1 is written")
    if disputed := sum(found.disputed.values()):
        typer.echo(f"note: {counted(disputed, 'disputed mark')} left out; --adjudicator NAME "
                   "decides them")  # fmt: skip


def _check_export(opened: Review | None, export: Path) -> None:
    """Refuse to overwrite a file of the review, unless it is an earlier export."""
    if opened is None:
        if _is_store(str(export)):
            raise SettingsError(f"--export {export}: not written", ["it is an SQLite database"])
        return
    if opened.kind == "INDEX":
        check_output("--export", export, index_places(opened.path))
    home = opened.home
    if not export.is_file() or home.resolve() not in export.resolve().parents:
        return
    with export.open("rb") as stream:
        beginning = stream.read(100)
    if beginning.startswith(EARLIER_EXPORTS):
        return
    reason = f"it is a file in {home} and not an earlier export: give another name"
    raise SettingsError(f"--export {export}: not written", [reason])
