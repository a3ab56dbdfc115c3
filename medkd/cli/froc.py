"""`medkd froc`: score anyone's marks as LUNA16 does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medkd.types import Estimate, FrocResult, Interval


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="froc")(score_marks)


def score_marks(
    *,
    marks: Annotated[
        Path, typer.Option(help="CSV: seriesuid, coordX, coordY, coordZ (LPS mm), probability.")
    ],
    annotations: Annotated[Path, typer.Option(help="CSV of nodules: ..., diameter_mm.")],
    excluded: Annotated[Path, typer.Option(help="CSV of irrelevant findings, same columns.")],
    seriesuids: Annotated[Path, typer.Option(help="The series that count, one a line.")],
    patients: Annotated[
        Path | None, typer.Option(help="CSV: seriesuid, patient_id; intervals go by patient.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Frozen operating point: sensitivity, precision, F1 there.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples; 0 for no interval.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write every number and the curve here.")
    ] = None,
) -> None:
    """Score marks on whole scans: LUNA16-exact FROC and CPM, with intervals.

    Example: `medkd froc --marks marks.csv --annotations annotations.csv
    --excluded annotations_excluded.csv --seriesuids seriesuids.csv --json froc.json`
    """
    from medkd.evaluate.froc import VARIANT, evaluate_froc
    from medkd.io.annotations import read_marks, read_reference
    from medkd.jsonio import to_jsonable, write_json

    reference = read_reference(annotations, excluded, seriesuids=seriesuids, patients=patients)
    result = evaluate_froc(
        read_marks(marks),
        reference,
        track=f"marks of {marks.name}",
        threshold=threshold,
        bootstrap=bootstrap,
        seed=seed,
    )
    for line in _summary(result):
        typer.echo(line)
    phantoms = _phantoms(annotations)
    for line in phantoms:
        typer.echo(line)
    for warning in result.warnings:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    if json_path:
        write_json(json_path, {**to_jsonable(result), "variant": VARIANT, "phantoms": phantoms})
        typer.echo(f"written: {json_path}")


def _phantoms(annotations: Path) -> list[str]:
    """Say what made the synthetic scans that a table of nodules belongs to; nothing if no such."""
    from medkd.io.synthetic_mark import stamp_of

    stamp = stamp_of(annotations)
    if not stamp:
        return []
    from medkd.data.phantom import difficulty_words

    return [difficulty_words(stamp)]


def _summary(result: FrocResult) -> list[str]:
    lines = [
        f"{result.track}: {result.scans} scans, {result.nodules} nodules, "
        f"{result.candidates} candidates (100 a scan at most)",
        f"CPM interpolated  {result.cpm_interpolated:.6f}{_range(result.interval)}",
        f"CPM nearest point {result.cpm_nearest:.6f}",
        "false positives a scan  " + "  ".join(f"{rate:>6}" for rate in result.sensitivity_at),
        "sensitivity             "
        + "  ".join(f"{value:6.4f}" for value in result.sensitivity_at.values()),
        f"true positives {result.true_positives}, false positives {result.false_positives}, "
        f"false negatives {result.false_negatives}",
        f"ignored: {result.ignored_excluded} on excluded findings, "
        f"{result.ignored_double} further marks on a found nodule",
    ]
    point = result.at_operating_point
    if point is not None:
        lines += [
            f"at threshold {point.threshold:g}: sensitivity {_number(point.sensitivity)}, "
            f"precision {_number(point.precision)}, F1 {_number(point.f1)}, "
            f"{point.fp_per_scan:.3f} false positives a scan"
        ]
    return lines


def _number(estimate: Estimate) -> str:
    return f"{estimate.value:.4f}{_range(estimate.interval)}"


def _range(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return (
        f" ({interval.level:.0%} {interval.low:.4f} to {interval.high:.4f}, "
        f"by {interval.unit}, {interval.resamples} resamples)"
    )
