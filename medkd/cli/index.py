"""`medkd index`: from an archive to an INDEX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.counting import counted

if TYPE_CHECKING:
    from medkd.archive.settings import IndexSettings
    from medkd.index.table import ArchiveIndex


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
        str | None,
        typer.Option(help="Codes of faults to accept: slice_thickness,unreadable_folder,..."),
    ] = None,
    annotations: Annotated[
        list[str] | None,
        typer.Option(help="Nodules: a file or folder; or sr, seg, rtstruct in the archive."),
    ] = None,
    excluded: Annotated[
        Path | None,
        typer.Option(help="Irrelevant findings in LUNA16's columns: annotations_excluded.csv."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Labels of whole images: a table of a public set.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes.")] = None,
) -> None:
    """Index an archive: find every scan and radiograph, say of every file what became of it.

    Stopped or killed at any time, the same command goes on where it was; files that are new,
    changed or gone are noticed. `medkd check` shows what is refused and why. Files that cannot be
    read are counted; one that may be a slice refuses the series beside it. Ends with 1 if there is
    no scan and no radiograph at all.

    Example: `medkd index archive --out work/index.csv --annotations archive/annotations.csv`

    Example: `medkd index nih --out work/index.csv --identity keep --labels nih/Data_Entry_2017.csv`
    """
    from medkd.archive.build import build_archive_index
    from medkd.archive.sources import with_excluded
    from medkd.cli.progress import progress_bars

    texts = list(set_ or [])
    texts += [f"identity={identity}"] if identity is not None else []
    texts += [f"workers={workers}"] if workers is not None else []
    settings = _settings(config, texts, allow or "", sources=[*(annotations or []),
                                                              *(labels or [])])  # fmt: skip
    if excluded is not None:
        added = with_excluded(settings.annotations, excluded)
        settings = settings.model_copy(update={"annotations": added})
    with progress_bars() as report:
        index = build_archive_index(root, out, settings, progress=report)
    _tell(index, out, settings)
    _check_any(index, root, out)


def _check_any(index: ArchiveIndex, root: Path, out: Path) -> None:
    from medkd.errors import SettingsError

    if not index.cases:
        raise SettingsError(
            f"{root}: no scan and no radiograph in it",
            [f"{out.stem}.files.csv says what each file is; expected DICOM, volumes (.mhd, .nii, "
             ".nrrd) or PNG and JPEG films: name the folder that holds them"],
        )  # fmt: skip


def _settings(config: str | None, texts: list[str], allow: str, *, sources: list[str]
              ) -> IndexSettings:  # fmt: skip
    from medkd.archive.settings import IndexSettings, allowing
    from medkd.archive.sources import source_of
    from medkd.config.load import find_config, load_settings, make_settings

    if config is None:
        settings = make_settings(IndexSettings, overrides=texts)
    else:
        settings = load_settings(
            find_config(config), IndexSettings, overrides=texts, must_exist=True
        )
    settings = allowing(settings, [code.strip() for code in allow.split(",") if code.strip()])
    added = tuple(source_of(text) for text in sources)
    return settings.model_copy(update={"annotations": (*settings.annotations, *added)})


def _tell(index: ArchiveIndex, out: Path, settings: IndexSettings) -> None:
    from medkd.archive.unreadable import unreadable_in
    from medkd.index.table import read_index_record

    counts = read_index_record(out)["counts"]
    for kind, name in (("scan", "scan"), ("image", "radiograph")):
        mine = [case for case in index.cases if case.kind == kind]
        ready = sum(case.status == "ready" for case in mine)
        if mine:
            line = f"{counted(len(mine), name)}: {ready} ready, {len(mine) - ready} not analysed"
            typer.echo(f"  {line}")
    _tell_refusals(index)
    if settings.annotations:
        _tell_annotations(index, out, counts["unmatched"])
    typer.echo(f"  {counted(counts['files'], 'file')}; what became of each: {out.stem}.files.csv")
    for count in unreadable_in(out):
        line = f"  could not be read: {count.files} {count.what}: {count.names}"
        typer.secho(line, fg=typer.colors.YELLOW)
        if count.is_obstacle and count.code not in settings.allow_archive:
            typer.secho(f"    {count.remedy}", fg=typer.colors.YELLOW)
    for note in index.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {out}; next: medkd check {out}")


def _tell_refusals(index: ArchiveIndex) -> None:
    """Count the reasons of refused cases, with the option that accepts each."""
    from collections import Counter

    from medkd.io.remedies import accepting_option, codes_in

    codes = Counter(code for case in index.cases for code in codes_in(case.reasons))
    for code, count in codes.most_common():
        option = accepting_option([code])
        accepted = f"; to accept: {option}" if option else ""
        typer.echo(f"    not analysed: {code}: {count}{accepted}")


def _tell_annotations(index: ArchiveIndex, out: Path, unmatched: int) -> None:
    """Say of how many scans a nodule is known, none, or nothing at all."""
    from medkd.archive.balance import SCAN_LABEL, label_balance

    ready = [case for case in index.cases if case.status == "ready"]
    included = sum(nodule.counts_as == "included" for nodule in index.nodules)
    excluded = len(index.nodules) - included
    if index.nodules or any(case.kind == "scan" for case in index.cases):
        typer.echo(f"  {counted(included, 'nodule')}, {counted(excluded, 'excluded finding')}")
    rows = list(label_balance(index, ready))
    scans = [row for row in rows if row.label == SCAN_LABEL]
    if scans:
        with_nodule, without, unknown = (
            sum(getattr(row, name) for row in scans) for name in ("present", "absent", "unknown")
        )
        typer.echo(f"  ready scans: {with_nodule} with a nodule, {without} known to have none, "
                   f"{unknown} not annotated")  # fmt: skip
    typer.echo(f"  {counted(len(index.labels), 'label')} of whole cases")
    where = f"; why: {out.stem}.unmatched.csv" if unmatched else ""
    typer.echo(f"  {unmatched} annotation rows that fit no case{where}")
