"""`medkd calibrate`: fit probabilities and thresholds of a model to a hospital's own scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medkd.cli.options import IndexArgument
from medkd.cli.outputs import check_output, index_places
from medkd.cli.text import counted
from medkd.errors import SettingsError

if TYPE_CHECKING:
    from medkd.detect.calibration import CalibratedModel
    from medkd.detect.calibration_cases import CalibrationCases, Division
    from medkd.models.package import LoadedModel
    from medkd.types import CaseResult


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("calibrate")(calibrate)


def calibrate(
    model: Annotated[Path, typer.Argument(help="A model directory or shipped model for CT scans.")],
    index: IndexArgument,
    *,
    out: Annotated[Path, typer.Option(help="A new model directory; MODEL is not changed.")],
    split: Annotated[
        Path | None, typer.Option(help="A split.json of `medkd split`; default: all scans.")
    ] = None,
    part: Annotated[
        Literal["train", "val", "test"] | None,
        typer.Option(help="The part of the split; test is refused. Default: val."),
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="For a split with folds: the fold for test.")
    ] = None,
    fp_per_scan: Annotated[
        float, typer.Option(min=0.01, help="False positives per scan at the default threshold.")
    ] = 1.0,
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for the results of the search; default: OUT.search."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Calibrate a model on local validation scans: probabilities and thresholds of its marks.

    Searches the annotated scans of an INDEX (see `medkd index --annotations`) and compares the
    marks with the reference nodules by LUNA16's rules. Then it fits a temperature and a shift, so
    of the marks with probability 0.8, 80 % are nodules, and chooses the thresholds for 1, 2 and 4
    false positives per scan. The weights and the ranking of the marks stay the same.

    Use scans that neither trained nor will test the model: at least 10 with and 10 without nodules
    are advisable. The test part of a split is refused, and so are scans that are known to have
    trained the model. A nodule that nobody annotated counts as a false positive.

    If the command is stopped or killed, the same command continues after the last finished scan.

    Example: `medkd calibrate RUN/student work/index.csv --split work/split.json --out local-model`

    Example: `medkd calibrate ct-nodule-small work/index.csv --fp-per-scan 2 --out local-model`
    """
    from medkd.detect.calibration import calibrate_model
    from medkd.detect.calibration_cases import choose_cases
    from medkd.models.package import load_model, save_model

    searched = work or out.with_name(f"{out.name}.search")
    _check_outputs(out, searched, model=model, inputs=(split, *index_places(index)))
    division = _division(split, part, fold)
    loaded = load_model(model, device=device)
    cases = choose_cases(index, loaded.info, division)
    for note in cases.notes:
        typer.echo(note)
    results = _search(loaded, cases, searched)
    made = calibrate_model(loaded.info, results, cases, fp_per_scan=fp_per_scan)
    save_model(out, loaded.network, made.info, half=made.info.precision == "float16")
    _print_calibration(made)
    typer.echo(f"written: {out} (the marks are in {searched})")


def _check_outputs(out: Path, work: Path, *, model: Path, inputs: Sequence[Path | None]) -> None:
    """Refuse an output that is an input or inside one, or that already exists.

    Raises:
        SettingsError: naming the path and the remedy.
        CheckpointError: if there is no such model.
    """
    from medkd.models.shipped import find_model

    for option, place in (("--out", out), ("--work", work)):
        check_output(option, place, inputs)
        if find_model(model).resolve() in (place.resolve(), *place.resolve().parents):
            reason = f"it is MODEL or inside it, and MODEL is not changed: give {option} another"
            raise SettingsError(f"{option} {place}: not written", [f"{reason} name"])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        reason = "expected a new or empty folder: give --out another name, or remove it first"
        raise SettingsError(f"--out {out}: not written", [reason])


def _division(
    split: Path | None, part: Literal["train", "val", "test"] | None, fold: int | None
) -> Division | None:
    from medkd.detect.calibration_cases import Division

    if split is not None:
        return Division(split, part or "val", fold)
    given = {"--part": part, "--fold": fold}
    reasons = [
        f"{name} {value} needs the split that it is of: --split SPLIT.json"
        for name, value in given.items()
        if value is not None
    ]
    if reasons:
        raise SettingsError("the scans cannot be chosen", reasons)
    return None


def _search(loaded: LoadedModel, cases: CalibrationCases, work: Path) -> list[CaseResult]:
    from medkd.cli.progress import progress_bars
    from medkd.detect.calibration import calibration_search
    from medkd.detect.jobs import run_job

    job = calibration_search(loaded, cases)
    with _explained(work), progress_bars() as report:

        def show(done: int, total: int, refused: int) -> None:
            note = f"{refused} not analysed" if refused else ""
            report("searching scans", done, total, note)

        results = run_job(job, work, resume=True, progress=show)
    for result in results:
        if result.status == "not_analysed":
            reasons = "".join(f"\n  - {reason}" for reason in result.reasons)
            typer.secho(f"not analysed: {result.seriesuid}{reasons}", fg="red", err=True)
    return results


@contextmanager
def _explained(work: Path) -> Iterator[None]:
    """Explain an interruption, and a folder with the results of another search."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nfinished scans are kept in {work}: the same command resumes", err=True)
        raise
    except SettingsError as error:
        reasons = [r for r in error.reasons if "--out" not in r]
        remedy = "give --work another folder, or remove this one first"
        raise SettingsError(error.headline, [*reasons, remedy]) from error


def _print_calibration(made: CalibratedModel) -> None:
    record, scaling = made.record, made.info.calibration
    typer.echo(
        f"calibrated on {counted(record.scans, 'scan')} of {counted(record.patients, 'patient')}, "
        f"{record.scans_with_nodules} with nodules: {record.hits} of "
        f"{counted(record.nodules, 'nodule')} marked, {counted(record.false_marks, 'false mark')}"
    )
    typer.echo(
        f"temperature {scaling.temperature[0]:.3g}, logit shift {scaling.logit_shift[-1]:.3g}; on "
        f"these scans log loss {made.before.log_loss:.4f} -> {made.after.log_loss:.4f}, expected "
        f"calibration error {made.before.calibration_error:.4f} -> "
        f"{made.after.calibration_error:.4f}"
    )
    for name, point in made.info.operating_points.items():
        if point.fp_per_scan is not None:
            typer.echo(
                f"{name}: probability >= {point.threshold:.4g}, sensitivity "
                f"{point.sensitivity or 0.0:.3f} at {point.fp_per_scan:.2f} false positives per "
                "scan"
            )
    for warning in record.warnings:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
