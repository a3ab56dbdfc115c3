"""`medkd demo`: the whole mission on phantoms, with nothing but the installed package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medkd.cli.train import ResumeOption, SetOption, train_and_report

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
    """Run the whole mission on synthetic chest CT of two sites, in minutes, without any data.

    Scans of site a train the teacher. Site b, with few labels, trains a small student with its
    soft labels and its features, and the same student without a teacher. Then whole scans are
    searched, and the report is written.

    Example: `medkd demo --out medkd-demo`
    """
    from medkd.config import find_config, load_settings
    from medkd.run_settings import RunSettings
    from medkd.runs import RunFolder

    settings = load_settings(find_config(CONFIG), RunSettings, overrides=overrides or ())
    train_and_report(RunFolder(out), settings, resume=resume)
