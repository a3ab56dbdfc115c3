"""The HTML of a report: self-contained, escaped, repeatable, and readable by everyone."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from medkd.report.contents import RunContents, read_contents
from medkd.report.render import build_report, render_html
from medkd.report.summary import NO_TRANSFER, NOT_A_DEVICE
from medkd.runs import RunFolder, write_cases
from medkd.types import Figure, Report, RunCase, Section, Table, TermRecord
from tests.report.pages import Page
from tests.report.run_factory import RECORD

SYNTHETIC = "Trained on synthetic scans: no clinical performance known."
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'& $x_1$ $\\frac$ {{ 7*7 }}"


@pytest.fixture(scope="module")
def html(scan_contents: RunContents) -> str:
    return render_html(build_report(scan_contents))


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_same_run_gives_the_same_bytes(html: str, scan_run: RunFolder) -> None:
    assert render_html(build_report(read_contents(scan_run))) == html


def test_the_page_asks_nothing_of_the_network_and_runs_no_script(html: str, page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {
        element.tag for element in page.elements
    }
    asked = [
        value
        for element in page.elements
        for key, value in element.attributes.items()
        if key in {"src", "href", "xlink:href", "action"} and not value.startswith(("#", "data:"))
    ]
    assert asked == []
    assert not re.search(r"@import|url\((?!#)|@font-face", html)
    policies = [m.attributes["content"] for m in page.all("meta") if "content" in m.attributes]
    assert any(policy.startswith("default-src 'none'") for policy in policies)


def test_no_element_carries_an_event_handler(page: Page) -> None:
    names = {key for element in page.elements for key in element.attributes}
    assert not {name for name in names if name.startswith("on")}


def test_the_page_opens_with_what_must_be_read_before_any_number(page: Page) -> None:
    notes = [e for e in page.elements if e.attributes.get("role") == "note"]
    assert SYNTHETIC in notes[0].text
    assert NOT_A_DEVICE in notes[0].text
    assert NO_TRANSFER not in page.by_id("summary").text


def test_a_real_run_without_transfer_says_so_and_not_that_it_is_synthetic(
    image_contents: RunContents,
) -> None:
    page = Page(render_html(build_report(image_contents)))
    (note,) = [e for e in page.elements if e.attributes.get("role") == "note"]
    assert NO_TRANSFER in note.text
    assert SYNTHETIC not in note.text
    assert NO_TRANSFER in page.by_id("warnings").text


def test_headings_captions_and_links_hold_the_page_together(page: Page) -> None:
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("h1")) == 1
    assert all(section.children[0] == "h2" for section in page.all("section"))
    assert all("caption" in table.children for table in page.all("table"))
    links = [e.attributes[k] for e in page.elements for k in ("href", "xlink:href")
             if k in e.attributes]  # fmt: skip
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert page.balanced


def test_every_drawing_has_words_for_those_who_cannot_see_it(page: Page) -> None:
    drawings = page.all("svg")
    assert len(drawings) == 10  # difference, 3 terms, validation, ROC, PR, reliability, 2 FROC
    assert all(e.attributes["role"] == "img" for e in drawings)
    assert all(len(e.attributes["aria-label"]) > 20 for e in drawings)
    assert len(page.all("figcaption")) == len(drawings)


def test_clip_paths_and_markers_of_a_drawing_are_its_own(html: str) -> None:
    ids = set(re.findall(r'\bid="([^"]+)"', html))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= ids


def test_hostile_names_stay_text_everywhere(scan_contents: RunContents, own_run: RunFolder) -> None:
    write_cases(
        own_run.cases,
        [RunCase(HOSTILE, "p", "scan", "x", "test", None, None, None, "not_analysed", (HOSTILE,))],
    )
    log = own_run.log("student").read_text().replace("term_hint", 'term_<b>"$x$')
    own_run.log("student").write_text(log)
    own_run.config.write_text(f"name: {HOSTILE}\n</pre><script>alert(3)</script>\n")
    contents = read_contents(own_run)
    evaluation = contents.evaluation
    arms = tuple(
        replace(arm, name=f"{arm.name}{HOSTILE}", model=HOSTILE) for arm in evaluation.arms
    )
    contents = replace(
        contents,
        evaluation=replace(
            evaluation, name=HOSTILE, dataset=HOSTILE, warnings=(HOSTILE,), arms=arms,
            terms=(TermRecord(HOSTILE, 1.0, HOSTILE),), splits={HOSTILE: {HOSTILE: 1}},
        ),
    )  # fmt: skip
    page = Page(render_html(build_report(contents)))
    assert not {"script", "img", "b"} & {element.tag for element in page.elements}
    assert HOSTILE in page.all("h1")[0].text
    for part in ("warnings", "data", "transfer", "not-analysed", "config", "arms"):
        assert HOSTILE in page.by_id(part).text
    assert "7*7" in page.by_id("warnings").text


def test_a_png_figure_stands_in_the_page_with_its_alternative_text() -> None:
    figure = Figure("A slice", "image/png", b"\x89PNG", 'nodule "left"')
    report = Report("T", (Section("s", "S", figures=(figure,)),), RECORD)
    (image,) = Page(render_html(report)).all("img")
    assert image.attributes["alt"] == 'nodule "left"'
    assert image.attributes["src"].startswith("data:image/png;base64,")


def test_only_columns_of_numbers_stand_right() -> None:
    rows = (("a", "0.5 (0.4 to 0.6)", "2.10.0", "1,234"), ("b", "not defined", "7", "< 0.0001"))
    table = Table(("name", "score", "version", "count"), rows, "T")
    page = Page(render_html(Report("T", (Section("s", "S", tables=(table,)),), RECORD)))
    right = [e.text for e in page.all("td") if e.attributes.get("class") == "number"]
    assert right == ["0.5 (0.4\xa0to\xa00.6)", "1,234", "not defined", "< 0.0001"]
