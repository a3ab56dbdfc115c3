"""Findings on whole images: their names, also of several together, and what readers decided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

_BETWEEN = " or "


def combine_findings(names: Iterable[str]) -> str:
    """Return the name of "at least one of these findings".

    Example:
        >>> combine_findings(["Nodule", "Mass"])
        'Nodule or Mass'
    """
    return _BETWEEN.join(names)


def findings_in(name: str) -> tuple[str, ...]:
    """Return the findings in a name of `combine_findings`; a single finding is itself."""
    return tuple(name.split(_BETWEEN))


@dataclass(frozen=True, slots=True)
class ReviewedImage:
    """What readers decided about a finding on a whole image: 1 present, 0 absent.

    `readers` decided so, the last of them at `decided_at` (UTC).
    """

    case_id: str
    finding: str
    value: Literal[0, 1]
    readers: tuple[str, ...] = ()
    decided_at: str = ""

    @property
    def labels(self) -> dict[str, Literal[0, 1]]:
        """The labels that follow: if "A or B" is absent, A and B are absent too."""
        parts = findings_in(self.finding) if self.value == 0 else ()
        return dict.fromkeys((self.finding, *parts), self.value)
