"""The formats of what medkd leaves on disk: the version that is written and those that are read.

A version is raised when an earlier medkd could not read what this one writes. A file that states
no version counts as version 1. Readers' decisions are not in this table: they cannot be made
again, so `medkd.review.store` migrates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "format_version"
"""Under which every record states its version."""


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of folder or file.

    Args:
        name: as the command line calls it.
        version: that is written.
        oldest: version that is still read.
        remake: the command that makes it again.
    """

    name: str
    version: int
    oldest: int
    remake: str

    def refusal(self, record: Mapping[str, Any]) -> str:
        """Say why a record cannot be read; empty if it can.

        Example:
            >>> MODEL.refusal({"format_version": 1})
            ''
            >>> MODEL.refusal({"format_version": 99})
            'made by a newer medkd (MODEL format 99, this one reads 2): update medkd'
        """
        found = record.get(KEY, 1)
        if type(found) is not int or found < 1:
            return f"{KEY}: expected a whole number from 1, got {found!r}"
        reads = f"{self.name} format {found}, this one reads {self.version}"
        if found > self.version:
            return f"made by a newer medkd ({reads}): update medkd"
        if found < self.oldest:
            return f"made by an earlier medkd ({reads}): make it again with `{self.remake}`"
        return ""


INDEX = Format("INDEX", 3, 3, "medkd index ROOT --out INDEX")
RUN = Format("RUN", 2, 1, "medkd train CONFIG --out RUN")
EVALUATION = Format("RUN", 2, 2, "medkd train CONFIG --out RUN")
"""Of the scores in a RUN: version 1 had one result a split, and not one a label."""
RESULTS = Format("RESULTS", 1, 1, "medkd detect MODEL INPUT --out RESULTS")
MODEL = Format("MODEL", 2, 1, "medkd train CONFIG --out RUN")
