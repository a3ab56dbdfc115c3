"""`medkd review`: open a RUN, RESULTS or INDEX in the review app, or export decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.outputs import check_output, index_places
from medkd.errors import SettingsError

if TYPE_CHECKING:
    from medkd.review.launch import Viewer
    from medkd.review.opened import Review


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("review")(review)


def review(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|RESULTS|INDEX]",
            help="The output folder of `medkd train`, `medkd demo` or `medkd detect`, or the "
            "index.csv of `medkd index`; default: the only one in the current folder.",
        ),
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="For RESULTS of a pseudonymised INDEX: that index.csv.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Default: 8501, or a free port if 8501 is in use.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Name of the reader; default: your account name.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    address: Annotated[
        str, typer.Option(help="Address to listen on. There is no login: keep the default.")
    ] = "127.0.0.1",
    export: Annotated[
        Path | None, typer.Option(help="Write all decisions to this CSV file; start no app.")
    ] = None,
) -> None:
    """Review cases in the browser: worklist, accept or reject marks, notes, results.

    For an INDEX the app shows all cases, the reasons of cases that were not analysed, the
    reference nodules, and which scans are not annotated. For RESULTS it shows marks or
    probabilities, and the images if the inputs still exist. Decisions are only ever added, never
    changed: to RUN/review.sqlite, RESULTS/review.sqlite, or for index.csv to
    index.review/review.sqlite. Stop the app with Ctrl-C.

    Example: `medkd review medkd-demo --reader anna`

    Example: `medkd review found --index work/index.csv`

    Example: `medkd review work/index.csv`

    Example: `medkd review medkd-demo --export decisions.csv`
    """
    from medkd.cli.faults import received
    from medkd.review.launch import Viewer, choose_port, find_review, serve
    from medkd.review.opened import open_review, read_worklist
    from medkd.review.store import check_writable, export_csv

    opened = open_review(path if path is not None else find_review(Path.cwd()), index=index)
    if export is not None:
        _check_export(opened, export)
        count = export_csv(opened.decisions, export)
        typer.echo(f"{count} decisions written to {export}")
        return
    read_worklist(opened)  # an error in it is reported here, not in the browser
    check_writable(opened.decisions)
    viewer = Viewer(opened, _reader(reader), address, choose_port(address, port))
    serve(viewer, on_ready=_announce_only if no_browser else _announce_and_open)
    received.clear()  # a signal is the normal way to stop the app, not a failure
    typer.echo(f"Stopped. Decisions are in {opened.decisions}")


def _check_export(opened: Review, export: Path) -> None:
    """Refuse to overwrite a file of the review, unless it is an earlier export."""
    from medkd.review.store import decisions_csv

    if opened.kind == "INDEX":
        check_output("--export", export, index_places(opened.path))
    home = opened.decisions.parent
    if not export.is_file() or home.resolve() not in export.resolve().parents:
        return
    header = decisions_csv([]).encode()
    with export.open("rb") as stream:
        if stream.read(len(header)) == header:
            return
    reason = f"it is a file in {home} and not an earlier export: give another name"
    raise SettingsError(f"--export {export}: not written", [reason])


def _reader(given: str | None) -> str:
    import getpass

    try:
        name = (given if given is not None else getpass.getuser()).strip()
    except (KeyError, OSError):
        name = ""
    if not name:
        raise SettingsError("a reader's name is needed", ["give it with --reader NAME"])
    return name


def _announce_only(viewer: Viewer) -> None:
    if viewer.address not in {"127.0.0.1", "localhost", "::1"}:
        warning = f"No login: anybody who can reach {viewer.address} can read and decide."
        typer.secho(warning, fg="yellow")
    typer.echo(f"medkd review: {viewer.url}")
    opened = viewer.review
    typer.echo(f"{opened.kind} {opened.path}, reader {viewer.reader}; stop it with Ctrl-C")


def _announce_and_open(viewer: Viewer) -> None:
    import webbrowser

    from medkd.review.launch import bypass_proxy

    _announce_only(viewer)
    bypass_proxy(viewer.host)
    webbrowser.open(viewer.url)
