"""Notices on an INDEX: text for people and a code for scripts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that should be looked at.

    Args:
        code: for scripts.
        text: for people.
        ids: the cases or patients concerned.
        remedy: what to do; empty if nothing can be done.
    """

    code: str
    text: str
    ids: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        """Return the notice as one line of text."""
        return f"{self.code}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")
