"""`medkd detect`: find marks on whole scans, or score radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from medkd.cli.options import (
    AllowOption,
    ModelAndInputs,
    ResumeOption,
    settings_from_options,
    split_commas,
)
from medkd.cli.text import counted

if TYPE_CHECKING:
    from medkd.detect.jobs import SearchJob
    from medkd.models.package import LoadedModel, ModelInfo
    from medkd.types import CaseResult


FpPerScanOption = Annotated[
    float | None,
    typer.Option(
        help="CT: flag marks from the frozen threshold with this many false positives per "
        "scan on validation, e.g. 1, 2 or 4; default: the model's own choice."
    ),
]


LabelOption = Annotated[
    list[str] | None,
    typer.Option(help="Label in the INDEX of scans with a nodule; default: nodule."),
]
WorkersOption = Annotated[int, typer.Option(min=1, max=64, help="CT: processes, of 2 GiB each.")]
FlipsOption = Annotated[
    int,
    typer.Option(help="CT, point detectors: mirrored copies to average, 1, 2, 4 or 8; slower."),
]
SecondLookOption = Annotated[
    str | None,
    typer.Option(
        help="CT: a patch classifier that scores the best 40 marks again; frozen thresholds do not "
        "apply then."
    ),
]


class ScanOptions(NamedTuple):
    """The options of the search of CT scans."""

    fp_per_scan: float | None = None
    workers: int = 1
    flips: int = 1
    second_look: str | None = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("detect")(detect)


def detect(
    words: ModelAndInputs,
    *,
    out: Annotated[Path, typer.Option(help="A new or empty folder for the results.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
    label: LabelOption = None,
    allow: AllowOption = "",
    fp_per_scan: FpPerScanOption = None,
    workers: WorkersOption = 1,
    flips: FlipsOption = 1,
    second_look: SecondLookOption = None,
    resume: ResumeOption = False,
) -> None:
    """Search CT scans for nodules, or score chest X-rays. Not a medical device.

    MODEL determines which: a model trained on CT patches searches scans, and a model trained on
    X-rays scores X-rays. `medkd models` lists the shipped models. OUT gets results.csv, one JSON
    file per case and, for CT, results.html with pictures of the first ten marks of each scan. A
    case that cannot be read, is not fit for analysis, or shows no lungs has the status not_analysed
    with its reasons. If the command is stopped or killed, run it again with --resume to skip the
    finished cases; another --fp-per-scan then flags the same marks anew. Exits with 1 if no case
    could be analysed.

    CT: results.csv lists all marks, at most 100 per scan: LUNA16's columns (LPS mm), voxel indices
    (from 0), slice_number (from 1 along k), the InstanceNumber of the DICOM image, the threshold
    chosen on validation, and whether the mark reaches it. diameter_mm is empty for models that
    measure none. X-ray: one row per image with the calibrated probability of each label.

    Cases of an INDEX are named by its case ids, other cases by their UID or the name of their file
    or folder; therefore index a hospital's archive first. For a pseudonymised INDEX no path and no
    UID is written. `medkd identity lookup CASE --index INDEX --why REASON --slice N` prints them
    and records the look-up. If an INDEX states which scans have a nodule, the ROC AUC of each
    scan's highest mark score is printed and written to scan_level-INDEX.json.

    Example: `medkd detect scans/ --out found`

    Example: `medkd detect runs/ct/student work/index.csv --out found --workers 2 --resume`

    Example: `medkd detect runs/xray/student xrays/ --out found`
    """
    from medkd.cli.models import model_and_inputs
    from medkd.index.table import is_index
    from medkd.models.package import load_model

    model, inputs = model_and_inputs(words)
    loaded = load_model(model, device=device)
    options = ScanOptions(fp_per_scan, workers, flips, second_look)
    job = _build_job(loaded, inputs, allow, options)
    _warn(synthetic := _synthetic_warning(loaded.info, job))
    results = _run(job, out, resume=resume)
    _print_results(results, job, out)
    for index in filter(is_index, inputs if job.record.kind == "scan" else ()):
        _print_scan_level(index, results, label, out=out)
    _warn(synthetic)
    if all(result.status == "not_analysed" for result in results):
        raise typer.Exit(1)


def _build_job(
    loaded: LoadedModel,
    inputs: list[Path],
    allow: str,
    options: ScanOptions,
) -> SearchJob:
    """Build a job that searches scans or scores radiographs, depending on the model."""
    from medkd.cli.progress import progress_bars
    from medkd.config.load import make_settings
    from medkd.detect.jobs import image_job, scan_job
    from medkd.detect.radiographs import takes_radiographs
    from medkd.detect.view import DetectSettings
    from medkd.errors import SettingsError
    from medkd.io.dicom.gate import GateSettings

    with progress_bars() as report:

        def show_count(count: int) -> None:
            report("reading files", count, 0, "")

        if takes_radiographs(loaded.info):
            if options != ScanOptions():
                reason = (
                    "--fp-per-scan, --workers, --flips and --second-look are only for models that "
                    "search CT scans"
                )
                raise SettingsError("options that do not apply to X-rays", [reason])
            return image_job(inputs, loaded, allow=split_commas(allow), progress=show_count)
        search = {"flips": options.flips, "second_look": options.second_look}
        return scan_job(
            inputs,
            loaded,
            gate=make_settings(GateSettings, overrides=[f"allow=[{allow}]"]),
            settings=settings_from_options(
                DetectSettings, search, refusal="options that cannot be used"
            ),
            fp_per_scan=options.fp_per_scan,
            workers=options.workers,
            progress=show_count,
        )


def _run(job: SearchJob, out: Path, *, resume: bool) -> list[CaseResult]:
    from medkd.cli.progress import progress_bars
    from medkd.cli.train import explained_interruption
    from medkd.detect.jobs import run_job

    with explained_interruption(out), progress_bars() as report:

        def show_progress(done: int, total: int, refused: int) -> None:
            report(_noun(job), done, total, f"{refused} not analysed" if refused else "")

        return run_job(job, out, resume=resume, progress=show_progress)


def _noun(job: SearchJob) -> str:
    return "scans" if job.record.kind == "scan" else "radiographs"


def _synthetic_warning(info: ModelInfo, job: SearchJob) -> str:
    """Return a warning if the model was trained on synthetic scans and an input is no phantom."""
    from medkd.provenance import synthetic_words

    words = synthetic_words(info.origins, synthetic=info.trained_on_synthetic)
    from_patients = job.origins.real + job.origins.implanted
    return f"This model was {words}." if words and from_patients else ""


def _warn(sentence: str) -> None:
    if sentence:
        typer.secho(sentence, fg=typer.colors.YELLOW, err=True)


def _print_results(results: list[CaseResult], job: SearchJob, out: Path) -> None:
    from medkd.difficulty import difficulty_words
    from medkd.provenance import origin_words

    refused = [result for result in results if result.status == "not_analysed"]
    for result in refused:
        reasons = "".join(f"\n  - {reason}" for reason in result.reasons)
        typer.secho(f"not analysed: {result.seriesuid}{reasons}", fg=typer.colors.RED, err=True)
    analysed = f"{len(results) - len(refused)} of {len(results)} {_noun(job)} analysed"
    if job.left_out:
        of_scans = job.record.kind == "scan"
        what = "radiographs" if of_scans else "files or cases that are not radiographs"
        typer.echo(f"{job.left_out} {what} were skipped: this model accepts only {_noun(job)}")
    if job.record.kind == "scan":
        scores = [mark.score for result in results for mark in result.candidates]
        typer.echo(f"{analysed}, {len(scores)} marks: {out}")
        noun, label = "mark", ""
    else:
        scores = [p for result in results for p in result.probabilities.values()]
        typer.echo(f"{analysed}: {out}")
        noun, label = "radiograph", f" for {' or '.join(job.facts.labels)}"
    if job.point is not None:
        above = sum(score >= job.point.threshold for score in scores)
        reach = "reaches" if above == 1 else "reach"
        typer.echo(
            f"{counted(above, noun)} {reach} the threshold{label}: {job.point.threshold:.3g}, "
            f"chosen on {job.point.chosen_on}"
        )
    else:
        typer.echo("this model has no stored threshold: above_threshold is empty")
    if job.origins.synthetic:
        typer.echo(f"searched: {origin_words(job.origins)}")
    for stamp in job.stamps:
        typer.echo(difficulty_words(stamp))


def _print_scan_level(
    index: Path, results: list[CaseResult], label: list[str] | None, *, out: Path
) -> None:
    """Score the highest mark of each scan against the scan labels of an INDEX, if it has any."""
    from medkd.detect.scan_level import score_scan_level
    from medkd.index.table import read_index
    from medkd.jsonio import write_json

    archive = read_index(index)
    if images := sum(case.kind == "image" for case in archive.cases):
        typer.echo(f"{index.name}: {images} radiographs skipped: this model searches only CT")
    score = score_scan_level(results, archive, positive=label or ["nodule"])
    if score is None:
        needed = "scans known to have a nodule and scans known to have none"
        typer.echo(f"{index.name}: no scan-level score: this requires {needed}")
        return
    interval = score.roc_auc.interval
    words = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
    typer.echo(
        f"{index.name}: scan-level ROC AUC of the highest mark {score.roc_auc.value:.3f}{words}, "
        f"{score.positives} of {score.scans} scans with a nodule, {score.unknown} unknown"
    )
    if score.caution:
        typer.secho(f"warning: {index.name}: {score.caution}", fg=typer.colors.YELLOW, err=True)
    write_json(out / f"scan_level-{index.stem}.json", score)
