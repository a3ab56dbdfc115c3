"""`medkd tune`: search settings, scored on validation."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from medkd.cli.options import ConfigArgument, ResumeOption, SetOption
from medkd.cli.text import echo_lines
from medkd.cli.train import explained_interruption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tune")(tune)


def tune(
    config: ConfigArgument,
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: runs/NAME-tune.")
    ] = None,
    resume: ResumeOption = False,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="Trials in all; overrides tune.trials."),
    ] = None,
) -> None:
    """Search the best settings on validation; the test part of the data is not used.

    The section `tune` of the configuration names the keys and the values that are tried. Each
    trial trains the student (and its teacher, if a key changes it); trials that fall behind are
    stopped early. A search that was interrupted, for example by Ctrl-C, continues with --resume,
    also with more trials. `best.yaml` in the folder is the best configuration, for `medkd train`.
    Needs the extra `tune`: `pip install 'medkd[tune]'`.

    Example: `medkd tune my.yaml --trials 30 --out runs/search`, where my.yaml contains
    `tune: {space: {student.training.learning_rate: {low: 0.0001, high: 0.01, log: true}}}`
    """
    from medkd.cli.progress import progress_bars
    from medkd.config.load import load_run_settings
    from medkd.train.tune import run_tune

    texts = list(overrides or ())
    number = [f"tune.trials={trials}"] if trials else []
    settings = load_run_settings(config, *texts, *number)
    folder = out or Path("runs") / f"{settings.name}-tune"
    again = _command(config, texts, folder, trials)
    with explained_interruption(folder, again), progress_bars() as progress:
        result = run_tune(settings, folder, resume=resume, progress=progress)
    echo_lines(result.lines())
    typer.echo(f"trials: {folder / 'trials.csv'}")
    typer.echo(f"best:   {folder / 'best.yaml'}")
    typer.echo(f"next:   medkd train {shlex.quote(str(folder / 'best.yaml'))}")


def _command(config: str, overrides: Sequence[str], folder: Path, trials: int | None) -> str:
    """Return the command that continues a search."""
    sets = [word for text in overrides for word in ("--set", text)]
    number = ["--trials", str(trials)] if trials else []
    words = ["medkd", "tune", config, *sets, *number, "--out", str(folder), "--resume"]
    return shlex.join(words)
