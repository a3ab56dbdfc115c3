"""`medkd check`: report the problems and the contents of an INDEX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.options import IndexArgument
from medkd.cli.outputs import check_output, index_places
from medkd.cli.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medkd.archive.brightness import Brightness
    from medkd.archive.check import IndexCheck, LeakSummary, ReasonCount, SiteSummary
    from medkd.index.table import ArchiveIndex

_SHOWN = 10
_EXAMPLES = 3
_STDOUT = Path("-")

SplitOption = Annotated[
    Path | None,
    typer.Option(help="A file of `medkd split`: check it, not the archive's folders, for leaks."),
]
ImagesOption = Annotated[
    int,
    typer.Option(
        min=0, help="Radiographs to read, to compare their brightness with the labels; 0: none."
    ),
]
JsonOption = Annotated[
    Path | None,
    typer.Option(help="Also write the results as JSON to this file; - prints only the JSON."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check_command)


def check_command(
    index: IndexArgument,
    *,
    split: SplitOption = None,
    images: ImagesOption = 500,
    json: JsonOption = None,
) -> None:
    """Check an INDEX: refused cases and the reasons, warnings, leaks between splits, statistics.

    Exits with 0 if the index can be used, and with 1 if no case is ready, if a folder of the
    archive could not be opened (unless `medkd index --allow unreadable_folder` accepted that), or
    if a patient, or the same image under two patient identifiers, occurs in more than one of
    train, val and test. These are the parts of the file given by --split, otherwise the archive's
    own folders. `medkd split` writes a split without leaks. The warning cannot_split means that
    the index cannot be divided by patient: use it for detect and review, but not for training.

    The warning shortcut means that a single number predicts a label with an AUC of at least 0.60,
    and not by chance: view, site, manufacturer, kernel, slice thickness, ..., the status (ready or
    not), and in radiographs the share of bright pixels. A network can learn it instead of the
    finding. A label is compared if at least 20 cases of 10 patients have it, and as many do not.
    Warnings do not change the exit code.

    The JSON contains: usable, obstacles (code, text, ids, remedy); divisible; refusals and
    allowed (kind, code, cases, ids, option); warnings (code, text, ids, remedy); unreadable (code,
    what, files, examples); numbers (each number compared with each label); leaks, balance,
    sites, notes, counts; schema (the version).

    Example: `medkd check work/index.csv --json work/check.json`

    Example: `medkd check work/index.csv --split work/split.json`
    """
    from json import dumps

    from medkd.archive.check import check_index
    from medkd.archive.unreadable import allowed_in, places_of_cases, unreadable_in
    from medkd.index.frozen_split import read_split
    from medkd.index.table import read_index
    from medkd.jsonio import to_jsonable, write_json

    if json is not None and json != _STDOUT:
        check_output("--json", json, [*index_places(index), split])
    archive = read_index(index)
    found = check_index(
        archive,
        read_split(split) if split else None,
        unreadable=unreadable_in(index),
        allow=allowed_in(index),
        brightness=_brightness_of(index, archive, images),
    )
    if json == _STDOUT:
        typer.echo(dumps(to_jsonable(found), indent=1))
    else:
        if json is not None:
            write_json(json, found)
        examples = [name for row in found.refusals for name in row.ids[:_EXAMPLES]]
        _print_check(found, places_of_cases(index, examples) if archive.identity == "keep" else {})
    if not found.usable:
        raise typer.Exit(1)


def _brightness_of(path: Path, index: ArchiveIndex, images: int) -> Brightness:
    from medkd.archive.brightness import measure_brightness
    from medkd.cli.progress import progress_bars

    with progress_bars() as report:
        return measure_brightness(
            path,
            index,
            most=images,
            progress=lambda done, total: report("reading radiographs", done, total, ""),
        )


def _print_check(found: IndexCheck, places: Mapping[str, str]) -> None:
    typer.echo(
        f"{counted(found.cases, 'case')} of {counted(found.patients, 'patient')}: "
        f"{found.ready} ready, {found.cases - found.ready} not analysed; "
        f"{counted(found.nodules, 'nodule')}"
    )
    _print_codes("not analysed (options are those of medkd index)", found.refusals, places)
    _print_codes(
        "analysed despite these accepted faults (accepted by medkd index --allow; coarse voxels of "
        "synthetic scans are always accepted)",
        [replace(row, option="") for row in found.allowed],
        places,
    )
    if found.unreadable:
        typer.echo("\ncould not be read")
    for count in found.unreadable:
        typer.echo(f"  {count.files} {count.what}: {count.names}")
    for site in found.sites:
        _print_site(site)
    if found.balance:
        typer.echo("\nlabels: present / absent / unknown (not annotated or contradictory)")
    for row in found.balance:
        where = f" at {row.site}" if row.site else ""
        typer.echo(f"  {row.label}{where}: {row.present} / {row.absent} / {row.unknown}")
    if found.balance:
        compared = ", ".join(dict.fromkeys(one.number for one in found.numbers))
        few = "none: too few cases with and without a label, or all are alike"
        typer.echo(f"  numbers that were compared with the labels: {compared or few}")
    if found.warnings:
        typer.echo(f"\n{counted(len(found.warnings), 'warning')}")
    _print_first([str(warning) for warning in found.warnings])
    for note in found.notes:
        typer.echo(f"note: {note}")
    for leaks in found.leaks:
        _print_leaks(leaks)
    _print_verdict(found)


def _print_verdict(found: IndexCheck) -> None:
    for obstacle in found.obstacles:
        typer.secho(f"\nNOT usable: {obstacle.code}: {obstacle.text}", fg=typer.colors.RED)
        typer.echo(f"  to do: {obstacle.remedy}")
    if found.usable:
        typer.echo(
            "\nusable" if found.divisible else "\nusable, but not for training: see cannot_split"
        )


def _print_codes(title: str, counts: Sequence[ReasonCount], places: Mapping[str, str]) -> None:
    if counts:
        typer.echo(f"\n{title}")
    for row in counts:
        shown = [f"{name} ({places[name]})" if name in places else name
                 for name in row.ids[:_EXAMPLES]]  # fmt: skip
        more = ", ..." if row.cases > len(shown) else ""
        accepted = f"; to accept: {row.option}" if row.option else ""
        what = counted(row.cases, row.kind)
        typer.echo(f"  {row.code}: {what}: {', '.join(shown)}{more}{accepted}")


def _print_site(site: SiteSummary) -> None:
    where = f" at {site.site}" if site.site else ""
    patches = f" ({site.patches} of them patches around nodules)" if site.patches else ""
    typer.echo(
        f"\n{counted(site.cases, site.kind)}{patches} of {counted(site.patients, 'patient')}"
        f"{where}, {site.ready} ready"
    )
    for title, spread in (("pixel", site.spacing_mm), ("slice", site.slice_spacing_mm)):
        if spread:
            low, middle, high = (f"{mm:.3g}" for mm in spread)
            typer.echo(f"  {title} spacing {low} / {middle} / {high} mm (minimum, median, maximum)")
    for title, tally in (
        ("manufacturer", site.manufacturers), ("kernel", site.kernels), ("view", site.views)
    ):  # fmt: skip
        if tally:
            shown = [f"{name} {count}" for name, count in list(tally.items())[:_SHOWN]]
            more = f" and {len(tally) - _SHOWN} more" if len(tally) > _SHOWN else ""
            typer.echo(f"  {title}: {', '.join(shown)}{more}")


def _print_leaks(leaks: LeakSummary) -> None:
    whose = "the split" if leaks.division == "split" else "the archive's own folders"
    if not leaks.leaks:
        typer.echo(f"\nno leak in {whose}")
        return
    typer.secho(
        f"\nLEAK in {whose}: {counted(leaks.patients, 'patient')} and "
        f"{counted(leaks.pixels, 'identical image')} of different patients in more than one part",
        fg=typer.colors.RED,
    )
    for part, count in leaks.leaking.items():
        whole = leaks.cases[part]
        typer.echo(f"  {part}: {count} of {whole} cases have a patient who is also in another part")
    _print_first([str(leak) for leak in leaks.leaks])


def _print_first(lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        typer.echo(f"  {line}")
    if len(lines) > _SHOWN:
        typer.echo(f"  and {len(lines) - _SHOWN} more: --json FILE lists all of them")
