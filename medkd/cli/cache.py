"""`medkd cache`: show or clear the caches of prepared scans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cache")(cache)


def cache(
    folder: Annotated[
        Path, typer.Argument(help="A run, or a folder with runs; default: the current folder.")
    ] = Path(),
    clear: Annotated[bool, typer.Option("--clear", help="Delete all cache entries.")] = False,
) -> None:
    """Show the caches in a folder and its subfolders, or clear them.

    A cache holds prepared scans and radiographs. Entries that are removed are created again when
    they are needed. The configuration key `cache_gib` limits the size of a cache.

    Example: `medkd cache runs --clear`
    """
    from medkd.data.cache_folder import find_caches
    from medkd.errors import SettingsError

    if not folder.is_dir():
        raise SettingsError(f"{folder}: no such folder", ["expected a run or a folder with runs"])
    total, number = 0, 0
    for found in find_caches(folder):
        entries = found.entries()
        size = sum(entry.size_bytes for entry in entries)
        total, number = total + size, number + 1
        if clear:
            found.clear()
        word = "removed" if clear else "holds"
        typer.echo(f"{found.path}: {word} {_entry_words(len(entries))}, {_size_words(size)}")
    if number == 0:
        typer.echo(f"no cache in {folder.resolve()} or below it")
    elif number > 1:
        typer.echo(f"{number} caches: {_size_words(total)}")


def _size_words(size_bytes: int) -> str:
    if size_bytes < 2**30:
        return f"{size_bytes / 2**20:.1f} MiB"
    return f"{size_bytes / 2**30:.2f} GiB"


def _entry_words(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"
