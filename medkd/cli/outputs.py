"""Where a command may not write: over its own inputs, or into an INDEX."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medkd.errors import SettingsError


def check_output(option: str, out: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse an output that would replace what the command reads; call it before any writing.

    Args:
        option: that names the output, such as "--json".
        out: the file to write.
        inputs: files that the command reads (None: not given), and folders that nothing may be
            written into.

    Raises:
        SettingsError: if it is one of the inputs, under whatever name, or lies in one.
    """
    place = out.resolve()
    for given in inputs:
        if given is None:
            continue
        whole = given.resolve()
        if whole == place or whole in place.parents or _is_same(out, given):
            what = (
                f"it lies in {given}, which is the INDEX's alone"
                if given.is_dir()
                else f"it is {given}, an input of this command or a table of its INDEX"
            )
            reasons = [what, f"give {option} another name"]
            raise SettingsError(f"{option} {out}: not written", reasons)


def index_places(index: Path) -> tuple[Path, ...]:
    """Return every table of an INDEX, and its private folder."""
    from medkd.index.pseudonyms import private_folder_of
    from medkd.index.table import index_tables

    return (*index_tables(index), private_folder_of(index))


def _is_same(one: Path, other: Path) -> bool:
    """Say whether two names are of one file: by a link, or where case does not matter."""
    try:
        return one.samefile(other)
    except OSError:
        return False
