"""The command line: parses, calls, prints.

Rooms are imported inside commands, so that `medkd --help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Annotated

import typer

from medkd import __version__
from medkd.cli.terminal import accept_any_text
from medkd.errors import MedkdError

app = typer.Typer(
    name="medkd",
    help="Train a small lung-nodule model that knows what a big one knows. Not a medical device.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMAND_MODULES = (
    "froc",
    "config",
    "demo",
    "detect",
    "identity",
    "implant",
    "phantom",
    "report",
    "review",
    "import_weights",
    "index",
    "check",
    "split",
    "train",
    "bench",
)
"""Each module of this package registers its commands on import through `register(app)`."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medkd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every event.")] = False,
    version: Annotated[  # eager: its callback prints and leaves
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    accept_any_text()
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


for _name in COMMAND_MODULES:
    import_module(f"medkd.cli.{_name}").register(app)


def main() -> None:
    """Run the command line; a refusal prints its reasons and exits with 1."""
    try:
        app()
    except MedkdError as error:
        typer.secho(f"medkd: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("medkd: interrupted; nothing half-written", fg=typer.colors.RED, err=True)
        sys.exit(130)
    except OSError as error:  # a full disk, a folder without rights
        typer.secho(f"medkd: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)
