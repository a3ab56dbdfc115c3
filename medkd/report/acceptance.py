"""The page of `medkd accept`: what was tested, what it shows, and what it does not show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medkd.acceptance.results import Acceptance, GroupResult, PointResult, ScoredNodule
from medkd.evaluate.caution import FEW_CASES
from medkd.models.package import WHOLE_SCAN
from medkd.report import words
from medkd.report.implants import AT, draw_views
from medkd.report.render import write_html
from medkd.synthetic.implant.kept import Views
from medkd.types import Figure, Report, Section, Table

BANNER = "Synthetic nodules in real scans: no clinical performance can be read from them."
MOST_SHOWN = 12
"""Number of pictures on the page: missed nodules first."""


def write_acceptance_page(folder: Path, result: Acceptance, views: Sequence[Views]) -> None:
    """Write `report.html`.

    Args:
        folder: folder of the result.
        result: the result.
        views: pictures of all nodules, in the order of `result.nodules`.
    """
    write_html(build_acceptance_page(result, views), folder / "report.html")


def build_acceptance_page(result: Acceptance, views: Sequence[Views]) -> Report:
    """Build the page: meaning, limits, sensitivity, false marks, scans, pictures."""
    intervals = [point.false_marks.interval for point in result.points]
    intervals += [group.sensitivity.interval for point in result.points for group in point.groups]
    how = (words.interval_words(intervals), *SMALL_NUMBERS)
    sections = (
        Section("summary", "What was found", tuple(summary_of(result)) + _cautions(result)),
        Section("meaning", "What this is", _meaning(result)),
        Section("limits", "What this is not", LIMITS),
        Section("sensitivity", "Synthetic nodules found", how, tuple(_sensitivity(result))),
        Section("false", "Marks on the unchanged scans", FALSE_MARKS, (_false_marks(result),)),
        Section("scans", "Scans", tables=_scan_tables(result)),
        _pictures(result, views),
    )
    return Report(
        "Acceptance test with synthetic nodules",
        tuple(section for section in sections if section.tables or section.paragraphs),
        result.record,
        banner=BANNER,
    )


def summary_of(result: Acceptance) -> list[str]:
    """Return one sentence per threshold: nodules found, and false marks per unchanged scan."""
    sentences = []
    for point in result.points:
        every = [group for group in point.groups if group.kind == "all"]
        found = "".join(
            f"{group.found} of {group.nodules} synthetic nodules found, sensitivity "
            f"{words.estimate(group.sensitivity)}; "
            for group in every
        )
        false = words.estimate(point.false_marks)
        sentences.append(f"At the {_label(point)}: {found}{false} false marks per unchanged scan.")
    return sentences


def _label(point: PointResult) -> str:
    """Describe a threshold by the rate of false positives for which it was chosen."""
    rates = [name.partition("@")[2] for name in point.names if "@" in name]
    if not rates:
        return "default threshold"
    default = " (default)" if WHOLE_SCAN in point.names else ""
    return f"threshold for {' and '.join(rates)} FP per scan{default}"


def _heading(point: PointResult) -> str:
    label = _label(point)
    return label[0].upper() + label[1:]


def _cautions(result: Acceptance) -> tuple[str, ...]:
    return tuple(f"Caution: {caution}." for caution in result.cautions)


def _meaning(result: Acceptance) -> tuple[str, ...]:
    low, high = result.settings["implants"]["sizes"].split("-")
    return (
        f"The model ({result.model}) searched {len(result.analysed)} scans of {result.patients} "
        f"patients of this site twice: unchanged, and with synthetic nodules of {low} to {high} "
        f"mm. {len(result.nodules)} nodules were added. They have the sharpness of each scan, and "
        "its noise is kept. A mark finds a nodule if it is inside it (LUNA16's rule).",
        "It is an acceptance test: it shows whether the model works with the scanners, protocols "
        "and patients of this site, and which sizes and types of nodules it may miss.",
        "The pictures show parts of the patients' scans: protect this page like the scans.",
    )


LIMITS = (
    "No evidence of clinical performance. Nodules drawn by a program lack the variety and the "
    "surroundings of disease; the sensitivity for patients may be lower or higher.",
    "No independent test, if the same program made nodules from which the model learned: then it "
    "may find these nodules more easily than real ones.",
    "No false positive rate. A mark on an unchanged scan counts as false unless it is on an "
    "annotated finding. The scans may contain nodules that nobody annotated, so the rate is an "
    "upper bound.",
    "Not a comparison with readers, and not for the choice of a threshold: medkd calibrate "
    "chooses thresholds on annotated scans.",
)
SMALL_NUMBERS = (
    f"A group of fewer than {FEW_CASES} nodules says little. If none or all of n nodules are "
    "found, the interval has no width, but the true sensitivity may still differ by 3 / n (rule of "
    "three).",
    "The size is the diameter of the sphere of the same volume.",
)
FALSE_MARKS = (
    "An upper bound of the false positives per scan: a mark on a nodule that nobody annotated "
    "counts as false. The last column is the rate on the scans on which the threshold was chosen. "
    "A much higher rate here means that the threshold does not fit this site.",
)
_BY_CHANCE = "All, before they were added"


def _sensitivity(result: Acceptance) -> Iterator[Table]:
    """Yield the table of sensitivities: a row per group, a column per threshold."""
    if not result.nodules:
        return
    rows = []
    for groups in zip(*(point.groups for point in result.points), strict=True):
        cells = (words.estimate(group.sensitivity) for group in groups)
        rows.append((_group_words(groups[0]), str(groups[0].nodules), *cells))
    every = [point.groups[0] for point in result.points]
    by_chance = (words.number(group.marked_before / group.nodules) for group in every)
    rows.append((_BY_CHANCE, str(every[0].nodules), *by_chance))
    columns = ("Nodules", "Number", *(_heading(point) for point in result.points))
    caption = (
        "Sensitivity at each threshold of the model. Last row: share of the same places with a "
        "mark on the unchanged scan, which is found by chance"
    )
    yield Table(columns, tuple(rows), caption)


def _group_words(group: GroupResult) -> str:
    if group.kind == "attachment":
        return AT[group.name].capitalize()
    return group.name.capitalize()


def _false_marks(result: Acceptance) -> Table:
    return Table(
        ("Threshold", "Probability", "Marks per unchanged scan", "Where it was chosen",
         "Rate there"),
        tuple(
            (
                _heading(point), words.number(point.threshold), words.estimate(point.false_marks),
                point.chosen_on, words.number(point.expected, 2),
            )
            for point in result.points
        ),
    )  # fmt: skip


def _scan_tables(result: Acceptance) -> tuple[Table, ...]:
    counts = (
        ("Ready in the index", result.ready),
        ("Chosen for the test", len(result.scans)),
        ("Searched unchanged", len(result.analysed)),
        ("Of these, with known nodules or known to have none", _annotated(result)),
        ("Searched with synthetic nodules", sum(bool(scan.nodules) for scan in result.scans)),
    )
    tables = [Table(("Scans", "Number"), tuple((name, str(count)) for name, count in counts))]
    refused = tuple(
        (
            scan.case_id,
            "no nodules added" if scan.analysed else "not analysed",
            "; ".join(scan.reasons),
        )
        for scan in result.scans
        if scan.reasons
    )
    if refused:
        tables.append(Table(("Scan", "What is missing", "Reasons"), refused))
    return tuple(tables)


def _annotated(result: Acceptance) -> int:
    return sum(scan.annotated for scan in result.analysed)


def _pictures(result: Acceptance, views: Sequence[Views]) -> Section:
    """Show nodules before and after, the missed ones first."""
    default = next((p for p in result.points if WHOLE_SCAN in p.names), result.points[0])
    rows = [
        (nodule.score >= default.threshold, scan.case_id, nodule, view)
        for (scan, nodule), view in zip(result.nodules, views, strict=True)
    ]
    shown = sorted(rows, key=lambda row: row[0])[:MOST_SHOWN]
    figures = tuple(
        Figure(
            f"{case_id}: {_nodule_words(nodule)}; {_found_words(nodule, found=found)}",
            "image/png",
            draw_views(view),
            f"Slice and coronal plane through a nodule of {case_id}, before and after",
        )
        for found, case_id, nodule, view in shown
    )
    missed = sum(not found for found, *_ in rows)
    text = (
        f"{len(shown)} of {len(rows)} nodules, missed ones first (at the {_label(default)}, "
        f"{missed} were missed); lung window. Check that they look real."
    )
    return Section("pictures", "Nodules before and after", (text,) if rows else (), figures=figures)


def _nodule_words(nodule: ScoredNodule) -> str:
    row = nodule.nodule
    return f"{words.number(row.diameter_mm, 1)} mm, {row.texture}, {AT[row.attachment]}"


def _found_words(nodule: ScoredNodule, *, found: bool) -> str:
    if not nodule.score:
        return "missed, no mark"
    return f"{'found' if found else 'missed'}, probability {words.number(nodule.score)}"
