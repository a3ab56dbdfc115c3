"""`medkd bench`: arms over seeds, one restartable cell each, and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkd.cli.train import ConfigArgument, ResumeOption, SetOption, explained_interruption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    config: ConfigArgument,
    overrides: SetOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: runs/NAME-bench.")
    ] = None,
    resume: ResumeOption = False,
    cross_validate: Annotated[
        bool,
        typer.Option(
            "--cross-validate", help="Score folds of train and validation; leave test alone."
        ),
    ] = False,
) -> None:
    """Compare arms over seeds, or measure how hard the phantoms are: rows as JSON, and a table.

    Cells and scans that are finished are not run again with --resume.

    Example: `medkd bench bench/pneumoniamnist --out runs/pneumonia`
    """
    from medkd.config.keys import command_of
    from medkd.config.load import find_config
    from medkd.yaml_data import read_document

    path, texts = find_config(config), list(overrides or ())
    if command_of(read_document(path).values) == "medkd bench":
        if cross_validate:
            raise typer.BadParameter("this bench trains nothing", param_hint="--cross-validate")
        _measure_difficulty(path, texts, out=out, resume=resume)
        return
    if cross_validate:
        texts.append("bench.protocol=cross_validation")
    _compare_arms(path, texts, out=out, resume=resume)


def _compare_arms(path: Path, overrides: list[str], *, out: Path | None, resume: bool) -> None:
    from medkd.cli.progress import progress_bars
    from medkd.config.load import load_settings
    from medkd.config.run_settings import RunSettings
    from medkd.train.bench import run_bench
    from medkd.train.tables import bench_markdown

    settings = load_settings(path, RunSettings, overrides=overrides, must_exist=True)
    folder = out or Path("runs") / f"{settings.name}-bench"
    with explained_interruption(folder), progress_bars() as progress:
        record = run_bench(settings, folder, resume=resume, progress=progress)
    typer.echo(bench_markdown(record))
    typer.echo(f"rows:  {folder / 'rows.json'}")
    typer.echo(f"table: {folder / 'table.md'}")


def _measure_difficulty(
    path: Path, overrides: list[str], *, out: Path | None, resume: bool
) -> None:
    from medkd.cli.progress import progress_bars
    from medkd.config.difficulty_settings import DifficultySettings
    from medkd.config.load import load_settings
    from medkd.train.difficulty.run import RESULT_NAME, run_difficulty
    from medkd.train.difficulty.tables import difficulty_markdown

    settings = load_settings(path, DifficultySettings, overrides=overrides, must_exist=True)
    folder = out or Path("runs") / settings.name
    with explained_interruption(folder), progress_bars() as progress:
        record = run_difficulty(settings, folder, resume=resume, progress=progress)
    typer.echo(difficulty_markdown(record))
    for note in record.notes:
        typer.secho(f"warning: {note}", fg=typer.colors.YELLOW)
    typer.echo(f"figures: {folder / RESULT_NAME}")
    typer.echo(f"rows:    {folder / 'scans'}")
