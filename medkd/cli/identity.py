"""`medkd identity`: the audited way from a pseudonym back to a patient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Who a pseudonym is: on site, and every look-up is kept.", no_args_is_help=True
    )
    group.command("lookup")(lookup_command)
    group.command("audit")(audit_command)
    app.add_typer(group, name="identity")


def lookup_command(
    pseudonym: Annotated[str, typer.Argument(help="As the index or the app shows it.")],
    *,
    index: Annotated[Path, typer.Option(help="The INDEX; its private folder lies beside it.")],
    why: Annotated[str, typer.Option(help="The reason: kept in the audit.")],
    number: Annotated[
        int | None,
        typer.Option("--slice", min=1, help="Of a case: the DICOM image of this slice_number."),
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="Of a case: all of its files.")] = False,
) -> None:
    """Say whom a pseudonym stands for. Who asked, when and why is written down first.

    For a mark of `medkd detect` give its case and slice_number: SOPInstanceUID, InstanceNumber
    and file of that slice are printed too.

    Example: `medkd identity lookup p0820f34b0aa3ecce --index work/index.csv --why "call back"`

    Example: `medkd identity lookup c5e619a0132d275a5 --index work/index.csv --slice 57 --why call`
    """
    from medkd.errors import SeriesError
    from medkd.index.case_store import look_up_files, look_up_slice
    from medkd.index.pseudonyms import LinkTable, current_user, private_folder_of

    table = LinkTable(private_folder_of(index))
    links = table.look_up(pseudonym, who=current_user(), why=why)
    if not links:
        raise SeriesError(f"{pseudonym}: not known", [f"{index} has no such patient or case"])
    if number is not None:
        links += look_up_slice(index, pseudonym, number)
    if files:
        links += look_up_files(index, pseudonym)
    for link in links:
        typer.echo(f"{link.kind}\t{link.value}")


def audit_command(
    *,
    index: Annotated[Path, typer.Option(help="The INDEX; its private folder lies beside it.")],
) -> None:
    """List every look-up, oldest first: when, who, which pseudonym, why.

    Example: `medkd identity audit --index work/index.csv`
    """
    from medkd.index.pseudonyms import LinkTable, private_folder_of

    for entry in LinkTable(private_folder_of(index)).audit():
        why = " ".join(entry.why.split())  # one line each, whatever was typed
        typer.echo(f"{entry.at}\t{entry.who}\t{entry.pseudonym}\t{why}")
