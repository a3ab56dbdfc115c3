"""`medkd froc`: score marks of any detector by LUNA16's rules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.outputs import check_output, index_places
from medkd.errors import SeriesError, SettingsError

if TYPE_CHECKING:
    from medkd.types import Candidate, Estimate, FrocResult, Interval, Reference

_SHOWN = 3
_UID = re.compile(r"\d+(?:\.\d+){4,}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="froc")(score_marks)


def score_marks(
    *,
    marks: Annotated[
        Path, typer.Option(help="CSV: seriesuid, coordX, coordY, coordZ (LPS mm), probability.")
    ],
    index: Annotated[
        Path | None,
        typer.Option(help="The index.csv with nodules, excluded findings, scans and patients."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="CSV: seriesuid, coordX, coordY, coordZ, diameter_mm.")
    ] = None,
    excluded: Annotated[
        Path | None, typer.Option(help="CSV of findings to ignore, like --annotations.")
    ] = None,
    seriesuids: Annotated[
        Path | None, typer.Option(help="Series to score, one per line; may select from --index.")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV: seriesuid, patient_id; for intervals by patient.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Report sensitivity, precision and F1 at this score.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples; 0: no intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers and the curve to this file.")
    ] = None,
) -> None:
    """Score marks on whole scans: FROC and CPM exactly as in LUNA16, with intervals.

    Scans of an INDEX are scored only if they are annotated or labelled as free of nodules.

    Example: `medkd froc --marks found/results.csv --index work/index.csv --json froc.json`

    Example: `medkd froc --marks marks.csv --annotations annotations.csv
    --excluded annotations_excluded.csv --seriesuids seriesuids.csv --json froc.json`
    """
    from medkd.evaluate.froc import evaluate_froc
    from medkd.io.luna16_tables import read_marks

    tables = _Tables(annotations, excluded, seriesuids, patients)
    if json_path:
        inputs = (marks, annotations, excluded, seriesuids, patients)
        check_output("--json", json_path, [*inputs, *(index_places(index) if index else ())])
    standard = _of_index(index, tables) if index else _of_tables(tables)
    scored = _scored_marks(read_marks(marks), standard, marks)
    _check_nodules(standard, index or tables.annotations)
    found = evaluate_froc(
        scored,
        standard.reference,
        track=f"marks of {marks.name}",
        threshold=threshold,
        bootstrap=bootstrap,
        seed=seed,
    )
    _report(found, standard, json_path)


def _report(found: FrocResult, standard: _Standard, json_path: Path | None) -> None:
    """Print a result and write it as JSON; UIDs in its warnings may have to be hidden."""
    from medkd.evaluate.froc import VARIANT
    from medkd.jsonio import to_jsonable, write_json

    if standard.pseudonymous:
        hidden = tuple(_UID.sub("a UID", warning) for warning in found.warnings)
        found = replace(found, warnings=hidden)
    for line in (*_summary(found), *standard.notes, *standard.phantoms):
        typer.echo(line)
    for warning in found.warnings:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    if json_path:
        more = {"variant": VARIANT, "phantoms": standard.phantoms, "notes": standard.notes}
        write_json(json_path, {**to_jsonable(found), **more})
        typer.echo(f"written: {json_path}")


@dataclass(frozen=True, slots=True)
class _Tables:
    """Tables of the reference standard that were given as options."""

    annotations: Path | None
    excluded: Path | None
    seriesuids: Path | None
    patients: Path | None


@dataclass(frozen=True, slots=True)
class _Standard:
    """The reference standard, and what is printed with the result.

    Marks on scans in `left_out` are ignored. `phantoms` describe the difficulty of synthetic scans.
    If `pseudonymous`, UIDs are hidden in all messages.
    """

    reference: Reference
    left_out: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    pseudonymous: bool = False


def _of_index(index: Path, tables: _Tables) -> _Standard:
    """Read the reference standard of an INDEX; `tables` may select scans and add findings.

    Raises:
        SettingsError: if nodules or patients are also given as tables.
    """
    from medkd.data.archive_reference import read_index_reference
    from medkd.io.luna16_tables import read_excluded, read_seriesuids

    if tables.annotations or tables.patients:
        reason = "an INDEX contains nodules and patients: give either --index, or --annotations "
        raise SettingsError("two reference standards were given", [reason + "with --seriesuids"])
    more = read_excluded(tables.excluded) if tables.excluded else []
    found = read_index_reference(
        index,
        only=read_seriesuids(tables.seriesuids) if tables.seriesuids else None,
        excluded=more,
    )
    standard = _Standard(
        found.reference,
        frozenset(found.left_out),
        list(found.notes()),
        _phantoms(found.generators),
        found.pseudonymous,
    )
    if tables.excluded:
        _check_rows([row.seriesuid for row in more], standard, f"--excluded {tables.excluded}")
    return standard


def _of_tables(tables: _Tables) -> _Standard:
    """Read the reference standard from CSV tables.

    Raises:
        SettingsError: if a required table is missing.
        SeriesError: if the annotations or the excluded findings have rows, but none of them
            belongs to a series that is scored.
    """
    from medkd.io.luna16_tables import read_reference
    from medkd.io.tables import read_table

    if tables.annotations is None or tables.seriesuids is None:
        given = {"--annotations": tables.annotations, "--seriesuids": tables.seriesuids}
        missing = [
            f"{name} is missing: give --index INDEX, or --annotations and --seriesuids (which "
            "also lists the scans without nodules)"
            for name, path in given.items()
            if path is None
        ]
        raise SettingsError("the reference standard is missing", missing)
    reference = read_reference(
        tables.annotations,
        tables.excluded,
        seriesuids=tables.seriesuids,
        patients=tables.patients,
    )
    stamps = _stamps_of(tables.annotations, reference)
    standard = _Standard(reference, phantoms=_phantoms(stamps))
    of_nodules = [nodule.seriesuid for nodule in reference.nodules]
    _check_rows(of_nodules, standard, f"--annotations {tables.annotations}")
    if tables.excluded:
        named = read_table(tables.excluded).words("seriesuid")
        _check_rows(named, standard, f"--excluded {tables.excluded}")
    return standard


def _check_rows(rows: Iterable[str], standard: _Standard, what: str) -> None:
    """Refuse a table of marks, nodules or findings that belongs to other series.

    A table may contain only some of the series (601 of the 888 LUNA16 series have nodules), and
    series that are not scored. It is refused if no row belongs to the reference standard.

    Args:
        rows: the series of each row.
        standard: the reference standard.
        what: the option and its file, for the message.

    Raises:
        SeriesError: if there are rows, but none belongs to a series of the standard.
    """
    named = dict.fromkeys(rows)
    if named and not {*standard.reference.seriesuids, *standard.left_out}.intersection(named):
        if standard.pseudonymous:  # a UID may identify a patient
            named = dict.fromkeys("a UID" if _UID.fullmatch(uid) else uid for uid in named)
        reasons = [
            f"found: {_some(named)}",
            f"scored: {_some(standard.reference.seriesuids)}",
            "give tables of the same scans with the same names: an INDEX uses its case ids, as in "
            "the results of `medkd detect MODEL INDEX`; public tables use UIDs",
        ]
        raise SeriesError(f"{what}: no row belongs to a series that is scored", reasons)


def _check_nodules(standard: _Standard, path: Path | None) -> None:
    """Refuse a reference standard without nodules.

    Raises:
        SeriesError: if no series that is scored has a nodule (excluded findings do not count).
    """
    counted = set(standard.reference.seriesuids)
    if not any(nodule.seriesuid in counted for nodule in standard.reference.nodules):
        reasons = [
            f"the {len(counted)} scored series have no nodules, so sensitivity is not defined",
            "give nodules with --annotations, here or in `medkd index` (excluded findings are not "
            "enough)",
        ]
        raise SeriesError(f"{path}: CPM is not defined", reasons)


def _scored_marks(marks: list[Candidate], standard: _Standard, path: Path) -> list[Candidate]:
    """Return the marks on scans that are scored, and note how many others were left out."""
    _check_rows((mark.seriesuid for mark in marks), standard, f"--marks {path}")
    kept = [mark for mark in marks if mark.seriesuid not in standard.left_out]
    if dropped := len(marks) - len(kept):
        standard.notes.append(f"left out: {dropped} marks on scans that are not scored")
    if not kept:
        standard.notes.append(f"{path} has no mark on a scored scan: sensitivity and CPM are 0")
    return kept


def _some(ids: Iterable[str]) -> str:
    shown = list(dict.fromkeys(ids))
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _stamps_of(annotations: Path, reference: Reference) -> list[str]:
    """Return the generators of synthetic scans, from the data set or INDEX of a table."""
    from medkd.index.table import read_index, table_path
    from medkd.io.synthetic_mark import stamp_of, unknown_stamp

    if stamp := stamp_of(annotations):
        return [stamp]
    index = annotations.with_name(annotations.name.replace(".nodules.csv", ".csv"))
    if annotations != table_path(index, "nodules") or not index.is_file():
        return []
    counted = set(reference.seriesuids)
    synthetic = [c for c in read_index(index).cases if c.synthetic and c.case_id in counted]
    return list(dict.fromkeys(case.generator or unknown_stamp() for case in synthetic))


def _phantoms(stamps: Iterable[str]) -> list[str]:
    """Describe the difficulty of synthetic scans; empty if all scans are real."""
    named = [stamp for stamp in stamps if stamp]
    if not named:
        return []
    from medkd.difficulty import difficulty_words

    return [difficulty_words(stamp) for stamp in named]


def _summary(result: FrocResult) -> list[str]:
    lines = [
        f"{result.track}: {result.scans} scans, {result.nodules} nodules, "
        f"{result.candidates} candidates (at most 100 per scan)",
        f"CPM interpolated  {result.cpm_interpolated:.6f}{_range(result.interval)}",
        f"CPM nearest point {result.cpm_nearest:.6f}",
        "false positives per scan  " + "  ".join(f"{rate:>6}" for rate in result.sensitivity_at),
        "sensitivity               "
        + "  ".join(f"{value:6.4f}" for value in result.sensitivity_at.values()),
        f"true positives {result.true_positives}, false positives {result.false_positives}, "
        f"false negatives {result.false_negatives}",
        f"ignored: {result.ignored_excluded} on excluded findings, "
        f"{result.ignored_double} repeated marks on a nodule",
    ]
    point = result.at_operating_point
    if point is not None:
        lines += [
            f"at threshold {point.threshold:g}: sensitivity {_number(point.sensitivity)}, "
            f"precision {_number(point.precision)}, F1 {_number(point.f1)}, "
            f"{point.fp_per_scan:.3f} false positives per scan"
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
