"""A folder that takes long to fill: if the process is killed, finished pieces are not lost.

    .NAME.unfinished/purpose.txt    what the pieces depend on, such as settings and inputs, as text
    .NAME.unfinished/kept/          one JSON for each finished piece
    .NAME.unfinished/set/           the folder itself, renamed to NAME when it is complete

Pieces may be finished in any order. A run with the same purpose resumes; a run with another
purpose starts again, since the existing pieces do not belong to it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medkd.files import attribute_errors_to, remove_partial, write_text


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A folder that is being filled."""

    home: Path

    @property
    def folder(self) -> Path:
        """The folder to fill."""
        return self.home / "set"

    def kept(self, name: str) -> Path:
        """Path of the record of a finished piece; the caller writes it after the piece."""
        return self.home / "kept" / name


def unfinished_home(out: Path) -> Path:
    """Return the hidden folder in which `out` is filled before it is renamed."""
    place = out.resolve()
    return place.parent / f".{place.name}.unfinished"


@contextmanager
def unfinished(out: Path, purpose: str) -> Iterator[Unfinished]:
    """Fill a folder piece by piece; it is renamed to `out` if the block ends without an error.

    Args:
        out: a folder that does not exist or is empty.
        purpose: everything that the pieces depend on, as text. If it equals that of an earlier,
            interrupted run, the finished pieces are kept.
    """
    home = unfinished_home(out)
    with attribute_errors_to(out):
        purpose_file = home / "purpose.txt"
        if purpose_file.is_file() and purpose_file.read_text(encoding="utf-8") == purpose:
            remove_partial(home)
        else:
            shutil.rmtree(home, ignore_errors=True)
            write_text(purpose_file, purpose)
        filled = Unfinished(home)
        filled.folder.mkdir(exist_ok=True)
        filled.kept("").mkdir(exist_ok=True)
        try:
            yield filled
            filled.folder.replace(out.resolve())
        finally:
            if not filled.folder.is_dir() or not any(filled.kept("").iterdir()):
                shutil.rmtree(home)  # it was renamed, or no piece is finished


def remove_unfinished(out: Path) -> None:
    """Remove the remains of a run that was killed just after its folder was renamed."""
    remains = Unfinished(unfinished_home(out))
    if not remains.folder.is_dir():
        shutil.rmtree(remains.home, ignore_errors=True)
