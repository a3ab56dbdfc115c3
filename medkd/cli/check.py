"""`medkd check`: what is wrong with an INDEX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.counting import counted
from medkd.cli.outputs import check_output, index_places

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medkd.archive.check import IndexCheck, LeakSummary, ReasonCount, SiteSummary

_SHOWN = 10
_EXAMPLES = 3
_TO_SCREEN = Path("-")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check_command)


def check_command(
    index: Annotated[Path, typer.Argument(help="INDEX: the index.csv of medkd index.")],
    *,
    split: Annotated[
        Path | None, typer.Option(help="A frozen split: look for its leaks, not the folders'.")
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Write all findings with their codes as JSON, too; - prints it alone."),
    ] = None,
) -> None:
    """Say what of an INDEX is refused and why, what to look at, and how it is made up.

    Exits with 0 if the index can be used, else with 1: if no case is ready, if a folder of the
    archive could not be entered (unless `medkd index --allow unreadable_folder` accepted that), or
    if a patient (or the same pixels under two identities) is in several parts: of the split that is
    given, else of the archive's own folders train, val and test. `medkd split` makes a division
    that does not leak. An index that cannot be divided by patient is named (cannot_split): it
    serves detect and review, not training.

    The JSON has: usable and its obstacles (code, text, ids, remedy); divisible; refusals and
    allowed (kind, code, cases, ids, option); warnings (code, text, ids, remedy); unreadable (code,
    what, files, examples); leaks, balance, sites, notes, counts; schema, its version.

    Example: `medkd check work/index.csv --json work/check.json`

    Example: `medkd check work/index.csv --split work/split.json`
    """
    from medkd.archive.check import check_index
    from medkd.archive.unreadable import allowed_in, unreadable_in
    from medkd.index.frozen_split import read_split
    from medkd.index.table import read_index

    if json is not None and json != _TO_SCREEN:
        check_output("--json", json, [*index_places(index), split])
    archive = read_index(index)
    found = check_index(
        archive,
        read_split(split) if split else None,
        unreadable=unreadable_in(index),
        allow=allowed_in(index),
    )
    if json is not None:
        _write_json(json, found)
    if json != _TO_SCREEN:
        _tell(found, _places(found, index) if archive.identity == "keep" else {})
    if not found.usable:
        raise typer.Exit(1)


def _write_json(place: Path, found: IndexCheck) -> None:
    from json import dumps

    from medkd.jsonio import to_jsonable, write_json

    if place == _TO_SCREEN:
        typer.echo(dumps(to_jsonable(found), indent=1))
        return
    write_json(place, found)


def _places(found: IndexCheck, index: Path) -> dict[str, str]:
    """Return where the cases are that refusals show as examples."""
    from medkd.archive.unreadable import places_of_cases

    shown = [name for row in found.refusals for name in row.ids[:_EXAMPLES]]
    return places_of_cases(index, shown)


def _tell(found: IndexCheck, places: Mapping[str, str]) -> None:
    typer.echo(
        f"{counted(found.cases, 'case')} of {counted(found.patients, 'patient')}: "
        f"{found.ready} ready, {found.cases - found.ready} not analysed; "
        f"{counted(found.nodules, 'nodule')}"
    )
    _tell_refusals(found.refusals, places)
    _tell_accepted(found.allowed)
    if found.unreadable:
        typer.echo("\ncould not be read")
    for count in found.unreadable:
        typer.echo(f"  {count.files} {count.what}: {count.names}")
    for site in found.sites:
        _tell_site(site)
    if found.balance:
        typer.echo("\nlabels: present / absent / not known (not annotated, or contradictory)")
    for row in found.balance:
        where = f" at {row.site}" if row.site else ""
        typer.echo(f"  {row.label}{where}: {row.present} / {row.absent} / {row.unknown}")
    if found.warnings:
        typer.echo(f"\n{counted(len(found.warnings), 'warning')}")
    _tell_some([str(warning) for warning in found.warnings])
    for note in found.notes:
        typer.echo(f"note: {note}")
    for leaks in found.leaks:
        _tell_leaks(leaks)
    _tell_end(found)


def _tell_end(found: IndexCheck) -> None:
    """Say whether the index can be used, and what to do if not."""
    for obstacle in found.obstacles:
        typer.secho(f"\nNOT usable: {obstacle.code}: {obstacle.text}", fg=typer.colors.RED)
        typer.echo(f"  to do: {obstacle.remedy}")
    if found.usable:
        typer.echo(
            "\nusable" if found.divisible else "\nusable, but not to train: see cannot_split"
        )


def _tell_refusals(counts: Sequence[ReasonCount], places: Mapping[str, str]) -> None:
    if counts:
        typer.echo("\nnot analysed (options are those of medkd index)")
    for row in counts:
        shown = [f"{name} ({places[name]})" if name in places else name
                 for name in row.ids[:_EXAMPLES]]  # fmt: skip
        more = ", ..." if row.cases > len(shown) else ""
        accepted = f"; to accept: {row.option}" if row.option else ""
        what = counted(row.cases, row.kind)
        typer.echo(f"  {row.code}: {what}: {', '.join(shown)}{more}{accepted}")


def _tell_accepted(counts: Sequence[ReasonCount]) -> None:
    if counts:
        typer.echo(
            "\nanalysed in spite of faults that were accepted (by medkd index --allow; coarse "
            "voxels of synthetic scans always)"
        )
    for row in counts:
        more = ", ..." if row.cases > _EXAMPLES else ""
        what = counted(row.cases, row.kind)
        typer.echo(f"  {row.code}: {what}: {', '.join(row.ids[:_EXAMPLES])}{more}")


def _tell_site(site: SiteSummary) -> None:
    where = f" at {site.site}" if site.site else ""
    typer.echo(
        f"\n{counted(site.cases, site.kind)} of {counted(site.patients, 'patient')}{where}, "
        f"{site.ready} ready"
    )
    for title, spread in (("pixel", site.spacing_mm), ("slice", site.slice_spacing_mm)):
        if spread:
            low, middle, high = (f"{mm:.3g}" for mm in spread)
            typer.echo(f"  {title} spacing {low} / {middle} / {high} mm (least, median, most)")
    for title, tally in (
        ("manufacturer", site.manufacturers), ("kernel", site.kernels), ("view", site.views)
    ):  # fmt: skip
        if tally:
            shown = [f"{name} {count}" for name, count in list(tally.items())[:_SHOWN]]
            more = f" and {len(tally) - _SHOWN} more" if len(tally) > _SHOWN else ""
            typer.echo(f"  {title}: {', '.join(shown)}{more}")


def _tell_leaks(leaks: LeakSummary) -> None:
    whose = "the split" if leaks.division == "split" else "the archive's own folders"
    if not leaks.leaks:
        typer.echo(f"\nno leak in {whose}")
        return
    typer.secho(
        f"\nLEAK in {whose}: {counted(leaks.patients, 'patient')} and "
        f"{counted(leaks.pixels, 'equal picture')} of several patients in more than one part",
        fg=typer.colors.RED,
    )
    for part, count in leaks.leaking.items():
        whole = leaks.cases[part]
        typer.echo(f"  {part}: {count} of {whole} cases have their patient in another part too")
    _tell_some([str(leak) for leak in leaks.leaks])


def _tell_some(lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        typer.echo(f"  {line}")
    if len(lines) > _SHOWN:
        typer.echo(f"  and {len(lines) - _SHOWN} more: --json FILE lists them all")
