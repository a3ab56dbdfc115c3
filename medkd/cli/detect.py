"""`medkd detect`: marks on whole scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medkd.models.package import ModelInfo
    from medkd.types import CaseResult

WHOLE_SCAN = "whole-scan"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("detect")(detect)


def detect(
    model: Annotated[Path, typer.Argument(help="A model directory, e.g. RUN/student.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Volumes, DICOM folders, or folders of them."),
    ],
    out: Annotated[Path, typer.Option(help="A new or empty folder for the results.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Search whole CT scans for nodules with a patch classifier. Not a medical device.

    OUT gets one JSON a scan (`CaseResult`; a scan that cannot be read or has no lungs is there as
    not_analysed, with its reasons) and results.csv with every mark: seriesuid, LPS mm, calibrated
    probability, at most 100 a scan. Ends with 1 if no scan at all could be analysed.

    Example: `medkd detect medkd-demo/student scans/ --out found`
    """
    from medkd.cli.progress import progress_bars
    from medkd.detect.batch import check_out, is_phantom, list_inputs, search_scans, write_results
    from medkd.models.package import load_model

    check_out(out)
    paths = list_inputs(inputs)
    loaded = load_model(model, device=device)
    synthetic_on_real = loaded.info.trained_on_synthetic and not all(map(is_phantom, paths))
    if synthetic_on_real:
        _say_synthetic()
    with progress_bars() as report:
        results = write_results(
            out,
            search_scans(paths, loaded),
            progress=lambda done: report("scans", done, len(paths), ""),
        )
    _say_results(results, loaded.info, out)
    if synthetic_on_real:
        _say_synthetic()
    if all(result.status == "not_analysed" for result in results):
        raise typer.Exit(1)


def _say_synthetic() -> None:
    from medkd.detect import SYNTHETIC_NOTE

    typer.secho(f"This model was {SYNTHETIC_NOTE}.", fg=typer.colors.YELLOW, err=True)


def _say_results(results: list[CaseResult], info: ModelInfo, out: Path) -> None:
    refused = [result for result in results if result.status == "not_analysed"]
    for result in refused:
        reasons = "".join(f"\n  - {reason}" for reason in result.reasons)
        typer.secho(f"not analysed: {result.seriesuid}{reasons}", fg=typer.colors.RED, err=True)
    analysed = len(results) - len(refused)
    marks = [mark for result in results for mark in result.candidates]
    typer.echo(f"{analysed} of {len(results)} scans analysed, {len(marks)} marks: {out}")
    point = info.operating_points.get(WHOLE_SCAN)
    if point is not None:
        above = sum(mark.score >= point.threshold for mark in marks)
        typer.echo(
            f"{above} marks reach the threshold {point.threshold:.3g} that was frozen on "
            f"{point.chosen_on}"
        )
