"""Check that a command does not overwrite its own inputs or write into an INDEX."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medkd.errors import SettingsError


def check_output(option: str, out: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an output path that would overwrite an input. Call this before writing anything.

    Args:
        option: the option of the output, such as "--json".
        out: the file to write.
        inputs: files that the command reads (None: not given), and folders that must not be
            written to.

    Raises:
        SettingsError: if `out` is one of the inputs, also through a link, or is inside one.
    """
    place = out.resolve()
    for given in inputs:
        if given is None:
            continue
        whole = given.resolve()
        if whole == place or whole in place.parents or _is_same(out, given):
            what = (
                f"it is inside {given}, which belongs to the INDEX"
                if given.is_dir()
                else f"it is {given}, an input of this command or a table of its INDEX"
            )
            reasons = [what, f"give {option} another name"]
            raise SettingsError(f"{option} {out}: not written", reasons)


def index_places(index: Path) -> tuple[Path, ...]:
    """Return the paths of all tables of an INDEX and of its private folder."""
    from medkd.index.pseudonyms import private_folder_of
    from medkd.index.table import index_tables

    return (*index_tables(index), private_folder_of(index))


def _is_same(one: Path, other: Path) -> bool:
    """Return whether two paths name the same file, for example through a link."""
    try:
        return one.samefile(other)
    except OSError:
        return False
