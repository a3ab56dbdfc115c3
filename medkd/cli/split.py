"""`medkd split`: divide an INDEX by patient and freeze the division."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.counting import counted
from medkd.cli.outputs import check_output, index_places

if TYPE_CHECKING:
    from medkd.archive.split import SplitSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("split")(split_command)


def split_command(
    index: Annotated[Path, typer.Argument(help="INDEX: the index.csv of medkd index.")],
    *,
    out: Annotated[Path, typer.Option(help="The split.json to write.")],
    val: Annotated[float | None, typer.Option(help="Share for validation; .2 if not given.")] = (
        None
    ),
    test: Annotated[float | None, typer.Option(help="Share for test; .2 if not given.")] = None,
    folds: Annotated[int | None, typer.Option(help="Folds for cross-validation instead.")] = None,
    official: Annotated[
        bool,
        typer.Option(
            "--official",
            help="What the folders of the archive say: train, val, test, or LUNA16's subsets.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
) -> None:
    """Divide an INDEX into train, validation and test, by patient, alike in labels and sites.

    Patients whose pixels are equal stay together. The archive's own division is refused if it
    leaks, naming every patient. A configuration takes the file as `split: {kind: frozen, path:
    split.json}`, with `fold: 0` where there are folds; with a changed index it is refused.

    Example: `medkd split work/index.csv --out work/split.json --val 0.1 --test 0.3`

    Example: `medkd split work/index.csv --out work/folds.json --folds 5`
    """  # fmt: skip
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
    typer.echo(f"written: {out}, for index {archive.fingerprint[:12]} alone")


def _settings(
    val: float | None, test: float | None, folds: int | None, *, official: bool, seed: int
) -> SplitSettings:
    from pydantic import ValidationError

    from medkd.archive.split import SplitSettings
    from medkd.errors import SettingsError

    shares = {name: share for name, share in (("val", val), ("test", test)) if share is not None}
    if sum((bool(shares), folds is not None, official)) > 1:
        reason = "give shares (--val, --test), --folds, or --official"
        raise SettingsError("the index cannot be divided like this", [reason])
    kind = "official" if official else "fractions" if folds is None else "folds"
    given = {"kind": kind, "seed": seed, **shares, **({} if folds is None else {"folds": folds})}
    try:
        return SplitSettings.model_validate(given)
    except ValidationError as error:
        reasons = [
            f"--{'.'.join(map(str, fault['loc'])) or 'val, --test'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
        ]
        raise SettingsError("the index cannot be divided like this", reasons) from error
