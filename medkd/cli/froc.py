"""`medkd froc`: score anyone's marks as LUNA16 does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
        typer.Option(help="INDEX: its nodules, excluded findings, scans and patients."),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="CSV of nodules: ..., diameter_mm; in place of an INDEX.")
    ] = None,
    excluded: Annotated[
        Path | None, typer.Option(help="CSV of irrelevant findings, same columns.")
    ] = None,
    seriesuids: Annotated[
        Path | None,
        typer.Option(help="The series that count, one a line; with an INDEX: of its scans these."),
    ] = None,
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

    Scans of an INDEX count where their nodules are known: annotated, or labelled free of them.

    Example: `medkd froc --marks found/results.csv --index work/index.csv --json froc.json`

    Example: `medkd froc --marks marks.csv --annotations annotations.csv
    --excluded annotations_excluded.csv --seriesuids seriesuids.csv --json froc.json`
    """
    from medkd.evaluate.froc import evaluate_froc
    from medkd.io.luna16_tables import read_marks

    tables = _Tables(annotations, excluded, seriesuids, patients)
    _check_place(json_path, marks, index, tables=tables)
    standard = _of_index(index, tables) if index else _of_tables(tables)
    scored = _that_count(read_marks(marks), standard, marks)
    _check_nodules(standard, index or tables.annotations)
    found = evaluate_froc(
        scored,
        standard.reference,
        track=f"marks of {marks.name}",
        threshold=threshold,
        bootstrap=bootstrap,
        seed=seed,
    )
    result = _without_uids(found) if standard.pseudonymous else found
    _tell(result, standard)
    if json_path:
        _write(json_path, result, standard)


def _check_place(
    json_path: Path | None, marks: Path, index: Path | None, *, tables: _Tables
) -> None:
    given = (tables.annotations, tables.excluded, tables.seriesuids, tables.patients)
    if json_path:
        places = index_places(index) if index else ()
        check_output("--json", json_path, [marks, *given, *places])


def _write(path: Path, result: FrocResult, standard: _Standard) -> None:
    from medkd.evaluate.froc import VARIANT
    from medkd.jsonio import to_jsonable, write_json

    more = {"variant": VARIANT, "phantoms": standard.phantoms, "notes": standard.notes}
    write_json(path, {**to_jsonable(result), **more})
    typer.echo(f"written: {path}")


def _tell(result: FrocResult, standard: _Standard) -> None:
    for line in (*_summary(result), *standard.notes, *standard.phantoms):
        typer.echo(line)
    for warning in result.warnings:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)


@dataclass(frozen=True, slots=True)
class _Tables:
    """The tables of the reference standard that were given."""

    annotations: Path | None
    excluded: Path | None
    seriesuids: Path | None
    patients: Path | None


@dataclass(frozen=True, slots=True)
class _Standard:
    """What marks are scored against; marks of `left_out` are known and do not count."""

    reference: Reference
    left_out: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    pseudonymous: bool = False


def _of_index(index: Path, tables: _Tables) -> _Standard:
    """Read the reference standard of an INDEX; tables may add to it.

    Raises:
        SettingsError: if nodules or patients are given twice.
    """
    from medkd.data.archive_reference import read_index_reference
    from medkd.io.luna16_tables import read_excluded, read_seriesuids

    if tables.annotations or tables.patients:
        reason = "expected --index, or --annotations with --seriesuids: the INDEX has nodules and "
        raise SettingsError("two reference standards were given", [reason + "patients of its own"])
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
    """Read the reference standard of tables.

    Raises:
        SettingsError: if one that is needed is missing.
        SeriesError: if the rows of one are of no series that counts.
    """
    from medkd.io.luna16_tables import read_reference
    from medkd.io.tables import read_table

    if tables.annotations is None or tables.seriesuids is None:
        given = {"--annotations": tables.annotations, "--seriesuids": tables.seriesuids}
        missing = [
            f"{name} is missing: give --index INDEX, or --annotations and --seriesuids (scans "
            "without a nodule count, too, so that the annotations cannot say which scans count)"
            for name, path in given.items()
            if path is None
        ]
        raise SettingsError("there is nothing to score against", missing)
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


def _check_rows(rows: Sequence[str], standard: _Standard, what: str) -> None:
    """Refuse a table of nodules or findings that was made for other series.

    A table may name some series only (LUNA16's nodules are of 601 of its 888 series), and more
    series than count; it is refused if no row at all is of a series of the reference standard.

    Args:
        rows: the series of each row.
        standard: whose series count.
        what: the option and its table.

    Raises:
        SeriesError: if there are rows, and none is of such a series.
    """
    known = {*standard.reference.seriesuids, *standard.left_out}
    named = dict.fromkeys(rows)
    if rows and known.isdisjoint(named):
        reasons = [
            *_both_names(named, standard),
            "give tables of the same scans, under the same names: those of an INDEX are its "
            "case ids, those of public tables are UIDs",
        ]
        raise SeriesError(f"{what}: its rows are of no series that counts", reasons)


def _check_nodules(standard: _Standard, path: Path | None) -> None:
    """Refuse a reference standard without a nodule.

    Raises:
        SeriesError: if no series that counts holds a nodule that must be found.
    """
    counted = set(standard.reference.seriesuids)
    if not any(nodule.seriesuid in counted for nodule in standard.reference.nodules):
        reasons = [
            f"the {len(counted)} series that count hold no nodule, so there is no sensitivity",
            "give the nodules that must be found: --annotations here, or to medkd index "
            "(excluded findings alone are none)",
        ]
        raise SeriesError(f"{path}: CPM is not defined", reasons)


def _that_count(marks: list[Candidate], standard: _Standard, path: Path) -> list[Candidate]:
    """Return the marks without those of scans that are left out, which are noted.

    Raises:
        SeriesError: if no mark is of a scan of the reference standard.
    """
    known = {*standard.reference.seriesuids, *standard.left_out}
    named = dict.fromkeys(mark.seriesuid for mark in marks)
    if marks and known.isdisjoint(named):
        reasons = [
            *_both_names(named, standard),
            "give marks and reference of the same scans: for an INDEX, those of "
            "`medkd detect MODEL INDEX`",
        ]
        raise SeriesError(f"{path}: its marks are of no series that counts", reasons)
    kept = [mark for mark in marks if mark.seriesuid not in standard.left_out]
    if dropped := len(marks) - len(kept):
        standard.notes.append(f"left out: {dropped} marks on scans that are left out")
    if not kept:
        standard.notes.append(f"{path} holds no mark that counts: sensitivity and CPM are 0")
    return kept


def _both_names(named: Iterable[str], standard: _Standard) -> list[str]:
    """Word which series are named, and which would count."""
    ids = [_told(uid) if standard.pseudonymous else uid for uid in named]
    return [
        f"they name {_some(ids)}",
        f"the series that count are {_some(standard.reference.seriesuids)}",
    ]


def _without_uids(result: FrocResult) -> FrocResult:
    """Return the result with every UID in its warnings hidden."""
    hidden = tuple(_UID.sub("a UID", warning) for warning in result.warnings)
    return replace(result, warnings=hidden)


def _told(uid: str) -> str:
    """Return an id; a UID may be that of a patient's scan, and an INDEX of pseudonyms hides it."""
    return "a UID" if _UID.fullmatch(uid) else uid


def _some(ids: Iterable[str]) -> str:
    shown = list(dict.fromkeys(ids))
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _stamps_of(annotations: Path, reference: Reference) -> list[str]:
    """Return what made the scans of a table: a set around it, or an INDEX that it is part of."""
    from medkd.index.table import read_index, table_path
    from medkd.io.synthetic_mark import not_stated, stamp_of

    if stamp := stamp_of(annotations):
        return [stamp]
    index = annotations.with_name(annotations.name.replace(".nodules.csv", ".csv"))
    if annotations != table_path(index, "nodules") or not index.is_file():
        return []
    counted = set(reference.seriesuids)
    synthetic = [c for c in read_index(index).cases if c.synthetic and c.case_id in counted]
    return list(dict.fromkeys(case.generator or not_stated() for case in synthetic))


def _phantoms(stamps: Iterable[str]) -> list[str]:
    """Say what made the synthetic scans that are scored; nothing if there are none."""
    named = [stamp for stamp in stamps if stamp]
    if not named:
        return []
    from medkd.difficulty import difficulty_words

    return [difficulty_words(stamp) for stamp in named]


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
