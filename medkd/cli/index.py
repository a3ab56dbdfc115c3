"""`medkd index`: from an archive to an INDEX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medkd.archive.settings import IndexSettings
    from medkd.io.index_table import ArchiveIndex


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("index")(index_command)


def index_command(
    root: Annotated[Path, typer.Argument(help="Folder of the archive.")],
    *,
    out: Annotated[Path, typer.Option(help="The index.csv to write.")],
    config: Annotated[
        str | None, typer.Option(help="YAML of settings; for tables of your own columns.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, such as gate.min_slices=30.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="pseudonymise (default), or keep for public sets.")
    ] = None,
    allow: Annotated[
        str | None, typer.Option(help="Codes of faults to let pass: slice_thickness,...")
    ] = None,
    annotations: Annotated[
        list[str] | None,
        typer.Option(help="Nodules: a file or folder; or sr, seg, rtstruct in the archive."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Labels of whole images: a table of a public set.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes.")] = None,
) -> None:
    """Index an archive: find every scan and radiograph, say of every file what became of it.

    Stopped or killed at any time, the same command goes on where it was; files that are new,
    changed or gone are noticed. `medkd check` shows what is refused and why.

    Example: `medkd index archive --out work/index.csv --annotations archive/annotations.csv`

    Example: `medkd index nih --out work/index.csv --identity keep --labels nih/Data_Entry_2017.csv`
    """
    from medkd.archive.build import build_archive_index
    from medkd.cli.progress import progress_bars

    texts = list(set_ or [])
    texts += [f"identity={identity}"] if identity is not None else []
    texts += [f"workers={workers}"] if workers is not None else []
    settings = _settings(config, texts, allow or "", sources=[*(annotations or []),
                                                              *(labels or [])])  # fmt: skip
    with progress_bars() as report:
        index = build_archive_index(root, out, settings, progress=report)
    _tell(index, out)


def _settings(config: str | None, texts: list[str], allow: str, *, sources: list[str]
              ) -> IndexSettings:  # fmt: skip
    from medkd.archive.settings import IndexSettings, allowing
    from medkd.archive.sources import source_of
    from medkd.config import find_config, load_settings, make_settings

    if config is None:
        settings = make_settings(IndexSettings, overrides=texts)
    else:
        settings = load_settings(
            find_config(config), IndexSettings, overrides=texts, must_exist=True
        )
    settings = allowing(settings, [code.strip() for code in allow.split(",") if code.strip()])
    added = tuple(source_of(text) for text in sources)
    return settings.model_copy(update={"annotations": (*settings.annotations, *added)})


def _tell(index: ArchiveIndex, out: Path) -> None:
    from medkd.io.index_table import read_index_record

    counts = read_index_record(out)["counts"]
    for kind, name in (("scan", "scans"), ("image", "images")):
        mine = [case for case in index.cases if case.kind == kind]
        ready = sum(case.status == "ready" for case in mine)
        typer.echo(f"{len(mine):>8} {name}, {ready} ready, {len(mine) - ready} not analysed")
    typer.echo(f"{len(index.nodules):>8} nodules and excluded findings")
    typer.echo(f"{len(index.labels):>8} labels of whole cases")
    typer.echo(f"{counts['unmatched']:>8} annotation rows that fit no case")
    typer.echo(f"{counts['files']:>8} files; what became of each: {out.stem}.files.csv")
    for note in index.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {out}; next: medkd check {out}")
