"""`medkd identity`: look up the patient behind a pseudonym; every look-up is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

IndexOption = Annotated[
    Path, typer.Option(help="The index.csv; its private folder must be beside it.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Look up the patient behind a pseudonym. Every look-up is recorded.",
        no_args_is_help=True,
    )
    group.command("lookup")(lookup_command)
    group.command("audit")(audit_command)
    app.add_typer(group, name="identity")


def lookup_command(
    pseudonym: Annotated[str, typer.Argument(help="The pseudonym shown in the index or the app.")],
    *,
    index: IndexOption,
    why: Annotated[str, typer.Option(help="The reason; it is recorded in the audit.")],
    number: Annotated[
        int | None,
        typer.Option("--slice", min=1, help="For a case: also the image of this slice_number."),
    ] = None,
    files: Annotated[bool, typer.Option("--files", help="For a case: also its files.")] = False,
) -> None:
    """Print the identity behind a pseudonym. Who asked, when and why is recorded first.

    For a mark of `medkd detect`, give its case and its slice_number with --slice to print also the
    SOPInstanceUID, the InstanceNumber and the file of that slice.

    Example: `medkd identity lookup p0820f34b0aa3ecce --index work/index.csv --why "call back"`

    Example: `medkd identity lookup c5e619a0132d275a5 --index work/index.csv --slice 57 --why call`
    """
    from medkd.errors import SeriesError
    from medkd.index.case_store import look_up_files, look_up_slice
    from medkd.index.pseudonyms import LinkTable, current_user, private_folder_of

    table = LinkTable(private_folder_of(index))
    links = table.look_up(pseudonym, who=current_user(), why=why)
    if not links:
        raise SeriesError(f"{pseudonym}: unknown", [f"{index} has no such patient or case"])
    if number is not None:
        links += look_up_slice(index, pseudonym, number)
    if files:
        links += look_up_files(index, pseudonym)
    for link in links:
        typer.echo(f"{link.kind}\t{link.value}")


def audit_command(
    *,
    index: IndexOption,
) -> None:
    """List all look-ups, oldest first: when, who, which pseudonym, and why.

    Example: `medkd identity audit --index work/index.csv`
    """
    from medkd.index.pseudonyms import LinkTable, private_folder_of

    for entry in LinkTable(private_folder_of(index)).audit():
        why = " ".join(entry.why.split())  # keep one line per look-up
        typer.echo(f"{entry.at}\t{entry.who}\t{entry.pseudonym}\t{why}")
