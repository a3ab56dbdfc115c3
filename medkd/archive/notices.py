"""What is to be looked at in an INDEX, in words and with a code for scripts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to look at.

    Args:
        code: for scripts.
        text: for people.
        ids: the cases or patients that are meant.
        remedy: what to do; empty where there is nothing to be done.
    """

    code: str
    text: str
    ids: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        """Word it in one line."""
        return f"{self.code}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")
