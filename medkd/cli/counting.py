"""Counts in words."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Word how many of something there are.

    Example:
        >>> counted(1, "scan"), counted(0, "scan")
        ('1 scan', '0 scans')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
