"""`medkd detect`: marks on whole scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medkd.io.scan_inputs import ScanInput
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
        typer.Argument(
            metavar="INPUT...",
            help="Volumes, DICOM folders, folders of them, or the index.csv of `medkd index`.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new or empty folder for the results.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    label: Annotated[
        list[str] | None,
        typer.Option(help="Label of an INDEX that says a scan holds a nodule; default: nodule."),
    ] = None,
    allow: Annotated[
        str, typer.Option(help="Codes of faults to accept: slice_thickness, spacing_not_stated,...")
    ] = "",
) -> None:
    """Search whole CT scans for nodules with a patch classifier. Not a medical device.

    OUT gets one JSON a scan (`CaseResult`; one that cannot be read, is no chest CT fit for analysis
    or has no lungs is there as not_analysed, with its reasons) and results.csv with every mark in
    LPS mm, at most 100 a scan. Ends with 1 if no scan at all could be analysed.

    Scans of an INDEX bear its case ids, others their SeriesInstanceUID or the name of their file or
    folder: index a hospital's archive first. Where an INDEX knows which scans hold a nodule, the
    ROC AUC of the highest mark is printed and left in scan_level-INDEX.json.

    Example: `medkd detect medkd-demo/student scans/ --out found`

    Example: `medkd detect runs/ct/student work/index.csv --out found`
    """
    from medkd.cli.progress import progress_bars
    from medkd.config import make_settings
    from medkd.detect.batch import check_out, search_scans, write_results
    from medkd.io.dicom.gate import GateSettings
    from medkd.io.scan_inputs import list_inputs
    from medkd.models.package import load_model

    check_out(out)
    gate = make_settings(GateSettings, overrides=[f"allow=[{allow}]"])
    scans = list_inputs(inputs)
    loaded = load_model(model, device=device)
    told = loaded.info.trained_on_synthetic and not all(scan.synthetic for scan in scans)
    if told:
        _say_synthetic()
    searched = search_scans(scans, loaded, gate=gate)
    with progress_bars() as report:
        results = write_results(
            out, searched, progress=lambda done: report("scans", done, len(scans), "")
        )
    _say_results(results, loaded.info, out)
    _say_phantoms(scans)
    for index in (place for place in inputs if place.suffix == ".csv"):
        _say_scan_level(index, results, label, out=out)
    if told:
        _say_synthetic()
    if all(result.status == "not_analysed" for result in results):
        raise typer.Exit(1)


def _say_synthetic() -> None:
    from medkd.detect import SYNTHETIC_NOTE

    typer.secho(f"This model was {SYNTHETIC_NOTE}.", fg=typer.colors.YELLOW, err=True)


def _say_phantoms(scans: list[ScanInput]) -> None:
    """Say how hard the phantoms are that were searched."""
    from medkd.data.phantom import difficulty_words

    for stamp in sorted({scan.generator for scan in scans if scan.generator}):
        typer.echo(difficulty_words(stamp))


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


def _say_scan_level(
    index: Path, results: list[CaseResult], label: list[str] | None, *, out: Path
) -> None:
    """Score by the labels of whole scans, where the INDEX has them; and say what is left out."""
    from medkd.detect.scan_level import score_scan_level
    from medkd.io.index_table import read_index
    from medkd.jsonio import write_json

    archive = read_index(index)
    if images := sum(case.kind == "image" for case in archive.cases):
        typer.echo(f"{index.name}: {images} radiographs left out, CT alone is searched")
    score = score_scan_level(results, archive, positive=label or ["nodule"])
    if score is None:
        words = "no scan-level score: it takes scans known to hold a nodule and scans known not to"
        typer.echo(f"{index.name}: {words}")
        return
    interval = score.roc_auc.interval
    words = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
    typer.echo(
        f"{index.name}: scan-level ROC AUC of the highest mark {score.roc_auc.value:.3f}{words}, "
        f"{score.positives} of {score.scans} scans with a nodule, {score.unknown} not known"
    )
    write_json(out / f"scan_level-{index.stem}.json", score)
