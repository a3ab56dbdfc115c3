"""`medkd detect`: marks on whole scans, probabilities for radiographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.counting import counted
from medkd.cli.train import ResumeOption

if TYPE_CHECKING:
    from medkd.detect.jobs import SearchJob
    from medkd.models.package import LoadedModel, ModelInfo
    from medkd.types import CaseResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("detect")(detect)


def detect(
    model: Annotated[Path, typer.Argument(help="A model directory, e.g. RUN/student.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="CT: volumes, DICOM folders. X-ray: PNG, JPEG, DICOM. Folders of them, or the "
            "index.csv of `medkd index`.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="A new or empty folder for the results.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    label: Annotated[
        list[str] | None,
        typer.Option(help="Label of an INDEX that says a scan holds a nodule; default: nodule."),
    ] = None,
    allow: Annotated[
        str, typer.Option(help="Codes of faults to accept: slice_thickness, spacing_not_stated,...")
    ] = "",
    resume: ResumeOption = False,
) -> None:
    """Search CT scans for nodules, or score chest X-rays. Not a medical device.

    What is done depends on MODEL: whether it was trained on patches of scans or on X-rays.
    OUT gets one JSON a case (`CaseResult`; what cannot be read, is not fit for analysis or has no
    lungs is there as not_analysed, with its reasons) and results.csv. Each file is whole as soon
    as it stands there: after Ctrl-C or a kill the same command with --resume skips what is
    finished. Ends with 1 if no case at all could be analysed.

    CT: results.csv has every mark, at most 100 a scan: LUNA16's columns (LPS mm), then voxel and
    slice (voxels from 0, slice_number from 1 along k), the DICOM image's InstanceNumber, the
    threshold frozen on validation and whether the mark reaches it. X-ray: a row a picture with
    the calibrated probability of each label. diameter_mm is empty: this version measures none.

    Cases of an INDEX bear its case ids, others their UID or the name of their file or folder:
    index a hospital's archive first. Of a pseudonymised INDEX no path and no UID is written;
    `medkd identity lookup CASE --index INDEX --why REASON --slice N` gives them, and is audited.
    Where an INDEX knows which scans hold a nodule, the ROC AUC of the highest mark is printed and
    left in scan_level-INDEX.json.

    Example: `medkd detect medkd-demo/student scans/ --out found`

    Example: `medkd detect runs/ct/student work/index.csv --out found --resume`

    Example: `medkd detect runs/xray/student xrays/ --out found`
    """
    from medkd.models.package import load_model

    loaded = load_model(model, device=device)
    job = _job_of(loaded, inputs, allow)
    _warn(warning := _synthetic_model(loaded.info, job))
    results = _run(job, out, resume=resume)
    _say_results(results, job, out)
    if job.record.kind == "scan":
        _say_scan_levels(inputs, results, label, out=out)
    _warn(warning)
    if all(result.status == "not_analysed" for result in results):
        raise typer.Exit(1)


def _job_of(loaded: LoadedModel, inputs: list[Path], allow: str) -> SearchJob:
    """Choose by the model whether scans are searched or radiographs scored."""
    from medkd.cli.progress import progress_bars
    from medkd.config.load import make_settings
    from medkd.detect.jobs import image_job, scan_job
    from medkd.detect.radiographs import takes_radiographs
    from medkd.io.dicom.gate import GateSettings

    if takes_radiographs(loaded.info):
        codes = [code.strip() for code in allow.split(",") if code.strip()]
        with progress_bars() as report:
            return image_job(inputs, loaded, allow=codes, progress=_looking(report))
    gate = make_settings(GateSettings, overrides=[f"allow=[{allow}]"])
    with progress_bars() as report:
        return scan_job(inputs, loaded, gate=gate, progress=_looking(report))


def _looking(report: Callable[[str, int, int, str], None]) -> Callable[[int], None]:
    return lambda count: report("looking at: files", count, 0, "")


def _run(job: SearchJob, out: Path, *, resume: bool) -> list[CaseResult]:
    from medkd.cli.progress import progress_bars
    from medkd.cli.train import explained_interruption
    from medkd.detect.jobs import run_job

    with explained_interruption(out), progress_bars() as report:

        def advance(done: int, total: int, refused: int) -> None:
            report(_noun(job), done, total, f"{refused} not analysed" if refused else "")

        return run_job(job, out, resume=resume, progress=advance)


def _noun(job: SearchJob) -> str:
    return "scans" if job.record.kind == "scan" else "radiographs"


def _synthetic_model(info: ModelInfo, job: SearchJob) -> str:
    """Say that synthetic scans taught the model, unless all inputs are phantoms themselves."""
    from medkd.provenance import synthetic_words

    words = synthetic_words(info.origins, synthetic=info.trained_on_synthetic)
    of_people = job.origins.real + job.origins.implanted
    return f"This model was {words}." if words and of_people else ""


def _warn(sentence: str) -> None:
    if sentence:
        typer.secho(sentence, fg=typer.colors.YELLOW, err=True)


def _say_synthetic_inputs(job: SearchJob) -> None:
    """Say how many synthetic scans were searched, what made them, and how hard phantoms are."""
    from medkd.difficulty import difficulty_words
    from medkd.provenance import origin_words

    if job.origins.synthetic:
        typer.echo(f"searched: {origin_words(job.origins)}")
    for stamp in job.stamps:
        typer.echo(difficulty_words(stamp))


def _say_results(results: list[CaseResult], job: SearchJob, out: Path) -> None:
    refused = [result for result in results if result.status == "not_analysed"]
    for result in refused:
        reasons = "".join(f"\n  - {reason}" for reason in result.reasons)
        typer.secho(f"not analysed: {result.seriesuid}{reasons}", fg=typer.colors.RED, err=True)
    analysed = f"{len(results) - len(refused)} of {len(results)} {_noun(job)} analysed"
    if job.left_out:
        of_scans = job.record.kind == "scan"
        others = "radiographs" if of_scans else "files or cases that are no radiographs"
        typer.echo(f"{job.left_out} {others} were left out: this model takes {_noun(job)} alone")
    if job.record.kind == "scan":
        scores = [mark.score for result in results for mark in result.candidates]
        typer.echo(f"{analysed}, {len(scores)} marks: {out}")
        noun, aim = "mark", ""
    else:
        scores = [p for result in results for p in result.probabilities.values()]
        typer.echo(f"{analysed}: {out}")
        noun, aim = "radiograph", f" for {' or '.join(job.facts.labels)}"
    if job.point is not None:
        above = sum(score >= job.point.threshold for score in scores)
        reach = "reaches" if above == 1 else "reach"
        typer.echo(
            f"{counted(above, noun)} {reach} the threshold{aim}: {job.point.threshold:.3g}, "
            f"frozen on {job.point.chosen_on}"
        )
    else:
        typer.echo("no threshold was frozen in this model: above_threshold is left empty")
    _say_synthetic_inputs(job)


def _say_scan_levels(
    inputs: list[Path], results: list[CaseResult], label: list[str] | None, *, out: Path
) -> None:
    from medkd.index.table import is_index

    for index in filter(is_index, inputs):
        _say_scan_level(index, results, label, out=out)


def _say_scan_level(
    index: Path, results: list[CaseResult], label: list[str] | None, *, out: Path
) -> None:
    """Score by the labels of whole scans, where the INDEX has them; and say what is left out."""
    from medkd.detect.scan_level import score_scan_level
    from medkd.index.table import read_index
    from medkd.jsonio import write_json

    archive = read_index(index)
    if images := sum(case.kind == "image" for case in archive.cases):
        typer.echo(f"{index.name}: {images} radiographs left out, this model searches CT alone")
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
    if score.caution:
        typer.secho(f"warning: {index.name}: {score.caution}", fg=typer.colors.YELLOW, err=True)
    write_json(out / f"scan_level-{index.stem}.json", score)
