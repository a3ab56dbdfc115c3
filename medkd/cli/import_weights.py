"""`medkd import`: convert weights of another project to a model directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_command)


def import_command(
    file: Annotated[Path, typer.Argument(help="The weights: .safetensors or a torch file.")],
    *,
    kind: Annotated[str, typer.Option(help="The kind of network, e.g. luna_classifier.")],
    sha256: Annotated[str, typer.Option(help="Expected SHA-256 of the file.")],
    out: Annotated[Path, typer.Option(help="The model directory to create.")],
    values: Annotated[
        list[str] | None, typer.Option("--set", help="A network setting, e.g. name=resnet18.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Name of each output, in order [default: nodule].")
    ] = None,
    trained_on: Annotated[
        str | None, typer.Option(help="What the weights were trained on.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
) -> None:
    """Import weights of another project as a model directory. Code in the file is never run.

    Example: `medkd import luna.state --kind luna_classifier --sha256 0f2a...0727 --out teacher`
    """
    from medkd.errors import CheckpointError, SettingsError
    from medkd.models.imported import ImportFacts, import_weights, settings_from_values
    from medkd.models.package import save_model
    from medkd.yaml_data import Document, override

    if out.exists():
        raise CheckpointError(f"{out}: not imported", ["the path exists already: choose a new one"])
    document = Document({}, {})
    for text in values or ():
        override(document, text)
    if document.problems:
        raise SettingsError("--set cannot be read", document.problems)
    settings = settings_from_values(kind, document.values)
    names = tuple(label) if label else ("nodule",)
    facts = ImportFacts(label_names=names, trained_on=trained_on, licence=licence)
    model = import_weights(file, settings, sha256=sha256, facts=facts)
    info = save_model(out, model.network, model.info)
    typer.echo(f"{out}: {info.kind}, {info.parameters:,} parameters, {info.initialisation}")
    typer.echo(f"licence: {info.licence}")
