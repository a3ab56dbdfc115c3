"""What a terminal can show: names of files and patients' sites are in any language."""

from __future__ import annotations

import io
import sys


def accept_any_text() -> None:
    """Show as escapes what the encoding of the terminal lacks, where Python would end instead."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
