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
    """Adapt the shipped models to a new hospital on synthetic chest CT; no data is needed.

    The shipped models never saw this simulated hospital's scanner, and only four of its scans have
    labels. The student starts from the small shipped model and learns from these labels and from
    the large one, also on scans without labels; the control starts from the same model and learns
    from the labels only. Both then search other whole scans of this hospital, and all three score
    given candidates there.

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
