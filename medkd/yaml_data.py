"""YAML as plain data, with the line of every key: no tags, no code, no duplicate keys.

A document may name one `base:` file in its own folder, whose values it overrides (mappings are
merged, lists are replaced). This module does not interpret the values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from medkd.errors import SettingsError

KeyPath = tuple[str | int, ...]
Found = TypeVar("Found")


@dataclass(slots=True)
class Document:
    """Plain values of a YAML file, and for every key its place ("file:line") and its folder."""

    values: dict[str, Any]
    places: dict[KeyPath, str]
    problems: list[str] = field(default_factory=list)
    folders: dict[KeyPath, Path] = field(default_factory=dict)

    def place_of(self, keys: KeyPath) -> str:
        """Return "file:line" of a key, or of its nearest known parent."""
        return _nearest(self.places, keys) or "line 1"

    def folder_of(self, keys: KeyPath) -> Path:
        """Return the folder that a relative path at a key is resolved against."""
        return _nearest(self.folders, keys) or Path.cwd()

    def is_relative_to_cwd(self, keys: KeyPath) -> bool:
        """Return whether a path at a key is relative to the current folder.

        This is so for --set and for shipped configurations.
        """
        return _nearest(self.folders, keys) is None or self.place_of(keys).startswith("--set")

    def value_at(self, keys: KeyPath) -> Any:  # noqa: ANN401  # plain YAML values
        """Return the value at a key; None if there is none."""
        value: Any = self.values
        for key in keys:
            if isinstance(value, dict):
                value = value.get(key)
            elif isinstance(value, list) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value


def _nearest(table: Mapping[KeyPath, Found], keys: KeyPath) -> Found | None:
    """Return the entry of a key, or of its nearest parent."""
    for length in range(len(keys), 0, -1):
        if keys[:length] in table:
            return table[keys[:length]]
    return None


def read_document(path: Path) -> Document:
    """Read a YAML file and its base.

    Raises:
        SettingsError: if either is not a plain YAML mapping.
    """
    document = _read(path)
    base_name = document.values.pop("base", None)
    if base_name is None:
        return document
    place = document.places[("base",)]
    base_path = path.parent / str(base_name)
    if not base_path.is_file():
        document.problems.append(f"{place}: base: no such file {str(base_name)!r} beside this one")
        return document
    base = _read(base_path)
    if "base" in base.values:
        base.problems.append(f"{base.places[('base',)]}: base: a base may not have a base itself")
        base.values.pop("base")
    return Document(
        values=_merge(base.values, document.values),
        places={**base.places, **document.places},
        problems=base.problems + document.problems,
        folders={**base.folders, **document.folders},
    )


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        same = isinstance(value, dict) and isinstance(merged.get(key), dict)
        another_kind = same and value.get("kind", merged[key].get("kind")) != merged[key].get(
            "kind"
        )
        merged[key] = _merge(merged[key], value) if same and not another_kind else value
    return merged


def _read(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not readable as YAML", [str(error)]) from error
    if not isinstance(node, yaml.MappingNode):
        raise SettingsError(f"{path}: expected keys and values, got an empty or plain document")
    document = Document(values={}, places={})
    for key_path, line, problem in _walk(node, ()):
        document.places.setdefault(key_path, f"{path.name}:{line}")
        document.folders.setdefault(key_path, path.parent.absolute())
        if problem:
            document.problems.append(f"{path.name}:{line}: {problem}")
    if document.problems:
        raise SettingsError(f"{path}: not plain data", document.problems)
    document.values = yaml.safe_load(text)
    return document


def _walk(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, int, str | None]]:
    """Yield (key path, line from 1, problem or None) for every key below a node."""
    line = node.start_mark.line + 1
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        yield path, line, f"the tag {node.tag!r} is not allowed: a configuration is plain data"
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1, None
            yield from _walk(item, (*path, index))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            twice = f"the key {name!r} occurs twice" if name in seen else None
            seen.add(name)
            yield (*path, name), key.start_mark.line + 1, twice
            yield from _walk(value, (*path, name))


def override(document: Document, text: str) -> None:
    """Set one "key.sub=value" text in the document; faults are added to its problems."""
    key, equals, raw = text.partition("=")
    parts: list[str | int] = [int(p) if p.isdigit() else p for p in key.strip().split(".")]
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        document.problems.append(f"--set {text}: the value is not YAML: {error}")
        return
    if not equals or not key.strip():
        document.problems.append(f"--set {text}: expected key=value, for example seed=3")
        return
    place = f"--set {key}"
    _forget(document, tuple(parts))
    target: Any = document.values
    for depth, part in enumerate(parts[:-1]):
        document.places[tuple(parts[: depth + 1])] = place
        next_is_index = isinstance(parts[depth + 1], int)
        target = _step_into(target, part, [] if next_is_index else {})
        if target is None:
            document.problems.append(f"{place}: there is no {'.'.join(map(str, parts[:-1]))}")
            return
    last = parts[-1]
    if isinstance(target, dict):
        target[str(last)] = value
    elif isinstance(target, list) and isinstance(last, int) and last < len(target):
        target[last] = value
    else:
        document.problems.append(f"{place}: {last!r} is not a key or position here")
    document.places[tuple(parts)] = place
    document.folders[tuple(parts)] = Path.cwd()


def _forget(document: Document, keys: KeyPath) -> None:
    """Drop the places and folders of a key that is overridden, and of all keys below it."""
    for table in (document.places, document.folders):
        for known in [known for known in table if known[: len(keys)] == keys]:
            del table[known]


def _step_into(target: Any, part: str | int, fresh: Any) -> Any:  # noqa: ANN401  # plain YAML
    if isinstance(target, dict):
        return target.setdefault(str(part), fresh)
    if isinstance(target, list) and isinstance(part, int) and part < len(target):
        return target[part]
    return None
