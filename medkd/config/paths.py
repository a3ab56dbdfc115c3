"""Resolve the relative paths of a configuration.

A path in a YAML file is relative to the folder of that file. A path given by `--set`, or in a
configuration that ships with medkd, is relative to the current folder. Resolved settings hold
absolute paths, so a run can be resumed from any folder. Paths that begin with ~ or ${VARIABLE}
stay unchanged. So does the name of a shipped model, unless a folder has that name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from medkd.models.shipped import shipped_models
from medkd.settings import PathRule, path_rule
from medkd.yaml_data import Document, KeyPath

RULE = (
    "A path in a YAML file is relative to the folder of that file. A path given by `--set`, or in "
    "a\nconfiguration that ships with medkd, is relative to the folder in which the command is "
    "run. `~`,\n`${MEDKD_DATA}` and `${LUNA16_ROOT}` are expanded. Messages show the full path and "
    "the folder\nthat it is relative to."
)

SettingsType = TypeVar("SettingsType", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _Input:
    """A required path in settings, with its key and its rule."""

    keys: KeyPath
    path: str | Path
    rule: PathRule


def resolve_paths(settings: SettingsType, document: Document) -> SettingsType:
    """Return the settings with all relative paths made absolute.

    Args:
        settings: validated settings.
        document: the YAML that they were read from; its `folders` map keys to base folders.
    """
    resolved: SettingsType = _resolved(settings, (), document, None)
    return resolved


def missing_paths(settings: BaseModel, document: Document) -> list[str]:
    """Return one message for each required input path that does not exist; empty if all exist.

    Args:
        settings: settings with resolved paths.
        document: the YAML that they were read from; messages name its lines.
    """
    return [
        f"{document.place_of(found.keys)}: {'.'.join(map(str, found.keys))}: {found.path}: no such "
        f"file or folder{_origin(found.keys, document)}{_names(found.rule)}"
        for found in _inputs(settings, (), None)
        if "${" not in str(found.path) and not Path(found.path).expanduser().exists()
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
    path = type(value)(os.path.normpath(document.folder_of(keys) / value))
    return value if _is_name(value, rule) and not Path(path).exists() else path


def _is_relative(path: str | Path) -> bool:
    text = str(path)
    return not text.startswith(("~", "${")) and bool(text) and not Path(text).is_absolute()


def _is_name(value: str | Path, rule: PathRule) -> bool:
    return rule.may_be_name and str(value) in shipped_models()


def _names(rule: PathRule) -> str:
    names = ", ".join(shipped_models()) if rule.may_be_name else ""
    return f"; shipped models: {names}" if names else ""


def _inputs(value: Any, keys: KeyPath, rule: PathRule | None) -> Iterator[_Input]:  # noqa: ANN401  # any value
    if isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from _inputs(getattr(value, name), (*keys, info.alias or name), path_rule(info))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _inputs(item, (*keys, number), rule)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _inputs(item, (*keys, key), rule)
    elif rule is None or not isinstance(value, str | Path) or _is_name(value, rule):
        return
    elif rule.must_exist:
        yield _Input(keys, value, rule)


def _origin(keys: KeyPath, document: Document) -> str:
    typed = document.value_at(keys)
    if not isinstance(typed, str) or not _is_relative(typed):
        return ""
    place = document.place_of(keys)
    owner = (
        "the current folder"
        if document.is_relative_to_cwd(keys)
        else f"the folder of {place.split(':')[0]}"
    )
    return f" ({typed!r} is relative to {document.folder_of(keys)}, {owner})"
