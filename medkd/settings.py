"""The base of every settings type. Each settings type lives beside the thing it builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Settings(BaseModel):
    """Frozen settings; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@dataclass(frozen=True, slots=True)
class PathRule:
    """Marks a text as a path, so that it can be counted from the right folder.

    `must_exist`: whether a run cannot begin without it.
    """

    must_exist: bool = True


InputPath = Annotated[str, PathRule()]
"""A file or folder that a run reads. It may begin with ~ or name an allowed ${VARIABLE}."""

OtherPath = Annotated[str, PathRule(must_exist=False)]
"""A path that is made, or may be absent."""


def path_rule(info: FieldInfo) -> PathRule | None:
    """Return the rule of a field that holds a path, None for any other field."""
    marks = [*info.metadata, *_marks_of(info.annotation)]
    return next((mark for mark in marks if isinstance(mark, PathRule)), None)


def _marks_of(annotation: Any) -> Iterator[Any]:  # noqa: ANN401  # any annotation
    if annotation is Path:
        yield PathRule()
    yield from getattr(annotation, "__metadata__", ())
    for inner in get_args(annotation):
        yield from _marks_of(inner)
