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
    store: Annotated[
        str | None,
        typer.Option(
            help="The store of decisions, as for `medkd review`: an SQLite file, or "
            "postgresql://USER@HOST/DATABASE. Give the password in PGPASSWORD or ~/.pgpass. "
            "Default: RUN/review.sqlite."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="YAML file of `medkd review` that names the store; --store replaces it."),
    ] = None,
) -> None:
    """Write the report of a run: an HTML file that works offline, with JSON and CSV beside it.

    If the run has a store of decisions, the report names its readers, compares them with the
    reference standard and states how far they agree. If `medkd review` kept the decisions at
    another place than RUN/review.sqlite, give the same --store or --config here.

    Example: `medkd report runs/demo --out demo.html`

    Example: `medkd report runs/demo --store postgresql://medkd@db.hospital/reviews`
    """
    from medkd.cli.review_store import review_settings
    from medkd.report.render import write_report
    from medkd.review.run_readers import read_reader_study
    from medkd.runs import RunFolder

    folder = RunFolder(run)
    settings = review_settings(config, store=store, adjudicator=None)
    readers = read_reader_study(folder, store=settings.store)
    written = write_report(folder, out, readers=readers.study)
    echo_lines(written.found)
    echo_lines(f"note: {note}" for note in readers.notes)
    typer.echo(f"wrote {written.html}, {written.json.name} and {written.csv.name}")
