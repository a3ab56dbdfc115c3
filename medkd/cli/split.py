"""`medkd split`: divide an INDEX by patient and write the split to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.options import IndexArgument, settings_from_options
from medkd.cli.outputs import check_output, index_places
from medkd.cli.text import counted
from medkd.errors import SettingsError

if TYPE_CHECKING:
    from medkd.archive.split import SplitSettings

_REFUSAL = "the index cannot be divided with these options"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("split")(split_command)


def split_command(
    index: IndexArgument,
    *,
    out: Annotated[Path, typer.Option(help="The split.json to write.")],
    val: Annotated[
        float | None, typer.Option(help="Fraction of cases for validation; default: 0.2.")
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="Fraction of cases for test; default: 0.2.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of cross-validation folds, instead of fractions.")
    ] = None,
    official: Annotated[
        bool,
        typer.Option(
            "--official",
            help="Use the archive's own folders: train, val and test, or LUNA16's subsets.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same split.")] = 0,
) -> None:
    """Divide an INDEX into train, validation and test by patient, stratified by label and site.

    Patients with identical pixels stay in the same part. With --official, a division with leaks
    is refused, and all patients concerned are named. To use the file, set `split: {kind: frozen,
    path: split.json}` in a configuration, with `fold: 0` for folds. The file is valid only for
    this index: if the index changes, the split is refused.

    Example: `medkd split work/index.csv --out work/split.json --val 0.1 --test 0.3`

    Example: `medkd split work/index.csv --out work/folds.json --folds 5`
    """
    from medkd.archive.notices import split_notices
    from medkd.archive.split import freeze_split
    from medkd.index.frozen_split import write_split
    from medkd.index.table import read_index

    settings = _settings(val, test, folds, official=official, seed=seed)
    check_output("--out", out, index_places(index))
    archive = read_index(index)
    split = freeze_split(archive, settings)
    write_split(out, split)
    patients = {case.case_id: case.patient_id for case in archive.cases}
    for name, ids in split.groups.items():
        people = len({patients[case_id] for case_id in ids})
        typer.echo(f"{name:>8}: {counted(len(ids), 'case')} of {counted(people, 'patient')}")
    for note in split.notes:
        typer.echo(f"note: {note}")
    for notice in split_notices(archive, [c for c in archive.cases if c.status == "ready"]):
        typer.echo(f"warning: {notice}")
    typer.echo(f"written: {out}, only for index {archive.fingerprint[:12]}")


def _settings(
    val: float | None, test: float | None, folds: int | None, *, official: bool, seed: int
) -> SplitSettings:
    from medkd.archive.split import SplitSettings

    shares = {name: share for name, share in (("val", val), ("test", test)) if share is not None}
    if sum((bool(shares), folds is not None, official)) > 1:
        reason = "give only one of: fractions (--val, --test), --folds, --official"
        raise SettingsError(_REFUSAL, [reason])
    kind = "official" if official else "fractions" if folds is None else "folds"
    given = {"kind": kind, "seed": seed, **shares, **({} if folds is None else {"folds": folds})}
    return settings_from_options(SplitSettings, given, refusal=_REFUSAL)
