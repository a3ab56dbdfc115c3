"""`medkd report`: write the evaluation report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkd.cli.text import echo_lines


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    run: Annotated[Path, typer.Argument(help="Output folder of `medkd train` or `medkd demo`.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; default: RUN/report.html.")
    ] = None,
) -> None:
    """Write the report of a run: an HTML file that works offline, with JSON and CSV beside it.

    If the run has a store of decisions (review.sqlite), it names its readers, compares them with
    the reference standard and states how far they agree.

    Example: `medkd report runs/demo --out demo.html`
    """
    from medkd.report.render import write_report
    from medkd.review.run_readers import read_reader_study
    from medkd.runs import RunFolder

    folder = RunFolder(run)
    written = write_report(folder, out, readers=read_reader_study(folder))
    echo_lines(written.found)
    typer.echo(f"wrote {written.html}, {written.json.name} and {written.csv.name}")
