"""`medkd phantom`: writes chest CT phantoms with known nodules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from medkd.data.phantom import Layout, PhantomSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("phantom")(phantom)


def phantom(
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    *,
    scans: Annotated[int, typer.Option(help="Number of scans.")] = 10,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    size: Annotated[str, typer.Option(help="small: a whole chest in voxels of about 2 mm.")] = (
        "small"
    ),
    site: Annotated[
        str, typer.Option(help="a: thin, sharp slices, low noise; b: thick, soft, noisy.")
    ] = "a",
    nodules_per_scan: Annotated[
        str, typer.Option(help="Fewest and most nodules a scan, A-B.")
    ] = "1-4",
    layout: Annotated[
        Literal["luna16", "dicom"],
        typer.Option(help="luna16: volumes and LUNA16's tables; dicom: an archive of series."),
    ] = "luna16",
    workers: Annotated[int, typer.Option(min=1, help="Processes; the bytes stay the same.")] = 1,
) -> None:
    """Write synthetic chest CTs with known nodules, in LUNA16's layout or as a DICOM archive.

    OUT gets subset0 to subset9 (.mhd and .raw), annotations.csv, annotations_excluded.csv,
    candidates.csv, candidates_V2.csv, seriesuids.csv, and phantom.json with the generator's
    version, the settings and all that was painted. With --layout dicom it gets a folder for each
    patient, in it one for each series with its slices, and the annotations and phantom.json.
    Nothing is left behind if it is stopped.

    Example: `medkd phantom chests --scans 10 --seed 1`

    Example: `medkd phantom other-site --scans 10 --seed 1 --site b --nodules-per-scan 2-5`

    Example: `medkd phantom archive --scans 10 --layout dicom`
    """
    settings = _settings(
        site=site, scans=scans, seed=seed, nodules_per_scan=nodules_per_scan, size=size
    )
    _write(out, settings, layout, workers=workers)
    typer.echo(f"{scans} synthetic scans of site {site} are in {out}")
    typer.echo("They are phantoms: no clinical performance can be read from them.")


def _settings(**given: str | int) -> PhantomSettings:
    """Check the options; all that is wrong is said at once."""
    from pydantic import ValidationError

    from medkd.data.phantom import PhantomSettings
    from medkd.errors import SettingsError

    try:
        return PhantomSettings.model_validate(given)
    except ValidationError as error:
        reasons = [
            f"--{'-'.join(map(str, fault['loc'])).replace('_', '-')}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise SettingsError("phantoms cannot be made like this", reasons) from error


def _write(out: Path, settings: PhantomSettings, layout: Layout, *, workers: int) -> None:
    from medkd.cli.progress import progress_bars
    from medkd.data.phantom import write_phantom_set

    with progress_bars() as report:
        write_phantom_set(
            out,
            settings,
            layout=layout,
            workers=workers,
            progress=lambda done, total: report("phantoms", done, total, ""),
        )
