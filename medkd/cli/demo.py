"""`medkd demo`: train, compare and report on phantoms, using only the installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkd.cli.options import ResumeOption, SetOption
from medkd.cli.text import echo_lines
from medkd.cli.train import echo_next_steps, run_with_bars

CONFIG = "demo/phantom"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Run folder; must be new or empty.")] = Path(
        "medkd-demo"
    ),
    overrides: SetOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train teacher, control and student on synthetic chest CT in minutes; no data is needed.

    The teacher is trained on scans of one simulated hospital. At a second hospital only few scans
    have labels. A small student learns from these labels and from the teacher; the control is the
    same network, trained on the labels only. All three are evaluated on given candidates of other
    scans of the second hospital. Whole scans are not searched; use `medkd detect` for that.

    Example: `medkd demo --out medkd-demo`
    """
    from medkd.config.load import find_config, load_settings
    from medkd.config.run_settings import RunSettings
    from medkd.report.summary import closing_lines
    from medkd.runs import RunFolder

    run = RunFolder(out)
    settings = load_settings(find_config(CONFIG), RunSettings, overrides=overrides or ())
    evaluation, written = run_with_bars(run, settings, resume=resume)
    typer.echo("")
    echo_lines(closing_lines(evaluation))
    echo_next_steps(run, written)
