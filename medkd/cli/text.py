"""Helpers for the text that commands print."""

from __future__ import annotations

from collections.abc import Iterable

import typer


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Example:
        >>> counted(1, "scan"), counted(0, "scan")
        ('1 scan', '0 scans')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines with a hyphen for each minus sign, which not every terminal supports."""
    for line in lines:
        typer.echo(line.replace("\u2212", "-"))
