"""The command line. It parses arguments, calls the other packages and prints.

Commands import these packages when they run, which keeps `medkd --help` fast.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

from medkd import __version__
from medkd.cli.faults import ended_by_signals, explain, leave_pipe_quietly, received

app = typer.Typer(
    name="medkd",
    help="Train a small lung-nodule model by knowledge distillation from a large one. Not a "
    "medical device.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMAND_MODULES = (
    "froc",
    "accept",
    "calibrate",
    "explain_cases",
    "config",
    "demo",
    "detect",
    "identity",
    "implant",
    "phantom",
    "report",
    "review",
    "import_weights",
    "models",
    "layers",
    "index",
    "check",
    "split",
    "train",
    "bench",
    "tune",
    "cache",
)
"""Modules that define commands. `register(app)` of each is called when this package is imported."""

_CLOSED_PIPE = 128 + 13
"""Exit code after writing to a closed pipe, as if SIGPIPE had ended the command (128 + 13)."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medkd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print log messages.")] = False,
    version: Annotated[  # eager: its callback prints and exits
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # print unsupported characters as escape sequences
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


for _name in COMMAND_MODULES:
    import_module(f"medkd.cli.{_name}").register(app)


def main() -> None:
    """Run the command line.

    Exits with 1 after a refusal or a disk error, which is printed without a traceback; with 130
    after Ctrl-C and 143 after SIGTERM, which leave no partially written files.
    """
    code = 0
    with ended_by_signals():
        try:
            app()
        except SystemExit as ended:
            code = _code_of(ended)
        except BrokenPipeError:
            code = _CLOSED_PIPE
        except (Exception, KeyboardInterrupt) as error:
            message = explain(error, resumes=_accepts_resume())
            if not message and not received:
                raise
            code = 1
            if not received:
                typer.secho(f"medkd: {message}", fg=typer.colors.RED, err=True)
    if received:
        code = 128 + received[0]
        name = "Ctrl-C" if received[0] == signal.SIGINT else signal.Signals(received[0]).name
        typer.secho(f"medkd: stopped by {name}; no file is partially written", fg="red", err=True)
    leave_pipe_quietly()
    sys.exit(code)


def _code_of(ended: SystemExit) -> int:
    return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def _accepts_resume() -> bool:
    """Return whether the command that was typed accepts --resume."""
    commands = getattr(typer.main.get_command(app), "commands", {})
    named = next((word for word in sys.argv[1:] if word in commands), "")
    return any(option.name == "resume" for option in getattr(commands.get(named), "params", ()))
