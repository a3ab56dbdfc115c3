"""Printing of text that the encoding of the terminal does not support."""

from __future__ import annotations

import io
import sys


def accept_any_text() -> None:
    """Print unsupported characters as escape sequences instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
