"""The command line: parses, calls, prints.

Rooms are imported inside commands, so that `medkd --help` answers at once.
"""

from __future__ import annotations

import logging
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

from medkd import __version__
from medkd.cli.faults import ended_by_signals, explain, leave_pipe_quietly, received
from medkd.cli.terminal import accept_any_text

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
    "cache",
)
"""Each module of this package registers its commands on import through `register(app)`."""

_NOBODY_READS = 128 + 13
"""Exit code of a command whose output went into a closed pipe: as if SIGPIPE had ended it."""


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
    """Run the command line.

    Exits with 1 after a refusal or a fault of the disk, which is told in one line; with 130 after
    Ctrl-C and with 143 after SIGTERM, both of which leave nothing half-written.
    """
    code = 0
    with ended_by_signals():
        try:
            app()
        except SystemExit as ended:
            code = _code_of(ended)
        except BrokenPipeError:
            code = _NOBODY_READS
        except (Exception, KeyboardInterrupt) as error:
            message = explain(error, resumes=_takes_resume())
            if not message and not received:
                raise
            code = 1
            if not received:
                typer.secho(f"medkd: {message}", fg=typer.colors.RED, err=True)
    if received:
        code = 128 + received[0]
        name = "Ctrl-C" if received[0] == signal.SIGINT else signal.Signals(received[0]).name
        typer.secho(f"medkd: stopped by {name}; nothing is half-written", fg="red", err=True)
    leave_pipe_quietly()
    sys.exit(code)


def _code_of(ended: SystemExit) -> int:
    return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def _takes_resume() -> bool:
    """Say whether the command that was typed takes --resume."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    named = next((word for word in sys.argv[1:] if word in commands), "")
    return any(option.name == "resume" for option in getattr(commands.get(named), "params", ()))
