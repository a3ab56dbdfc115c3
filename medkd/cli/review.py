"""`medkd review`: open a RUN, RESULTS or INDEX in the review app; export or verify decisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.errors import SettingsError

if TYPE_CHECKING:
    from medkd.config.review_settings import ReviewSettings
    from medkd.review.launch import Viewer
    from medkd.review.opened import Review


PathArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|RESULTS|INDEX]",
        help="The output folder of `medkd train`, `medkd demo` or `medkd detect`, or the "
        "index.csv of `medkd index`; default: the only one in the current folder. With "
        "--verify or --export also a store of decisions.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        help="Keep decisions there: an SQLite file, or postgresql://USER@HOST/DATABASE. Give "
        "the password in PGPASSWORD or ~/.pgpass."
    ),
]
ConfigOption = Annotated[
    str | None, typer.Option(help="YAML file with the store, the readers and the path prefix.")
]
ExportOption = Annotated[
    Path | None,
    typer.Option(help="Write decisions to this file, in the form of --form; start no app."),
]
FormOption = Annotated[
    str | None,
    typer.Option(
        help="csv: every decision. luna16: accepted and added marks with LUNA16's columns. json: "
        "both, and what the readers decided together. Default: by the file's name, else csv."
    ),
]
AdjudicatorOption = Annotated[
    str | None, typer.Option(help="Reader whose decision is the reference where readers differ.")
]
ModeOption = Annotated[
    str | None,
    typer.Option(
        help="concurrent: marks at once (default). second-reader: a locked first read without "
        "marks, then a second one with them. blinded: a study without scores and reference, in a "
        "random order. adjudication: the adjudicator decides where readers differ."
    ),
]
VerifyOption = Annotated[
    bool,
    typer.Option(
        "--verify", help="Check that no decision was changed outside medkd; start no app."
    ),
]
HeadOption = Annotated[
    str, typer.Option(help="For --verify: the head that an earlier check printed.")
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("review")(review)


def review(
    path: PathArgument = None,
    *,
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
    store: StoreOption = None,
    config: ConfigOption = None,
    export: ExportOption = None,
    form: FormOption = None,
    adjudicator: AdjudicatorOption = None,
    mode: ModeOption = None,
    verify: VerifyOption = False,
    head: HeadOption = "",
) -> None:
    """Review cases in the browser: worklist, accept or reject marks, notes, results.

    For an INDEX the app shows all cases, the reasons of cases that were not analysed, the
    reference nodules, and which scans are not annotated. For RESULTS it shows marks or
    probabilities, and the images if the inputs still exist. Decisions are only ever added, never
    changed: to RUN/review.sqlite, RESULTS/review.sqlite, or for index.csv to
    index.review/review.sqlite, unless --store names another place. Each decision covers the one
    before it by a hash, so a row that was changed outside medkd is found when the app starts and by
    --verify, which exits with 1 and names it. Stop the app with Ctrl-C.

    Example: `medkd review medkd-demo --reader anna`

    Example: `medkd review found --index work/index.csv`

    Example: `medkd review work/index.csv`

    Example: `medkd review medkd-demo --export decisions.csv`

    Example: `medkd review work/index.csv --export annotations.csv --form luna16`

    Example: `medkd review medkd-demo --mode second-reader`

    Example: `medkd review medkd-demo --verify`
    """
    from medkd.cli.review_store import StoreRequest, review_settings, without_app

    settings = review_settings(config, store=store, adjudicator=adjudicator, mode=mode)
    if verify or export is not None:
        without_app(StoreRequest(path, settings, export, form, verify, head))
        return
    opened = _opened(path, index, settings)
    name = _reader(reader) if settings.readers.name_from == "account" else ""
    _serve(opened, name, settings, address=address, port=port, no_browser=no_browser)


def _opened(path: str | None, index: Path | None, settings: ReviewSettings) -> Review:
    from medkd.review.finding import asked_finding
    from medkd.review.launch import find_review
    from medkd.review.modes import check_mode
    from medkd.review.opened import open_review, read_worklist
    from medkd.review.schemas import claim_store
    from medkd.review.store import check_writable

    place = Path(path) if path is not None else find_review(Path.cwd())
    opened = open_review(place, index=index, store=settings.store)
    opened = replace(opened, mode=check_mode(settings, opened.kind))
    cases = {case.case_id for case in read_worklist(opened)}  # its errors are reported here
    claimed = claim_store(opened, finding=asked_finding(opened), cases=cases)
    if claimed.note:
        typer.echo(f"note: {claimed.note}")
    check_writable(claimed.review.decisions)
    return claimed.review


def _serve(
    opened: Review,
    reader: str,
    settings: ReviewSettings,
    *,
    address: str,
    port: int | None,
    no_browser: bool,
) -> None:
    from medkd.cli.faults import received
    from medkd.review.launch import Viewer, choose_port, serve
    from medkd.review.readers import check_exposure, check_log_in
    from medkd.review.store import name_of_store

    check_exposure(settings.readers, address)
    check_log_in(settings.readers)
    free = choose_port(address, port)
    viewer = Viewer(opened, reader, address, free, settings.readers, settings.prefix)
    serve(viewer, on_ready=_announce_only if no_browser else _announce_and_open)
    received.clear()  # a signal is the normal way to stop the app, not a failure
    typer.echo(f"Stopped. Decisions are in {name_of_store(opened.decisions)}")


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
    from medkd.review.readers import LOCAL

    has_login = viewer.readers.name_from == "oidc"
    if not has_login and viewer.address not in LOCAL:
        warning = f"No login: anybody who can reach {viewer.address} can read and decide."
        typer.secho(warning, fg="yellow")
    typer.echo(f"medkd review: {viewer.url}")
    opened = viewer.review
    readers = f"reader {viewer.reader}" if viewer.reader else "readers log in"
    mode = "" if opened.mode.name == "concurrent" else f", mode {opened.mode.name}"
    typer.echo(f"{opened.kind} {opened.path}, {readers}{mode}; stop it with Ctrl-C")


def _announce_and_open(viewer: Viewer) -> None:
    import webbrowser

    from medkd.review.launch import bypass_proxy

    _announce_only(viewer)
    bypass_proxy(viewer.host)
    webbrowser.open(viewer.url)
