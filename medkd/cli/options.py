"""Options that several commands have, and the checking of options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from medkd.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = TypeVar("Kind", bound="BaseModel")

ConfigArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, or the name of a shipped configuration (`medkd config list`). Paths in "
        "a YAML file are relative to its folder.",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="key=value that overrides the file; repeatable. Paths are relative to the current "
        "folder.",
    ),
]
ModelAndInputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="[MODEL] INPUT",
        help="MODEL: a model directory such as RUN/student, or a shipped model; default: "
        "ct-nodule-small. INPUT: CT volumes or DICOM folders; X-rays as PNG, JPEG or DICOM; "
        "folders of these, or the index.csv of `medkd index`.",
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Resume the run in the output folder.")
]
AllowOption = Annotated[
    str, typer.Option(help="Codes of faults to accept, e.g. slice_thickness,spacing_not_stated.")
]
IndexArgument = Annotated[Path, typer.Argument(help="The index.csv written by `medkd index`.")]


def split_commas(text: str) -> list[str]:
    """Return the parts of a comma-separated option without spaces and empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]


def settings_from_options(kind: type[Kind], given: Mapping[str, object], *, refusal: str) -> Kind:
    """Build settings from the options of a command.

    Args:
        kind: the settings type; each of its keys is the name of an option.
        given: values of the options.
        refusal: headline of the error.

    Raises:
        SettingsError: lists all faults, each with its option.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(given)
    except ValidationError as error:
        reasons = []
        for fault in error.errors():
            option = f"--{str(fault['loc'][0]).replace('_', '-')}: " if fault["loc"] else ""
            reasons.append(option + fault["msg"].removeprefix("Value error, "))
        raise SettingsError(refusal, reasons) from error
