"""The base of every settings type. Each settings type lives beside the thing it builds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Frozen settings; an unknown key is an error, and a text is a list of one where lists go."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _text_as_list(cls, values: Any) -> Any:  # noqa: ANN401  # whatever the YAML holds
        """Take `positive: Nodule` for `positive: [Nodule]`: nothing else can be meant."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: (value,)
            if isinstance(value, str) and name in fields and _holds_texts(fields[name].annotation)
            else value
            for name, value in values.items()
        }


def _holds_texts(annotation: Any) -> bool:  # noqa: ANN401  # any annotation
    """Say whether an annotation is a tuple of texts of any length, or may be one."""
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
