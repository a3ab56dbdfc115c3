"""`medkd models`: the models that ship with medkd, their cards, and copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medkd.models.package import ModelInfo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)


def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A shipped model, or a model directory.")
    ] = None,
    *,
    copy: Annotated[
        Path | None, typer.Option(help="Copy the model to this new model directory.")
    ] = None,
) -> None:
    """List the models that ship with medkd, or print the card of one. Not medical devices.

    A name from this list is accepted wherever a command or a configuration expects a model
    directory: `medkd detect NAME`, `teacher: {from: NAME}`. A folder that has the name wins: in
    the current folder, and for a configuration also beside its file.

    The card states what a model is for, what it was trained on, its scores with intervals, its
    limits, and the licences and attributions of its data. Any model directory has a card. --copy
    makes an ordinary model directory, for example to start a training from it.

    Example: `medkd models`

    Example: `medkd models ct-nodule-small`

    Example: `medkd models ct-nodule-small --copy my-model`
    """
    from medkd.errors import SettingsError
    from medkd.models.card import model_card
    from medkd.models.package import read_info
    from medkd.models.shipped import copy_model, find_model

    if name is None and copy is not None:
        raise SettingsError("--copy: no model given", ["write `medkd models NAME --copy DIR`"])
    if name is None:
        _print_list()
    elif copy is None:
        typer.echo(model_card(find_model(name).resolve().name, read_info(name)), nl=False)
    else:
        copy_model(name, copy)
        typer.echo(f"{copy}: a copy of {name}")


def model_and_inputs(words: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Divide the arguments `[MODEL] INPUT...` of a command into its model and its inputs.

    The first argument is the model if it is a model directory or the name of a shipped model.
    Otherwise all arguments are inputs of the default model, whose name is printed.

    Raises:
        CheckpointError: if the first argument does not exist, or is a folder with models in its
            subfolders.
        SettingsError: if there is a model but no input.
    """
    from medkd.errors import CheckpointError, SettingsError
    from medkd.models.shipped import DEFAULT_DETECTOR, INFO_NAME, find_model

    first, *others = words
    try:
        find_model(first)
    except CheckpointError as error:
        if not first.exists():
            raise CheckpointError(f"{first}: neither a model nor an input", error.reasons) from None
        if any(first.glob(f"*/{INFO_NAME}")):
            raise
        typer.echo(f"model: {DEFAULT_DETECTOR}")
        return Path(DEFAULT_DETECTOR), [first, *others]
    if not others:
        raise SettingsError(
            f"{first}: a model without an input", ["expected [MODEL] INPUT...: add the inputs"]
        )
    return first, others


def _print_list() -> None:
    from medkd.models.package import read_info
    from medkd.models.shipped import shipped_models

    found = shipped_models()
    for name, directory in found.items():
        typer.secho(name, bold=True)
        for line in _facts(read_info(directory), directory):
            typer.echo(f"  {line}")
    if found:
        typer.echo("\n`medkd models NAME` prints the card of a model. Not medical devices.")
    else:
        typer.echo("no model ships with this installation of medkd")


def _facts(info: ModelInfo, directory: Path) -> Iterator[str]:
    """Yield the lines that the list shows of a model."""
    from medkd.models.card import score_text

    size_mb = sum(path.stat().st_size for path in directory.iterdir()) / 1e6
    yield info.purpose or "purpose not stated"
    yield f"{info.kind}, {info.parameters:,} parameters, {size_mb:.1f} MB, licence: {info.licence}"
    yield f"trained on {info.trained_on}"
    yield from (f"{name} {score_text(name, value, info)}" for name, value in info.metrics.items())
