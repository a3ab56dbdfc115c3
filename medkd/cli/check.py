"""`medkd check`: what is wrong with an INDEX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medkd.archive.check import IndexCheck, LeakSummary, ReasonCount, SiteSummary

_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check_command)


def check_command(
    index: Annotated[Path, typer.Argument(help="INDEX: the index.csv of medkd index.")],
    *,
    split: Annotated[
        Path | None, typer.Option(help="A frozen split: look for its leaks, not the folders'.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything as JSON, too.")] = None,
) -> None:
    """Say what of an INDEX is refused and why, what to look at, and how it is made up.

    Exits with 0 if the index can be used; with 1 if no case is ready, or if a patient (or the same
    pixels under two identities) stands in several parts: of the split that is given, else of the
    archive's own folders train, val and test. `medkd split` makes a division that does not leak.

    Example: `medkd check work/index.csv --json work/check.json`

    Example: `medkd check work/index.csv --split work/split.json`
    """
    from medkd.archive.check import check_index
    from medkd.io.index_table import read_index
    from medkd.io.split_file import read_split
    from medkd.jsonio import write_json

    found = check_index(read_index(index), read_split(split) if split else None)
    if json is not None:
        write_json(json, found)
    _tell(found)
    if not found.usable:
        raise typer.Exit(1)


def _tell(found: IndexCheck) -> None:
    typer.echo(
        f"{found.cases} cases of {found.patients} patients: {found.ready} ready, "
        f"{found.cases - found.ready} not analysed; {found.nodules} nodules"
    )
    _tell_reasons("not analysed", found.refusals)
    _tell_reasons("let pass", found.allowed)
    for site in found.sites:
        _tell_site(site)
    if found.balance:
        typer.echo("\nlabels: present / absent / not known")
    for row in found.balance:
        where = f" at {row.site}" if row.site else ""
        typer.echo(f"  {row.label}{where}: {row.present} / {row.absent} / {row.unknown}")
    if found.warnings:
        typer.echo(f"\n{len(found.warnings)} warnings")
    _tell_some([f"{warning.code}: {warning.text}" for warning in found.warnings])
    for note in found.notes:
        typer.echo(f"note: {note}")
    for leaks in found.leaks:
        _tell_leaks(leaks)
    typer.echo("\nusable" if found.usable else "\nNOT usable as it stands")


def _tell_reasons(title: str, counts: Sequence[ReasonCount]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not counts:
        return
    table = Table("kind", "reason", "cases", "for example", title=title, title_justify="left")
    for row in counts:
        table.add_row(row.kind, row.code, str(row.cases), ", ".join(row.examples))
    Console().print(table)


def _tell_site(site: SiteSummary) -> None:
    where = f" at {site.site}" if site.site else ""
    typer.echo(
        f"\n{site.cases} {site.kind}s of {site.patients} patients{where}, {site.ready} ready"
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
        f"\nLEAK in {whose}: {leaks.patients} patients and {leaks.pixels} equal pictures of "
        "several patients stand in more than one part",
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
        typer.echo(f"  and {len(lines) - _SHOWN} more: --json lists them all")
