"""Versions of medkd's file formats: the version that is written, and the versions that are read.

A version is raised when an earlier medkd could not read the new files. A file that states no
version counts as version 1. The decisions of human readers have no entry here: they cannot be
generated again, so `medkd.review.schema` migrates their database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION_KEY = "format_version"
"""The field in which every record states its version."""

REVIEWS_KIND = "medkd reviews"
"""The value of "kind" in the JSON that `medkd review --export` writes."""


@dataclass(frozen=True, slots=True)
class Format:
    """The format of one kind of folder or file.

    Args:
        name: the name that the command line uses.
        version: the version that is written.
        oldest: the oldest version that can be read.
        remake: the command that generates it again.
    """

    name: str
    version: int
    oldest: int
    remake: str

    def refusal(self, record: Mapping[str, Any]) -> str:
        """Return why a record cannot be read; empty if it can be read.

        Example:
            >>> MODEL.refusal({"format_version": 1})
            ''
            >>> MODEL.refusal({"format_version": 99})
            'made by a newer medkd (MODEL format 99, this one reads 2): update medkd'
        """
        found = record.get(VERSION_KEY, 1)
        if type(found) is not int or found < 1:
            return f"{VERSION_KEY}: expected a whole number from 1, got {found!r}"
        reads = f"{self.name} format {found}, this one reads {self.version}"
        if found > self.version:
            return f"made by a newer medkd ({reads}): update medkd"
        if found < self.oldest:
            return f"made by an earlier medkd ({reads}): make it again with `{self.remake}`"
        return ""


INDEX = Format("INDEX", 4, 4, "medkd index ROOT --out INDEX")
RUN = Format("RUN", 2, 1, "medkd train CONFIG --out RUN")
EVALUATION = Format("RUN", 2, 2, "medkd train CONFIG --out RUN")
"""Format of the scores in a RUN: version 1 had one result for each split, not for each label."""
RESULTS = Format("RESULTS", 1, 1, "medkd detect MODEL INPUT --out RESULTS")
MODEL = Format("MODEL", 2, 1, "medkd train CONFIG --out RUN")
