"""Where the bytes of one file are: on disk, or a member of a zip archive."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileRef:
    """One file of an archive.

    Args:
        path: the file, or the zip archive that holds it.
        member: its name inside the zip archive; None for a file on disk.
        label: what messages call it, since a real name may hold a patient's; the file's own
            name where empty.
    """

    path: Path
    member: str | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """What messages call the file."""
        return self.label or self.member or self.path.name

    def open(self) -> BinaryIO:
        """Open it for reading; a zip member is unpacked into memory."""
        if self.member is None:
            return self.path.open("rb")
        with zipfile.ZipFile(self.path) as archive:
            return io.BytesIO(archive.read(self.member))
