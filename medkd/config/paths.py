"""From which folder a relative path of a configuration counts.

In a YAML: from the folder of that YAML. By `--set`, and in a configuration that ships with medkd:
from the folder in which the command is run. Resolved settings hold absolute paths alone, so that
a run goes on from wherever it is started. What begins with ~ or names a ${VARIABLE} is left as it
is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from medkd.settings import PathRule, path_rule
from medkd.yaml_data import Document, KeyPath

RULE = (
    "A relative path in a YAML counts from the folder of that YAML. Given by `--set`, or in a "
    "configuration that\nships with medkd, it counts from the folder in which the command is run. "
    "`~` and `${MEDKD_DATA}`,\n`${LUNA16_ROOT}` are filled in. Messages show the path that was "
    "looked for, and what it counts from."
)

SettingsType = TypeVar("SettingsType", bound=BaseModel)


def resolve_paths(settings: SettingsType, document: Document) -> SettingsType:
    """Return the settings with every relative path made absolute.

    Args:
        settings: as validated.
        document: whose `folders` say where each key came from.
    """
    resolved: SettingsType = _resolved(settings, (), document, None)
    return resolved


def missing_paths(settings: BaseModel, document: Document) -> list[str]:
    """Say of every path that a run cannot begin without, and that is not there, where it is named.

    Args:
        settings: with resolved paths.
        document: as for `resolve_paths`.
    """
    return [
        f"{document.place_of(keys)}: {'.'.join(map(str, keys))}: {path}: no such file or folder"
        f"{_origin(keys, document)}"
        for keys, path in _inputs(settings, (), None)
        if "${" not in str(path) and not Path(path).expanduser().exists()
    ]


def _resolved(value: Any, keys: KeyPath, document: Document, rule: PathRule | None) -> Any:  # noqa: ANN401  # any value of settings
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        changed = {
            name: _resolved(
                getattr(value, name), (*keys, info.alias or name), document, path_rule(info)
            )
            for name, info in fields.items()
        }
        kept = {name: new for name, new in changed.items() if new is not getattr(value, name)}
        return value.model_copy(update=kept) if kept else value
    if isinstance(value, tuple):
        items = [_resolved(v, (*keys, n), document, rule) for n, v in enumerate(value)]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else tuple(items)
    if isinstance(value, dict):
        return {k: _resolved(v, (*keys, k), document, rule) for k, v in value.items()}
    if rule is None or not isinstance(value, str | Path) or not _is_relative(value):
        return value
    return type(value)(os.path.normpath(document.folder_of(keys) / value))


def _is_relative(path: str | Path) -> bool:
    text = str(path)
    return not text.startswith(("~", "${")) and bool(text) and not Path(text).is_absolute()


def _inputs(value: Any, keys: KeyPath, rule: PathRule | None) -> Iterator[tuple[KeyPath, Any]]:  # noqa: ANN401  # any value
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from _inputs(getattr(value, name), (*keys, info.alias or name), path_rule(info))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _inputs(item, (*keys, number), rule)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _inputs(item, (*keys, key), rule)
    elif rule is not None and rule.must_exist and isinstance(value, str | Path):
        yield keys, value


def _origin(keys: KeyPath, document: Document) -> str:
    typed = document.value_at(keys)
    if not isinstance(typed, str) or not _is_relative(typed):
        return ""
    place = document.place_of(keys)
    whose = "the current folder" if document.is_here(keys) else f"that of {place.split(':')[0]}"
    return f" ({typed!r} counts from {document.folder_of(keys)}, {whose})"
