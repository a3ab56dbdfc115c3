"""`medkd train`: train teacher, control and student from one configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.options import ConfigArgument, ResumeOption, SetOption
from medkd.cli.text import echo_lines

if TYPE_CHECKING:
    from medkd.config.run_settings import RunSettings
    from medkd.report.render import WrittenReport
    from medkd.runs import RunFolder
    from medkd.types import Evaluation


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    config: ConfigArgument,
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; default: runs/NAME.")
    ] = None,
    resume: ResumeOption = False,
) -> None:
    """Train teacher (unless given), control and student, evaluate them, and write the report.

    A run that was interrupted, for example by Ctrl-C, can be continued with --resume. It
    continues after the last finished epoch, and the result is the same as without interruption
    (bit for bit on a CPU).

    If `target.split.limit` keeps training cases without labels, OUT/label_next.csv ranks them:
    first the cases on which the calibrated probabilities of teacher and student differ most.
    Point detectors are not compared in this way.

    Several GPUs: `torchrun --nproc-per-node 4 -m medkd train ...`. Each process computes a part of
    every batch, and the result is that of one process.

    Example: `medkd train transfer/luna16_candidates --set seed=1 --out runs/first`
    """
    from medkd.config.load import load_run_settings
    from medkd.runs import RunFolder

    settings = load_run_settings(config, *(overrides or ()))
    run = RunFolder(out or Path("runs") / settings.name)
    evaluation, written = run_with_bars(run, settings, resume=resume)
    typer.echo("")
    echo_lines(written.found)
    for warning in evaluation.warnings:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW)
    echo_next_steps(run, written)


def follow_first_process() -> None:
    """Train with the first process of `torchrun`, which reads the arguments and reports."""
    from medkd.train.run import follow_training

    logging.disable(logging.WARNING)
    follow_training()


def run_with_bars(
    run: RunFolder, settings: RunSettings, *, resume: bool
) -> tuple[Evaluation, WrittenReport]:
    """Run a training with progress bars and write its report."""
    from medkd.cli.progress import progress_bars
    from medkd.report.render import write_report
    from medkd.train.run import run_training

    with explained_interruption(run.path), progress_bars() as progress:
        evaluation = run_training(settings, run, resume=resume, progress=progress)
    return evaluation, write_report(run)


def echo_next_steps(run: RunFolder, written: WrittenReport) -> None:
    """Print the path of the report, what to label next, and the command that opens the cases."""
    typer.echo("")
    typer.echo(f"report:  {written.html}")
    if run.label_next.is_file():
        typer.echo(f"label:   {run.label_next} lists the cases without labels, the first to label")
        typer.echo("         at the top: those on which teacher and student differ most")
    typer.echo(f"next:    medkd review {run.path}")


@contextmanager
def explained_interruption(path: Path, command: str = "") -> Iterator[None]:
    """After Ctrl-C, print how to resume, and raise the interruption again.

    Args:
        path: the output folder.
        command: the command that resumes; empty: the same command with --resume.
    """
    try:
        yield
    except KeyboardInterrupt:
        same = f"run the same command with --resume (and --out {path})"
        words = f"run: {command}" if command else same
        typer.secho(
            f"\nstopped; finished work is kept. To resume, {words}",
            fg=typer.colors.YELLOW,
            err=True,
        )
        raise
