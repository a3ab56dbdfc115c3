"""`medkd demo`: the whole mission on phantoms, with nothing but the installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkd.cli.train import ResumeOption, SetOption, echo_next_steps, run_with_bars

CONFIG = "demo/phantom"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Run folder; new or empty.")] = Path(
        "medkd-demo"
    ),
    overrides: SetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train a teacher, a control and a student on synthetic chest CT, in minutes, without any data.

    Scans of one site train the teacher. At a second site few scans have labels: a small student
    learns from these labels and from the teacher, and the control, the same network, from the
    labels alone. All three are then scored on given candidates of other scans of the second site;
    whole scans are not searched, which `medkd detect` does.

    Example: `medkd demo --out medkd-demo`
    """
    from medkd.config.load import find_config, load_settings
    from medkd.config.run_settings import RunSettings
    from medkd.report.closing import closing_lines
    from medkd.runs import RunFolder

    run = RunFolder(out)
    settings = load_settings(find_config(CONFIG), RunSettings, overrides=overrides or ())
    evaluation, written = run_with_bars(run, settings, resume=resume)
    typer.echo("")
    for line in closing_lines(evaluation):
        typer.echo(line)
    echo_next_steps(run, written)
