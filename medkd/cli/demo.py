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
    """Adapt a shipped model to a simulated hospital in minutes; no data is needed.

    The shipped source model is the teacher; it has never seen synthetic scans of this hospital,
    of which four have labels. A small student starts from a shipped model and learns from these
    labels and from the teacher, also on scans without labels. The control starts from the same
    model and learns from the labels only. All three search other scans of the hospital.

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
