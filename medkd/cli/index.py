"""`medkd index`: build the INDEX of an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medkd.cli.options import AllowOption, SetOption, split_commas
from medkd.cli.text import counted
from medkd.errors import SettingsError

if TYPE_CHECKING:
    from medkd.archive.settings import IndexSettings
    from medkd.index.table import ArchiveIndex


AnnotationsOption = Annotated[
    list[str] | None,
    typer.Option(help="Nodules: a file, a folder, or sr, seg or rtstruct (in the archive)."),
]
ReviewsOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Decisions of readers: what `medkd review` opens, a store or its JSON export. "
        "Accepted and added marks become nodules, rejected marks negatives, and decisions on whole "
        "X-rays labels."
    ),
]
AdjudicatorOption = Annotated[
    str, typer.Option(help="For --reviews: the reader whose decision alone counts.")
]
ExcludedOption = Annotated[
    Path | None,
    typer.Option(help="Findings to exclude, with LUNA16's columns: annotations_excluded.csv."),
]
PatientsOption = Annotated[
    Path | None,
    typer.Option(
        help="Patients of series whose headers name none, and of patches: a table with the columns "
        "seriesuid and patient_id."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("index")(index_command)


def index_command(
    root: Annotated[Path, typer.Argument(help="Folder of the archive.")],
    *,
    out: Annotated[Path, typer.Option(help="The index.csv to write.")],
    config: Annotated[
        str | None,
        typer.Option(help="YAML file with settings, e.g. for tables with your own columns."),
    ] = None,
    overrides: SetOption = None,
    identity: Annotated[
        str | None, typer.Option(help="pseudonymise (default), or keep (for public data sets).")
    ] = None,
    allow: AllowOption = "",
    annotations: AnnotationsOption = None,
    excluded: ExcludedOption = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Labels of whole images: a table of a public data set.")
    ] = None,
    patients: PatientsOption = None,
    reviews: ReviewsOption = None,
    adjudicator: AdjudicatorOption = "",
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Number of processes.")] = None,
) -> None:
    """Index an archive: find all scans and radiographs, and record how each file was used.

    If the command is stopped or killed, run it again: it continues where it stopped, and it
    detects new, changed and deleted files. Files that cannot be read are counted. If such a file
    could be a slice of a series in the same folder, that series is refused. `medkd check` lists
    the refused cases and the reasons. Exits with 1 if the archive has no scan and no radiograph.

    A pair UID_dcm_N.mha and UID_seg_N.mha (NODE21's layout) is one case, a patch: the segmentation
    gives its nodule, and LUNA16's tables the diameter and other nodules and findings inside.

    Example: `medkd index archive --out work/index.csv --annotations archive/annotations.csv`

    Example: `medkd index archive --out work/index.csv --reviews work/index.review/review.sqlite`

    Example: `medkd index nih --out work/index.csv --identity keep --labels nih/Data_Entry_2017.csv`
    """
    from medkd.archive.build import build_archive_index
    from medkd.cli.progress import progress_bars

    texts = list(overrides or [])
    texts += [f"identity={identity}"] if identity is not None else []
    texts += [f"workers={workers}"] if workers is not None else []
    settings = _settings(config, texts, split_commas(allow),
                         sources=[*(annotations or []), *(labels or [])])  # fmt: skip
    settings = _with_tables(settings, excluded=excluded, patients=patients)
    settings = _with_reviews(settings, reviews or [], out, adjudicator)
    with progress_bars() as report:
        index = build_archive_index(root, out, settings, progress=report)
    _print_summary(index, out, settings)
    if not index.cases:
        raise SettingsError(
            f"{root}: no scan and no radiograph in it",
            [f"{out.stem}.files.csv lists all files; expected DICOM, volumes (.mhd, .nii, .nrrd), "
             "or radiographs as PNG or JPEG: give the folder that contains them"],
        )  # fmt: skip


def _settings(
    config: str | None, texts: list[str], allow: list[str], *, sources: list[str]
) -> IndexSettings:
    from medkd.archive.settings import IndexSettings, allow_faults
    from medkd.archive.sources import recognise_source
    from medkd.config.load import find_config, load_settings, make_settings

    if config is None:
        settings = make_settings(IndexSettings, overrides=texts)
    else:
        settings = load_settings(
            find_config(config), IndexSettings, overrides=texts, must_exist=True
        )
    settings = allow_faults(settings, allow)
    added = tuple(recognise_source(text) for text in sources)
    return settings.model_copy(update={"annotations": (*settings.annotations, *added)})


def _with_tables(
    settings: IndexSettings, *, excluded: Path | None, patients: Path | None
) -> IndexSettings:
    from medkd.archive.sources import add_excluded, add_patients

    sources = settings.annotations
    if excluded is not None:
        sources = add_excluded(sources, excluded)
    if patients is not None:
        sources = add_patients(sources, patients)
    return settings.model_copy(update={"annotations": sources})


def _with_reviews(
    settings: IndexSettings, reviews: list[str], out: Path, adjudicator: str
) -> IndexSettings:
    from medkd.archive.sources import recognise_source
    from medkd.cli.review_store import write_reviews
    from medkd.index.pseudonyms import make_private_folder, private_folder_of

    if not reviews:
        return settings
    private = private_folder_of(out)
    make_private_folder(private)
    files = write_reviews(reviews, private, adjudicator=adjudicator)
    added = tuple(recognise_source(str(file)) for file in files)
    return settings.model_copy(update={"annotations": (*settings.annotations, *added)})


def _print_summary(index: ArchiveIndex, out: Path, settings: IndexSettings) -> None:
    from collections import Counter

    from medkd.archive.unreadable import unreadable_in
    from medkd.index.table import read_index_record
    from medkd.io.remedies import accepting_option, codes_in

    counts = read_index_record(out)["counts"]
    for kind, name in (("scan", "scan"), ("image", "radiograph")):
        mine = [case for case in index.cases if case.kind == kind]
        ready = sum(case.status == "ready" for case in mine)
        if mine:
            refused = len(mine) - ready
            patches = sum(case.extent == "patch" for case in mine)
            of_them = f" ({patches} of them patches around nodules)" if patches else ""
            typer.echo(
                f"  {counted(len(mine), name)}{of_them}: {ready} ready, {refused} not analysed"
            )
    codes = Counter(code for case in index.cases for code in codes_in(case.reasons))
    for code, number in codes.most_common():
        option = accepting_option([code])
        accepted = f"; to accept: {option}" if option else ""
        typer.echo(f"    not analysed: {code}: {number}{accepted}")
    if settings.annotations:
        _print_annotations(index, out, counts["unmatched"])
    typer.echo(f"  {counted(counts['files'], 'file')}; use of each file: {out.stem}.files.csv")
    for count in unreadable_in(out):
        line = f"  could not be read: {count.files} {count.what}: {count.names}"
        typer.secho(line, fg=typer.colors.YELLOW)
        if count.is_obstacle and count.code not in settings.allow_archive:
            typer.secho(f"    {count.remedy}", fg=typer.colors.YELLOW)
    for note in index.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {out}; next: medkd check {out}")


def _print_annotations(index: ArchiveIndex, out: Path, unmatched: int) -> None:
    """Print how many scans have nodules, are known to have none, or are not annotated."""
    from collections import Counter

    from medkd.archive.check import label_balance
    from medkd.archive.known_labels import SCAN_LABEL

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
    if index.marks:
        verdicts = Counter(mark.verdict for mark in index.marks)
        typer.echo(f"  decisions of readers: {verdicts['accepted']} accepted, "
                   f"{verdicts['added']} added, {verdicts['rejected']} rejected")  # fmt: skip
    if index.readings:
        present = sum(reading.value for reading in index.readings)
        typer.echo(f"  decisions of readers on images: the finding is present on {present}, "
                   f"absent on {len(index.readings) - present}")  # fmt: skip
    typer.echo(f"  {counted(len(index.labels), 'label')} of whole cases")
    where = f"; reasons: {out.stem}.unmatched.csv" if unmatched else ""
    typer.echo(f"  {unmatched} annotation rows match no case{where}")
