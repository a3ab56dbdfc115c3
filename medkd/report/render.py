"""Write a report as files: one self-contained HTML page, and its numbers as JSON and CSV.

The page loads nothing from the network and runs no script; its content security policy forbids
both. All text is escaped. The SVG of `figures.py` is embedded as markup, with changed ids and size,
and with a description for screen readers.
"""

from __future__ import annotations

import base64
import csv
import io
import logging
import re
from dataclasses import asdict, astuple, dataclass, replace
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from pydantic_core import to_json

from medkd.errors import SettingsError
from medkd.files import write_text
from medkd.jsonio import to_jsonable
from medkd.report.contents import RunContents, read_contents
from medkd.report.rows import COLUMNS, metric_rows
from medkd.report.sections import SECTIONS
from medkd.report.summary import banner_lines, summary_paragraphs
from medkd.runs import RunFolder
from medkd.types import Figure, ReaderStudy, Report, Table

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
# A count, a rate, a percentage, with or without an interval; not a version, date or hash.
_NUMERIC = re.compile(r"(< )?[+\u2212]?[\d,]+(\.\d+)?( %)?( \(.*\))?|not given|not defined")


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """The paths of a report's files, and the sentences of its summary."""

    html: Path
    json: Path
    csv: Path
    found: tuple[str, ...]


def write_report(
    run: RunFolder, out: Path | None = None, *, readers: ReaderStudy | None = None
) -> WrittenReport:
    """Write the report of a RUN as HTML, and as JSON and CSV of the same name.

    Args:
        run: a finished run.
        out: path of the HTML file; default: `report.html` in the run.
        readers: what the readers of the run decided; None: nothing.

    Returns:
        The paths of the three files and the sentences of the summary.

    Raises:
        SettingsError: if `run` is not a finished RUN, or `out` does not end in .html.

    Example:
        >>> write_report(RunFolder(Path("out/demo"))).html  # doctest: +SKIP
        PosixPath('out/demo/report.html')
    """
    path = run.report if out is None else out
    if path.suffix != ".html":
        reason = f"expected a file that ends in .html, got {path.name!r}"
        raise SettingsError(f"{path}: the report cannot be written to this file", [reason])
    contents = replace(read_contents(run), readers=readers)
    written = WrittenReport(
        path, path.with_suffix(".json"), path.with_suffix(".csv"), summary_paragraphs(contents)
    )
    write_html(build_report(contents), written.html)
    write_json(contents, written.json)
    write_csv(contents, written.csv)
    log.info("report written: %s", path)
    return written


def build_report(contents: RunContents) -> Report:
    """Build the sections of a report, in the order of `SECTIONS`."""
    evaluation = contents.evaluation
    built = (build(contents) for build in SECTIONS)
    return Report(
        title=f"Evaluation report: {evaluation.name}",
        sections=tuple(section for section in built if section is not None),
        record=evaluation.record,
        banner="\n".join(banner_lines(evaluation)),
    )


def write_html(report: Report, path: Path) -> None:
    """Write a report as one HTML file. The file is never partially written."""
    write_text(path, render_html(report))


def render_html(report: Report) -> str:
    """Render a report as one HTML page; the same report always gives the same text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.filters["figure"] = _figure_markup
    environment.filters["unbroken"] = _unbroken
    environment.filters["numeric_columns"] = _numeric_columns
    source = files("medkd.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(report=report)


def write_json(contents: RunContents, path: Path) -> None:
    """Write all numbers of a report as JSON: evaluation, rows, logs, cases not analysed."""
    evaluation = contents.evaluation
    document: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "banner": banner_lines(evaluation),
        "found": summary_paragraphs(contents),
        "evaluation": to_jsonable(evaluation),
        "rows": [dict(zip(COLUMNS, astuple(row), strict=True)) for row in metric_rows(evaluation)],
        "training": {
            arm: {"epoch": logged.epochs, **logged.columns} for arm, logged in contents.logs.items()
        },
        "not_analysed": [
            {"case_id": case.case_id, "split": case.split, "reasons": case.reasons}
            for case in contents.not_analysed  # without its path, which may contain a name
        ],
        "config": contents.config_text,
    }
    if contents.readers is not None:
        document["readers"] = asdict(contents.readers)
    text = to_json(document, indent=1, inf_nan_mode="null").decode()  # JSON has no NaN
    write_text(path, text + "\n")


def write_csv(contents: RunContents, path: Path) -> None:
    """Write every number of a report as a CSV row with the columns `rows.COLUMNS`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in metric_rows(contents.evaluation))
    write_text(path, stream.getvalue())


def _numeric_columns(table: Table) -> tuple[int, ...]:
    """Return the indices of columns with a number in every row; they are right-aligned."""
    columns = range(1, len(table.columns))
    return tuple(
        n for n in columns if table.rows and all(_NUMERIC.fullmatch(row[n]) for row in table.rows)
    )


def _unbroken(cell: str) -> str:
    """Keep text in brackets on one line by non-breaking spaces."""
    return re.sub(r"\([^)]*\)", lambda found: found[0].replace(" ", "\u00a0"), cell)


def _figure_markup(figure: Figure, prefix: str) -> Markup:
    """Return a figure as HTML with its alternative text for screen readers.

    Args:
        figure: an SVG drawn by `figures.py`, or a PNG.
        prefix: prefix of each id of an SVG, because ids must be unique on the page.
    """
    if figure.media_type == "image/png":
        content = base64.b64encode(figure.content).decode()
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(figure.alt, content)
    svg = figure.content.decode()
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'\s(width|height)="([\d.]+)pt"', "", opening)
    width_pt = re.search(r'viewBox="0 0 ([\d.]+) ', opening)
    label = Markup(' role="img" aria-label="{}" style="width: {}pt">').format(
        figure.alt, width_pt[1] if width_pt else "400"
    )
    return Markup(opening) + label + Markup(rest)  # noqa: S704  # drawn by figures.py, text is escaped
