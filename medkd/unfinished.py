"""A folder that takes long to fill: it survives a kill, and gets its name when it is whole.

    .NAME.unfinished/purpose.txt    what it is to become
    .NAME.unfinished/kept/          one JSON for each finished piece
    .NAME.unfinished/set/           the folder itself, renamed to NAME at the end

Pieces are finished in any order. The same purpose goes on with what is there; another purpose
begins anew, since what is there belongs to something else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medkd.files import blamed_on, remove_partial, write_text


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A folder that is being filled."""

    home: Path

    @property
    def folder(self) -> Path:
        """The folder to fill."""
        return self.home / "set"

    def kept(self, name: str) -> Path:
        """Where the record of a piece stands once it is finished; it is written last."""
        return self.home / "kept" / name


def unfinished_home(out: Path) -> Path:
    """Return where a folder is filled before it gets its name."""
    place = out.resolve()
    return place.parent / f".{place.name}.unfinished"


@contextmanager
def unfinished(out: Path, purpose: str) -> Iterator[Unfinished]:
    """Fill a folder piece by piece; it gets its name when the block ends without an error.

    Args:
        out: a folder that does not exist or is empty.
        purpose: everything that the pieces depend on, as text.
    """
    home = unfinished_home(out)
    with blamed_on(out):
        begun = home / "purpose.txt"
        if begun.is_file() and begun.read_text(encoding="utf-8") == purpose:
            remove_partial(home)
        else:
            shutil.rmtree(home, ignore_errors=True)
            write_text(begun, purpose)
        made = Unfinished(home)
        made.folder.mkdir(exist_ok=True)
        made.kept("").mkdir(exist_ok=True)
        try:
            yield made
            made.folder.replace(out.resolve())
        finally:
            if not made.folder.is_dir() or not any(made.kept("").iterdir()):
                shutil.rmtree(home)  # it has its name, or nothing of it is finished


def remove_unfinished(out: Path) -> None:
    """Remove what a kill left of a folder that had just got its name."""
    left = Unfinished(unfinished_home(out))
    if not left.folder.is_dir():
        shutil.rmtree(left.home, ignore_errors=True)
