"""Read configurations: YAML as plain data, with all errors reported at once, each with its line.

YAML tags, dotted imports and code are not supported, and `${run_dir}` is the only interpolation.
A file may name one `base:` file, whose values it overrides: lists are replaced, mappings are
merged. Each settings type documents its own keys; `run_settings.py` combines the types.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medkd.config.keys import sections_of
from medkd.config.paths import missing_paths, resolve_paths
from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.yaml_data import Document, KeyPath, override, read_document

PACKAGE = Path(__file__).resolve().parent.parent

_ABSENT = object()
SettingsType = TypeVar("SettingsType", bound=BaseModel)


def configs_folder() -> Path:
    """Return the folder of the shipped configurations, in the checkout or in the wheel."""
    checkout = PACKAGE.parent / "configs"
    return checkout if (PACKAGE.parent / "pyproject.toml").is_file() else PACKAGE / "_configs"


def shipped_configs() -> dict[str, Path]:
    """Map the name of each shipped configuration, for example "demo/phantom", to its file."""
    root = configs_folder()
    return {str(p.relative_to(root).with_suffix("")): p for p in sorted(root.rglob("*.yaml"))}


def find_config(name: str) -> Path:
    """Find a configuration by path, by shipped name, or by the last part of a shipped name.

    Args:
        name: "my.yaml", "demo/phantom", "phantom", or "configs/demo/phantom.yaml".

    Raises:
        SettingsError: if nothing is found; the reason names the closest shipped names.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    wanted = name.removeprefix("configs/").removesuffix(".yaml")
    found = [file for key, file in shipped.items() if wanted in (key, key.rpartition("/")[2])]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingsError(f"{name}: more than one shipped configuration has this name", shipped)
    close = difflib.get_close_matches(wanted, shipped, n=3, cutoff=0.4)
    hint = (
        f"did you mean {', '.join(close)}?"
        if close
        else f"the shipped ones are {', '.join(shipped)}"
    )
    raise SettingsError(f"{name}: no such file or shipped configuration", [hint])


def load_settings(
    path: Path,
    kind: type[SettingsType],
    *,
    overrides: Sequence[str] = (),
    must_exist: bool = False,
) -> SettingsType:
    """Read a YAML file into settings with absolute paths (see `paths.py`).

    Args:
        path: the YAML file.
        kind: the settings type to validate against.
        overrides: "key.sub=value" strings from `--set`; each value is parsed as YAML and
            overrides the file.
        must_exist: refuse input files and folders that do not exist.

    Raises:
        SettingsError: lists all problems, each with its line.

    Example:
        >>> from medkd.settings import Settings
        >>> class Small(Settings):
        ...     epochs: int
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "small.yaml"
        >>> _ = file.write_text("epochs: 3")
        >>> load_settings(file, Small, overrides=["epochs=5"]).epochs
        5
    """
    document = read_document(path)
    if path.resolve().is_relative_to(configs_folder()):
        document.folders.clear()  # data is never stored beside a shipped configuration
    return _validated(document, kind, overrides, name=str(path), must_exist=must_exist)


def load_run_settings(name: str, *overrides: str) -> RunSettings:
    """Read the settings of a run; every path that it reads from must exist.

    Args:
        name: path or shipped name of a configuration, as for `find_config`.
        overrides: "key.sub=value" texts; the value is YAML; they win over the file.

    Raises:
        SettingsError: with every problem at once.
    """
    return load_settings(find_config(name), RunSettings, overrides=overrides, must_exist=True)


def make_settings(kind: type[SettingsType], *, overrides: Sequence[str] = ()) -> SettingsType:
    """Build settings from their defaults and "key.sub=value" strings, without a file.

    Raises:
        SettingsError: lists all problems.
    """
    return _validated(Document({}, {}), kind, overrides, name="the options")


def settings_from(
    kind: type[SettingsType], values: dict[str, Any], *, headline: str
) -> SettingsType:
    """Build settings from plain values, for example from changed ones of other settings.

    Args:
        kind: the settings type to validate against.
        values: values as `dump_settings` writes them; paths are absolute.
        headline: headline of the error.

    Raises:
        SettingsError: lists all problems.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        document = Document(values, {})
        found = [_explain(e, document, kind) for e in error.errors()]
        reasons = [reason.removeprefix(f"{document.place_of(())}: ") for reason in found]
        raise SettingsError(headline, reasons) from error


def _validated(
    document: Document,
    kind: type[SettingsType],
    overrides: Sequence[str],
    *,
    name: str,
    must_exist: bool = False,
) -> SettingsType:
    for text in overrides:
        override(document, text)
    settings: SettingsType | None = None
    try:
        settings = resolve_paths(kind.model_validate(document.values), document)
        document.problems += missing_paths(settings, document) if must_exist else []
    except ValidationError as error:
        document.problems += [_explain(e, document, kind) for e in error.errors()]
    if document.problems or settings is None:
        count = len(document.problems)
        raise SettingsError(
            f"{name}: {count} problem{'s' if count != 1 else ''} in this configuration",
            document.problems,
        )
    return settings


def dump_settings(settings: BaseModel) -> str:
    """Return resolved settings as YAML that `load_settings` can read."""
    values = settings.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def fill_run_dir(settings: SettingsType, run_dir: Path) -> SettingsType:
    """Replace `${run_dir}` in all strings of the settings."""
    values = _replace_text(settings.model_dump(mode="json", by_alias=True), str(run_dir))
    return type(settings).model_validate(values)


def _replace_text(value: Any, run_dir: str) -> Any:  # noqa: ANN401  # plain YAML values
    if isinstance(value, str):
        return value.replace("${run_dir}", run_dir)
    if isinstance(value, list):
        return [_replace_text(item, run_dir) for item in value]
    if isinstance(value, dict):
        return {key: _replace_text(item, run_dir) for key, item in value.items()}
    return value


def _explain(error: ErrorDetails, document: Document, kind: type[BaseModel]) -> str:
    """Describe one pydantic error: file and line, key, expected and actual value."""
    path = _yaml_path(error["loc"], document.values)
    place = document.place_of(path)
    key = ".".join(map(str, path)) or "the configuration"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{place}: {key}: unknown key{_suggestion(path, error, kind)}"
    if error["type"] == "missing":
        return f"{place}: {key}: missing; this key is required"
    got = error.get("input")
    shown = f", got {got!r}" if isinstance(got, str | int | float | bool) or got is None else ""
    return f"{place}: {key}: {message}{shown}"


def _child(value: Any, part: str | int) -> Any:  # noqa: ANN401  # plain YAML values
    if isinstance(value, dict) and part in value:
        return value[part]
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return _ABSENT


def _yaml_path(loc: tuple[str | int, ...], values: Any) -> KeyPath:  # noqa: ANN401  # plain YAML
    """Drop the parts of a pydantic location that name a branch of a union instead of a key."""
    path: list[str | int] = []
    here = values
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        below = _child(here, part)
        if below is not _ABSENT:
            here = below
        elif last and isinstance(here, dict) and here.get("kind") != part:
            path.append(part)
            break
        else:
            continue
        path.append(part)
    return tuple(path)


def _suggestion(path: KeyPath, error: ErrorDetails, kind: type[BaseModel]) -> str:
    names = {key for section in sections_of(kind) for key in section.model_fields}
    close = difflib.get_close_matches(str(path[-1]), sorted(names), n=1) if path else []
    return f"; did you mean {close[0]!r}?" if close else f" (value {error.get('input')!r})"
