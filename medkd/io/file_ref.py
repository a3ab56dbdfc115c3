"""A reference to one file: on disk, or a member of a zip archive."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from medkd.errors import printable

if TYPE_CHECKING:
    from pathlib import Path


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def shown_name(name: str) -> str:
    r"""Return a file's name or path on one line; bytes that are not text become escapes.

    Example:
        >>> print(shown_name("two\nlines"))
        two\x0alines
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", printable(name))


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of an archive.

    Args:
        path: the file, or the zip archive that contains it.
        member: its name inside the zip archive; None for a file on disk.
        label: name of the file in messages, since its real name may contain a patient's name;
            if empty, messages use the real name.
    """

    path: Path
    member: str | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The name of the file in messages."""
        return shown_name(self.label or self.member or self.path.name)

    def open(self) -> BinaryIO:
        """Open the file for reading; a zip member is unpacked into memory."""
        if self.member is None:
            return self.path.open("rb")
        with zipfile.ZipFile(self.path) as archive:
            return io.BytesIO(archive.read(self.member))
