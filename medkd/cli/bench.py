"""`medkd bench`: train several arms with several seeds, and tabulate the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkd.cli.options import ConfigArgument, ResumeOption, SetOption
from medkd.cli.train import explained_interruption


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
            "--cross-validate", help="Cross-validate on train and validation; do not use test."
        ),
    ] = False,
) -> None:
    """Compare arms over several seeds; write the results as JSON and as a table.

    With `bench.labels`, the comparison is repeated with fractions of the labels, and the table is a
    map of when transfer pays. With --resume, finished trainings are not repeated.

    Example: `medkd bench bench/pneumoniamnist --out runs/pneumonia`
    """
    from medkd.cli.progress import progress_bars
    from medkd.config.load import find_config, load_settings
    from medkd.config.run_settings import RunSettings
    from medkd.train.bench import run_bench
    from medkd.train.bench_record import bench_markdown

    texts = list(overrides or ())
    if cross_validate:
        texts.append("bench.protocol=cross_validation")
    path = find_config(config)
    settings = load_settings(path, RunSettings, overrides=texts, must_exist=True)
    folder = out or Path("runs") / f"{settings.name}-bench"
    if settings.bench and settings.bench.labels:
        from medkd.train.label_map import map_markdown, run_label_map

        with explained_interruption(folder), progress_bars() as progress:
            found = run_label_map(settings, folder, resume=resume, progress=progress)
        typer.echo(map_markdown(found))
        typer.echo(f"map: {folder / 'map.json'}")
        return
    with explained_interruption(folder), progress_bars() as progress:
        record = run_bench(settings, folder, resume=resume, progress=progress)
    typer.echo(bench_markdown(record))
    typer.echo(f"rows:  {folder / 'rows.json'}")
    typer.echo(f"table: {folder / 'table.md'}")
