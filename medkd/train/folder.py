"""Open the folder of a run: a new one, or one to resume, but never that of another run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from medkd.config.load import dump_settings
from medkd.errors import SettingsError
from medkd.files import remove_partial, write_text

_FREE = {"workers", "cache_gib", "trials"}
"""Keys that do not change what is already done, so they may differ when a run is resumed."""

_BEGUN = {"config.yaml", "run.json", "data", "cache", "generator.txt"}


def open_folder(path: Path, config: Path, settings: BaseModel, *, resume: bool) -> None:
    """Create the folder of a run or bench, or check that the run in it can be resumed.

    Args:
        path: the folder.
        config: the file of the resolved settings in it.
        settings: settings of the run.
        resume: continue the run in this folder; an empty folder is accepted too.

    Raises:
        SettingsError: if the folder is not empty and `resume` is False, or if the run in it has
            other settings; the differing keys are named. The number of workers may differ.
    """
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if config.name in held and set(held) <= _BEGUN and not resume:
        held = []  # a run that was refused before anything was trained
    if path.exists() and not path.is_dir():
        raise SettingsError(f"{path}: this is a file", ["choose a folder with --out"])
    if held and not config.is_file():
        reasons = [f"it holds {', '.join(held[:5])}", "choose another folder with --out"]
        raise SettingsError(f"{path}: not empty, and not a run of medkd", reasons)
    if held and not resume:
        raise SettingsError(
            f"{path}: already holds a run",
            ["to resume it, add --resume", "to begin another run, choose another --out"],
        )
    if held:
        _check_same(path, config, settings)
        remove_partial(path)
    path.mkdir(parents=True, exist_ok=True)
    write_text(config, dump_settings(settings))


def _check_same(path: Path, config: Path, settings: BaseModel) -> None:
    before = dict(_leaves(yaml.safe_load(config.read_text(encoding="utf-8"))))
    now = dict(_leaves(yaml.safe_load(dump_settings(settings))))
    differing = sorted(
        key
        for key in before.keys() | now.keys()
        if not _is_same(before.get(key), now.get(key)) and key.split(".")[-1] not in _FREE
    )
    if differing:
        reasons = [f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in differing]
        raise SettingsError(
            f"{path}: the run in this folder has other settings",
            [*reasons, "use the settings that it began with, or choose another --out"],
        )


def _is_same(before: object, now: object) -> bool:
    """Compare values; older runs stored relative paths, which may now be absolute."""
    if before == now:
        return True
    typed = isinstance(before, str) and isinstance(now, str) and Path(now).is_absolute()
    return typed and os.path.normpath(Path.cwd() / str(before)) == now


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # plain YAML
    if isinstance(value, dict) and value:
        for name, below in value.items():
            yield from _leaves(below, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value:
        for number, below in enumerate(value):
            yield from _leaves(below, f"{key}.{number}")
    else:
        yield key, value
