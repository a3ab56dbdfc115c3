"""Conversion of the frozen data types to JSON and back; the files contain no code."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from medkd.errors import CheckpointError
from medkd.files import write_text
from medkd.formats import Format

T = TypeVar("T")


def to_jsonable(value: object) -> Any:  # noqa: ANN401  # JSON has no narrower type
    """Convert a frozen dataclass (or a list or dict of them) into plain JSON values."""
    kind: Any = type(value)
    return _adapter(kind).dump_python(value, mode="json")


def write_json(path: Path, value: object) -> None:
    """Write a frozen dataclass as indented JSON, atomically."""
    write_text(path, json.dumps(to_jsonable(value), indent=1, allow_nan=False) + "\n")


def read_json(path: Path, kind: type[T], *, form: Format | None = None) -> T:
    """Read a frozen dataclass.

    Args:
        path: the file.
        kind: the dataclass.
        form: the format whose version the file must have; None: the file has no versions.

    Raises:
        CheckpointError: if the file is missing, is not JSON, has an unsupported version, or does
            not match `kind`.
    """
    try:
        content = path.read_bytes()
        if form is not None:
            _check_version(path, content, form)
        wanted: Any = kind
        return cast("T", _adapter(wanted).validate_json(content))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file", [f"expected a {kind.__name__}"]) from error
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:20]]
        raise CheckpointError(f"{path}: not a {kind.__name__} of this version", reasons) from error


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Return the converter of a type; it is kept because building it takes longer than using it."""
    return TypeAdapter(kind)


def _check_version(path: Path, content: bytes, form: Format) -> None:
    try:
        record = json.loads(content)
    except ValueError:
        return  # the dataclass adapter reports what is wrong
    if isinstance(record, dict) and (reason := form.refusal(record)):
        raise CheckpointError(f"{path}: cannot be read", [reason])
