"""A report as files: one self-contained HTML, and the JSON and CSV of its numbers beside it.

The HTML asks nothing of the network, runs no script (its own policy forbids both) and escapes
every text. SVG figures are those of `figures.py`: they stand in the page as they are.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import logging
import math
import re
from dataclasses import astuple, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from medkd.errors import SettingsError
from medkd.files import write_text
from medkd.jsonio import to_jsonable
from medkd.report.contents import RunContents, read_contents
from medkd.report.rows import COLUMNS, metric_rows
from medkd.report.sections import SECTIONS
from medkd.report.summary import banner_lines, summary_paragraphs
from medkd.runs import RunFolder
from medkd.types import Figure, Report, Table

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
# A count, a rate, a percentage, with or without an interval; not a version, date or hash.
_NUMERIC = re.compile(r"(< )?[+\u2212]?[\d,]+(\.\d+)?( %)?( \(.*\))?|not given|not defined")


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """Where the files of a report stand, and what it found in plain words."""

    html: Path
    json: Path
    csv: Path
    found: tuple[str, ...]


def write_report(run: RunFolder, out: Path | None = None) -> WrittenReport:
    """Read a RUN and write its report: HTML, and JSON and CSV of the same name.

    Args:
        run: a finished run.
        out: the HTML file; default: `report.html` in the run.

    Raises:
        SettingsError: if `run` is no finished RUN, or `out` does not end in .html.

    Example:
        >>> write_report(RunFolder(Path("out/demo"))).html  # doctest: +SKIP
        PosixPath('out/demo/report.html')
    """
    path = run.report if out is None else out
    if path.suffix != ".html":
        reason = f"expected a file that ends in .html, got {path.name!r}"
        raise SettingsError(f"{path}: cannot write a report there", [reason])
    contents = read_contents(run)
    written = WrittenReport(
        path, path.with_suffix(".json"), path.with_suffix(".csv"), summary_paragraphs(contents)
    )
    write_html(build_report(contents), written.html)
    write_json(contents, written.json)
    write_csv(contents, written.csv)
    log.info("report written: %s", path)
    return written


def build_report(contents: RunContents) -> Report:
    """Make all sections of a report, in the order of `SECTIONS`."""
    evaluation = contents.evaluation
    made = (build(contents) for build in SECTIONS)
    return Report(
        title=f"Evaluation report: {evaluation.name}",
        sections=tuple(section for section in made if section is not None),
        record=evaluation.record,
        banner="\n".join(banner_lines(evaluation)),
    )


def write_html(report: Report, path: Path) -> None:
    """Write a report as one HTML file, whole or not at all."""
    write_text(path, render_html(report))


def render_html(report: Report) -> str:
    """Return a report as one HTML page; the same report gives the same text."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.filters["figure"] = _figure_markup
    environment.filters["unbroken"] = _unbroken
    environment.filters["numeric_columns"] = _numeric_columns
    source = files("medkd.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(report=report)


def write_json(contents: RunContents, path: Path) -> None:
    """Write all numbers of a report as JSON: evaluation, flat rows, logs, refused cases."""
    evaluation = contents.evaluation
    document = {
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
            for case in contents.not_analysed  # not its path: that may name a person
        ],
        "config": contents.config_text,
    }
    text = json.dumps(_without_nan(document), indent=1, allow_nan=False)
    write_text(path, text + "\n")


def write_csv(contents: RunContents, path: Path) -> None:
    """Write every number as a row: `rows.COLUMNS`."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(astuple(row) for row in metric_rows(contents.evaluation))
    write_text(path, stream.getvalue())


def _without_nan(value: Any) -> Any:  # noqa: ANN401  # JSON has no narrower type
    """Put null for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numeric_columns(table: Table) -> tuple[int, ...]:
    """Return the columns that hold numbers in every row: they stand right-aligned."""
    columns = range(1, len(table.columns))
    return tuple(
        n for n in columns if table.rows and all(_NUMERIC.fullmatch(row[n]) for row in table.rows)
    )


def _unbroken(cell: str) -> str:
    """Keep an interval in brackets on one line."""
    return re.sub(r"\([^)]*\)", lambda found: found[0].replace(" ", "\u00a0"), cell)


def _figure_markup(figure: Figure, prefix: str) -> Markup:
    """Return a figure as HTML that a screen reader can name.

    Args:
        figure: SVG as `figures.py` draws it, or PNG.
        prefix: goes before each id of an SVG, so that figures do not share definitions.
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
    return Markup(opening) + label + Markup(rest)  # noqa: S704  # drawn by figures.py, text escaped
