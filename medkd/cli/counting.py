"""Counts with singular or plural nouns."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1.

    Example:
        >>> counted(1, "scan"), counted(0, "scan")
        ('1 scan', '0 scans')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
