"""The section on sites: what it says in words, tables and CSV, and when it is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medkd.report.contents import RunContents
from medkd.report.render import build_report, render_html
from medkd.report.rows import metric_rows
from medkd.report.shift import build_shift, degree
from medkd.types import Section, SiteDistance, SiteShift, SiteSummary
from tests.contracts import check_section

QUANTILES = {"0.01": -990.0, "0.25": -820.0, "0.5": -60.0, "0.75": 45.0, "0.99": 610.0}
SITES = (
    SiteSummary("source: LUNA16", 888, 888, 40, "HU", -312.24, 401.5, QUANTILES),
    SiteSummary("target: archive, s1", 60, 52, 18, "HU", None, None),
)
FAR = SiteDistance(
    "teacher", SITES[0].name, SITES[1].name, (500, 120), (80, 18), 0.41236, 0.002, 0.93
)
NEAR = replace(FAR, arm="student", squared_mmd=-0.0012, p_value=0.61, roc_auc=0.52)
SHIFT = SiteShift(SITES, (FAR, NEAR), 500, ("control is a point detector.",))


@pytest.fixture
def contents(scan_contents: RunContents) -> RunContents:
    return replace(scan_contents, evaluation=replace(scan_contents.evaluation, shift=SHIFT))


@pytest.fixture
def section(contents: RunContents) -> Section:
    found = build_shift(contents)
    assert found is not None
    return found


def test_the_section_holds_the_contract_of_all_sections(contents: RunContents) -> None:
    check_section(build_shift, contents)


def test_a_run_with_one_site_has_no_such_section(scan_contents: RunContents) -> None:
    assert build_shift(scan_contents) is None
    assert "Shift between sites" not in render_html(build_report(scan_contents))


def test_each_site_has_its_intensities_and_what_is_not_measured_is_not_defined(
    section: Section,
) -> None:
    table = section.tables[0]
    head = ("Site", "Cases", "Patients", "Cases measured", "Unit", "Mean", "SD")
    assert table.columns == (*head, "1 %", "25 %", "Median", "75 %", "99 %")
    assert table.rows[0][:7] == ("source: LUNA16", "888", "888", "40", "HU", "\u2212312.2", "401.5")
    assert table.rows[0][7:] == ("\u2212990", "\u2212820", "\u221260", "45", "610")
    assert table.rows[1][5:] == ("not defined",) * 7


def test_each_distance_is_in_the_table_of_distances(section: Section) -> None:
    rows = section.tables[1].rows
    assert [row[0] for row in rows] == ["teacher", "student"]
    assert rows[0][2:] == ("500 and 120", "80 and 18", "0.4124", "0.0020", "0.930", "clearly")
    assert rows[1][4:] == ("\u22120.0012", "0.6100", "0.520", "hardly")


def test_the_words_say_what_the_numbers_mean_and_what_they_do_not(section: Section) -> None:
    text = " ".join(section.paragraphs)
    assert "Intensities are HU of voxels inside the body" in text
    assert "grey values" not in text
    assert "0.5 means that the sites cannot be distinguished, 1 that every sample shows" in text
    assert "500 exchanges, so p is at least 0.002" in text
    assert "This does not say how much the accuracy changes" in text
    assert "control is a point detector." in text


@pytest.mark.parametrize(
    ("roc_auc", "patients", "verdict"),
    [
        (0.80, 10, "clearly"),
        (0.79, 10, "partly"),
        (0.60, 10, "partly"),
        (0.59, 10, "hardly"),
        (0.99, 9, "too few patients"),
        (None, 80, "too few patients"),
    ],
)
def test_a_distance_is_put_into_words(roc_auc: float | None, patients: int, verdict: str) -> None:
    assert degree(replace(FAR, roc_auc=roc_auc, patients=(80, patients))) == verdict


def test_the_limits_of_these_words_are_stated(section: Section) -> None:
    text = " ".join(section.paragraphs)
    assert "clearly from a ROC AUC of 0.8, partly from 0.6, and hardly below" in text
    assert "With fewer than 10 patients at a site no claim is made." in text


def test_every_number_is_a_row_of_the_csv(contents: RunContents) -> None:
    rows = {(row.arm, row.metric): row for row in metric_rows(contents.evaluation)}
    assert rows["site/source: LUNA16", "HU_mean"].value == -312.24
    assert rows["site/source: LUNA16", "HU_quantile_0.99"].value == 610
    assert ("site/target: archive, s1", "HU_mean") not in rows
    pair = "source: LUNA16 - target: archive, s1"
    assert rows["student", f"squared_mmd {pair}"].value == -0.0012
    assert rows["teacher", f"roc_auc_of_site {pair}"].value == 0.93
    assert rows["teacher", f"p_value {pair}"].value == 0.002
