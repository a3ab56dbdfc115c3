"""The base class of all settings types. Each settings type is defined beside what it builds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo


class Settings(BaseModel):
    """Frozen settings: an unknown key is an error, and a list of texts accepts a single text."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _text_as_list(cls, values: Any) -> Any:  # noqa: ANN401  # any YAML value
        """Accept `positive: Nodule` for `positive: [Nodule]`."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: (value,)
            if isinstance(value, str) and name in fields and _holds_texts(fields[name].annotation)
            else value
            for name, value in values.items()
        }


def union_by_kind(types: Iterable[type[Settings]]) -> Any:  # noqa: ANN401  # a type of pydantic
    """Return the type of a field that holds one of these settings, chosen by its key `kind`."""
    return Annotated[reduce(or_, types), Field(discriminator="kind")]


def _holds_texts(annotation: Any) -> bool:  # noqa: ANN401  # any annotation
    """Return whether an annotation is, or includes, a tuple of texts of any length."""
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        return len(arguments) == 2 and arguments[1] is ... and _is_text(arguments[0])
    return any(_holds_texts(argument) for argument in arguments if argument is not ...)


def _is_text(annotation: Any) -> bool:  # noqa: ANN401  # any annotation
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return all(isinstance(value, str) for value in get_args(annotation))
    return annotation is str


@dataclass(frozen=True, slots=True)
class PathRule:
    """Marks a text as a path, which is resolved relative to the folder of its YAML file.

    `must_exist`: whether the path must exist before a run starts. `may_be_name`: whether the name
    of a shipped model is accepted instead, which stays as it is.
    """

    must_exist: bool = True
    may_be_name: bool = False


InputPath = Annotated[str, PathRule()]
"""A file or folder that a run reads. It may begin with ~ or contain an allowed ${VARIABLE}."""

ModelPath = Annotated[str, PathRule(may_be_name=True)]
"""A model directory, or the name of a shipped model (`medkd models`). A path that exists wins."""

OtherPath = Annotated[str, PathRule(must_exist=False)]
"""A path that a run creates, or that need not exist."""


def path_rule(info: FieldInfo) -> PathRule | None:
    """Return the rule of a field that holds a path; None for any other field."""
    marks = [*info.metadata, *_marks_of(info.annotation)]
    return next((mark for mark in marks if isinstance(mark, PathRule)), None)


def _marks_of(annotation: Any) -> Iterator[Any]:  # noqa: ANN401  # any annotation
    if annotation is Path:
        yield PathRule()
    yield from getattr(annotation, "__metadata__", ())
    for inner in get_args(annotation):
        yield from _marks_of(inner)
