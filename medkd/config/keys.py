"""The table of configuration keys as Markdown, generated from the settings types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medkd.config.paths import RULE
from medkd.settings import path_rule


def sections_of(kind: type[BaseModel]) -> tuple[type[BaseModel], ...]:
    """Return a settings type and all settings types nested in it, each once, outer ones first."""
    found = [kind]
    for section in found:
        for info in section.model_fields.values():
            found += [below for below in settings_in(info.annotation) if below not in found]
    return tuple(found)


def settings_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401  # any annotation
    """Yield the settings types in an annotation, including those inside unions and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from settings_in(argument)


def configuration_kinds() -> dict[str, type[BaseModel]]:
    """Map each command that accepts a configuration to its settings type."""
    from medkd.archive.settings import IndexSettings
    from medkd.config.review_settings import ReviewSettings
    from medkd.config.run_settings import RunSettings

    return {
        "medkd train": RunSettings,
        "medkd index": IndexSettings,
        "medkd review": ReviewSettings,
    }


def command_of(keys: Iterable[str]) -> str:
    """Return the command that accepts a configuration with these top-level keys.

    A key that only one settings type has decides. Without such a key the answer is
    `medkd train`, whose configurations `medkd bench` accepts too.
    """
    given, kinds = set(keys), configuration_kinds()
    for command, kind in kinds.items():
        others = [set(other.model_fields) for other in kinds.values() if other is not kind]
        if given & set(kind.model_fields).difference(*others):
            return command
    return "medkd train"


def keys_text(kinds: Mapping[str, type[BaseModel]]) -> str:
    """Return all keys of the settings types as Markdown, one heading and table per section.

    Args:
        kinds: maps each command to the settings type that it accepts.
    """
    lines = [
        "# All configuration keys",
        "",
        "Generated from the settings types by `medkd config keys`. Keys in bold are required. The",
        "heading of a section includes the value of its `kind`, if it has one.",
        "",
        *RULE.splitlines(),
    ]
    for command, kind in kinds.items():
        lines += ["", f"# Keys of `{command}`"]
        for section in sections_of(kind):
            lines += _section_lines(section)
    return "\n".join(lines) + "\n"


def _section_lines(section: type[BaseModel]) -> list[str]:
    words = (section.__doc__ or "").strip().partition("\n")[0]
    return [
        "", f"## {_name(section)}", "", *([words, ""] if words else []),
        "| key | type | default | meaning |", "|---|---|---|---|",
        *(_row(name, info) for name, info in section.model_fields.items()),
    ]  # fmt: skip


def _row(name: str, info: FieldInfo) -> str:
    key = info.alias or name
    shown = f"**`{key}`**" if info.is_required() else f"`{key}`"
    default = "" if info.is_required() else _default(info)
    kind = _type(info.annotation)
    kind = kind.replace("text", "path") if path_rule(info) else kind
    cells = [shown, kind.replace("Path", "path"), default, info.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _name(section: type[BaseModel]) -> str:
    kind = section.model_fields.get("kind")
    words = section.__name__.removesuffix("Settings")
    return f"{words} (`kind: {get_args(kind.annotation)[0]}`)" if kind else words


def _type(annotation: Any) -> str:  # noqa: ANN401  # any annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        inner = [_type(a) for a in arguments if a is not Ellipsis]
        return f"list of {inner[0]}" if Ellipsis in arguments else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"names to {_type(arguments[1])}"
    if arguments:
        return " or ".join(dict.fromkeys(_type(a) for a in arguments))
    return _plain_type(annotation)


def _plain_type(kind: type) -> str:
    words = {"str": "text", "bool": "true or false", "NoneType": "null", "Any": "any value"}
    return words.get(kind.__name__, kind.__name__.removesuffix("Settings"))


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if value is None:
        return "null"
    sections = value if isinstance(value, tuple) else (value,)
    if any(isinstance(item, BaseModel) for item in sections):
        return "its defaults"
    return f"`{list(value) if isinstance(value, tuple) else value}`"
