"""What all annotation sources have in common: the base of their settings, and shared keys.

A source is one file with its settings (an `AnnotationSource`), the columns by which its tables are
recognised, and its reader `read_...(settings, archive)`. `table.py` lists all sources. Paths are
those of the user. An "excluded" nodule is an irrelevant finding: a mark on it counts neither as
true nor as false positive.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medkd.settings import Settings

Column = Annotated[str, Field(min_length=1)]

CountsAs = Annotated[
    Literal["included", "excluded"],
    Field(description="included: must be found; excluded: an irrelevant finding."),
]


class AnnotationSource(Settings):
    """The settings of a source of annotations; `kind` selects it in the table."""

    kind: str


class TableSource(AnnotationSource):
    """A CSV table of a hospital, in any encoding and with any separator."""

    path: Path = Field(description="A CSV table with a header.")
    encoding: Literal["utf-8-sig", "cp1252", "utf-16"] | None = Field(
        None,
        description="Encoding of the text: UTF-8 with or without byte order mark, Windows, or "
        "UTF-16; none: it is detected.",
    )
    separator: Literal[",", ";", "\t", "|"] | None = Field(
        None,
        description="Character between columns; none: the one that gives the header most columns.",
    )
