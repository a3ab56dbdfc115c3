"""`medkd config`: list, show, copy and check configurations, and explain their keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

config_app = typer.Typer(help="List, show, copy and check configurations, and explain their keys.")

Name = Annotated[str, typer.Argument(help="A path, or a shipped name such as demo/phantom.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(config_app, name="config", no_args_is_help=True)


@config_app.command("list")
def list_configs() -> None:
    """List the shipped configurations with their purpose.

    Example: `medkd config list`
    """
    from medkd.config.load import shipped_configs

    for name, path in shipped_configs().items():
        purpose = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        typer.echo(f"{name:32} {purpose}")


@config_app.command("show")
def show_config(name: Name) -> None:
    """Print a configuration file.

    Example: `medkd config show demo/phantom`
    """
    from medkd.config.load import find_config

    typer.echo(find_config(name).read_text(encoding="utf-8"), nl=False)


@config_app.command("copy")
def copy_config(
    name: Name,
    to: Annotated[Path, typer.Argument(help="Where to write it.")] = Path(),
) -> None:
    """Copy a shipped configuration to a file that you can edit.

    Example: `medkd config copy transfer/luna16_candidates my.yaml`
    """
    from medkd.config.keys import command_of
    from medkd.config.load import find_config
    from medkd.errors import SettingsError
    from medkd.files import write_text
    from medkd.yaml_data import read_document

    source = find_config(name)
    target = to / source.name if to.is_dir() else to
    if target.exists():
        raise SettingsError(
            f"{target}: exists already", ["choose another name, or delete it first"]
        )
    write_text(target, source.read_text(encoding="utf-8"))
    command = command_of(read_document(source).values)
    if command == "medkd index":
        typer.echo(
            f"wrote {target}; use it with: medkd index ARCHIVE --config {target} --out INDEX"
        )
    else:
        typer.echo(f"wrote {target}; run it with: {command} {target}")


@config_app.command("check")
def check_configs(
    names: Annotated[list[str], typer.Argument(help="Files, folders or shipped names.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, as in `medkd train`.")
    ] = None,
) -> None:
    """Check configurations and print every error with its line.

    Example: `medkd config check my.yaml`
    """
    from medkd.config.keys import command_of, configuration_kinds
    from medkd.config.load import find_config, load_settings
    from medkd.errors import SettingsError
    from medkd.yaml_data import read_document

    kinds = configuration_kinds()
    refused = []
    for name in names:
        folder = Path(name)
        for path in sorted(folder.rglob("*.yaml")) if folder.is_dir() else [find_config(name)]:
            try:
                kind = kinds[command_of(read_document(path).values)]
                load_settings(path, kind, overrides=overrides or ())
                typer.echo(f"ok  {path}")
            except SettingsError as error:
                refused += [str(error)]
    if refused:
        raise SettingsError(f"{len(refused)} configuration(s) refused", refused)


@config_app.command("keys")
def print_keys() -> None:
    """Print every key with its type, default and meaning, as Markdown.

    Example: `medkd config keys > keys.md`
    """
    from medkd.config.keys import configuration_kinds, keys_text

    typer.echo(keys_text(configuration_kinds()), nl=False)
