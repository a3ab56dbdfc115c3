"""`medkd deidentify`: copies of DICOM images that name nobody, for sharing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("deidentify")(deidentify_command)


def deidentify_command(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A DICOM file or a folder.")],
    *,
    out: Annotated[Path, typer.Option(help="The folder to make; it must not be there.")],
    index: Annotated[
        Path | None,
        typer.Option(help="An INDEX: its pseudonyms are taken, its private folder leads back."),
    ] = None,
    left_out: Annotated[
        Path | None,
        typer.Option(help="A file, for you alone, for the paths of what is not shared."),
    ] = None,
) -> None:
    """Copy CT and X-ray images without identity, and check that none is left.

    UIDs are replaced, dates shifted, all attributes but a list of known ones removed. Reports,
    documents and pictures with burned-in text are left out. Pixels are not looked at.

    Example: `medkd deidentify archive --out shared --left-out notes.tsv`
    """
    from medkd.cli.progress import progress_bars
    from medkd.errors import SeriesError
    from medkd.io.deidentify.copy import REPORT_FILE, deidentify, write_left_out
    from medkd.io.deidentify.rules import LEFT_OUT
    from medkd.io.identity import open_pseudonyms, private_folder_of

    names = None
    if index is not None:
        private = private_folder_of(index)
        if not private.is_dir():
            raise SeriesError(f"{index}: no pseudonyms", [f"{private.name} is not beside it"])
        names = open_pseudonyms(private, "pseudonymise")
    with progress_bars() as progress:
        report = deidentify(source, out, names=names, progress=progress)
    if left_out is not None:
        write_left_out(left_out, report)
    typer.echo(f"{out}: {report.files} images, {report.series} series, "
               f"{len(report.patients)} patients; {REPORT_FILE} says how")  # fmt: skip
    for code, count in report.left_out_by_code().items():
        typer.echo(f"left out: {count} files, {code}: {LEFT_OUT[code]}")
    if report.unstated_text:
        typer.echo(
            f"look at {report.unstated_text} pictures before sharing: their headers do not say "
            "whether text is burned in"
        )
