"""What `medkd review` does with a store of decisions without starting the app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medkd.cli.outputs import check_output, index_places
from medkd.cli.text import counted
from medkd.errors import SeriesError, SettingsError

if TYPE_CHECKING:
    from medkd.review.opened import Review


def without_app(
    path: str | None, store: str | None, *, export: Path | None, head: str, verify: bool
) -> None:
    """Check a store, then export its decisions.

    Args:
        path: a RUN, RESULTS, INDEX or a store; None: the only one in the current folder.
        store: the store, if it is not that of `path`.
        export: the file to write (None: none).
        head: the head of the chain that an earlier check printed (empty: none).
        verify: whether to check the whole chain.

    Raises:
        MedkdError: if the store or the output cannot be used, or a row was changed.
    """
    opened = None if store or _is_store(path) else _review_at(path)
    place: Path | str = store or (opened.decisions if opened else str(path))
    if verify:
        _verify(place, head)
    if export is not None:
        _check_export(opened, export)
        _export(place, export)


def _is_store(path: str | None) -> bool:
    if path is None or "://" in path:
        return path is not None
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as stream:
        return stream.read(15) == b"SQLite format 3"


def _review_at(path: str | None) -> Review:
    from medkd.review.launch import find_review
    from medkd.review.opened import open_review

    return open_review(Path(path) if path is not None else find_review(Path.cwd()))


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


def _export(place: Path | str, out: Path) -> None:
    from medkd.review.store import export_csv

    typer.echo(f"{export_csv(place, out)} decisions written to {out}")


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
    header = b"number,case_id,mark_id,reader,"  # of every version of medkd
    with export.open("rb") as stream:
        if stream.read(len(header)) == header:
            return
    reason = f"it is a file in {home} and not an earlier export: give another name"
    raise SettingsError(f"--export {export}: not written", [reason])
