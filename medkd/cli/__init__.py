"""The command line. It parses arguments, calls the other packages and prints.

Commands import these packages when they run, which keeps `medkd --help` fast.
"""

from __future__ import annotations

import functools
import io
import logging
import signal
import sys
from importlib import import_module
from typing import Annotated, NoReturn

import typer

from medkd import __version__
from medkd.cli.faults import (
    ENDING,
    ended_by_signals,
    explain,
    ignore_signals,
    leave_pipe_quietly,
    received,
)
from medkd.cli.train import follow_first_process
from medkd.errors import OtherProcessError, SettingsError
from medkd.processes import launched

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

SHARED_COMMANDS = ("train",)
"""Commands that may run in several processes, started by `torchrun`."""

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
    after Ctrl-C and 143 after SIGTERM, which leave no partially written files. Of several
    processes that `torchrun` starts, the first runs the command and the others train with it.
    """
    if launched().rank > 0:
        _follow()
    code = 0
    with ended_by_signals():
        try:
            if launched().count > 1:
                _check_shared()
            app()
        except SystemExit as ended:
            code = _code_of(ended)
        except BrokenPipeError:
            code = _CLOSED_PIPE
        except (Exception, KeyboardInterrupt) as error:
            ignore_signals()
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


def _follow() -> NoReturn:
    """Run a process of `torchrun` other than the first, which writes no file but its own error.

    Signals end it at once: while it waits for the first process, Python could not handle them.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    if _command() not in SHARED_COMMANDS:
        sys.exit(1)  # the first process says why
    try:
        follow_first_process()
    except OtherProcessError:
        sys.exit(1)
    except Exception as error:
        message = explain(error, resumes=True)
        if not message:
            raise
        typer.secho(f"medkd, process {launched().rank}: {message}", fg="red", err=True)
        sys.exit(1)
    sys.exit(0)


def _check_shared() -> None:
    if (command := _command()) not in SHARED_COMMANDS:
        raise SettingsError(
            f"`medkd {command}` cannot run in several processes",
            [
                "start it without torchrun; only `medkd train` shares its work among processes",
                "several runs are faster as separate commands, each with a GPU of its own "
                "(CUDA_VISIBLE_DEVICES)",
            ],
        )


def _code_of(ended: SystemExit) -> int:
    return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


def _accepts_resume() -> bool:
    """Return whether the command that was typed accepts --resume."""
    typed = _commands().get(_command())
    return any(option.name == "resume" for option in getattr(typed, "params", ()))


def _command() -> str:
    """Return the name of the command that was typed; empty if there is none."""
    known = _commands()
    return next((word for word in sys.argv[1:] if word in known), "")


@functools.cache
def _commands() -> dict[str, object]:
    return dict(getattr(typer.main.get_command(app), "commands", {}))
