"""`medkd review`: opens the app on a RUN, RESULTS or INDEX, or exports what readers decided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.outputs import check_output, index_places

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
            help="What `medkd train`, `medkd demo` or `medkd detect` left, or the index.csv of "
            "`medkd index`; default: the only one here.",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="The INDEX that RESULTS come from, to see its pseudonymised cases."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Default: 8501, or any free port if that is taken.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Who decides; default: the name of your account.")
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    address: Annotated[
        str, typer.Option(help="Where to listen. There is no login: keep it to this machine.")
    ] = "127.0.0.1",
    export: Annotated[
        Path | None, typer.Option(help="Write all decisions to this CSV and open nothing.")
    ] = None,
) -> None:
    """Review cases in the browser: worklist, marks, accept, reject, note, results.

    Of an INDEX it shows every case, those not analysed with their reasons, where the reference
    nodules lie, and which scans nobody annotated; of RESULTS the marks or probabilities, and the
    pictures as far as the inputs can still be read. Decisions are kept in RUN/review.sqlite or
    RESULTS/review.sqlite (of index.csv: index.review/review.sqlite), append-only. Ctrl-C ends the
    app.

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
    read_worklist(opened)  # a fault of it is reported here, not in the browser
    check_writable(opened.decisions)
    viewer = Viewer(opened, _reader(reader), address, choose_port(address, port))
    serve(viewer, on_ready=_announce_only if no_browser else _announce_and_open)
    received.clear()  # a signal is how the app is ended: no failure
    typer.echo(f"Ended. Decisions are in {opened.decisions}")


def _check_export(opened: Review, export: Path) -> None:
    """Refuse to replace what belongs to the review; an earlier export may be replaced."""
    from medkd.errors import SettingsError
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
    reason = f"it is a file of {home} and no earlier export: give another name"
    raise SettingsError(f"--export {export}: not written", [reason])


def _reader(given: str | None) -> str:
    import getpass

    from medkd.errors import SettingsError

    try:
        name = (given if given is not None else getpass.getuser()).strip()
    except (KeyError, OSError):
        name = ""
    if not name:
        raise SettingsError("a reader's name is needed", ["give it with --reader NAME"])
    return name


def _announce_only(viewer: Viewer) -> None:
    if viewer.address not in {"127.0.0.1", "localhost", "::1"}:
        warning = f"No login: whoever reaches {viewer.address} can read and decide."
        typer.secho(warning, fg="yellow")
    typer.echo(f"medkd review: {viewer.url}")
    opened = viewer.review
    typer.echo(f"{opened.kind} {opened.path}, reader {viewer.reader}; Ctrl-C ends it")


def _announce_and_open(viewer: Viewer) -> None:
    import webbrowser

    from medkd.review.launch import bypass_proxy

    _announce_only(viewer)
    bypass_proxy(viewer.host)
    webbrowser.open(viewer.url)
