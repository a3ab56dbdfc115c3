"""Readers in the report: named with points and agreement if there is a store, absent otherwise."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.io.luna16_tables import read_annotations, read_seriesuids
from medkd.report.figures import froc_figure
from medkd.report.sections import build_readers
from medkd.report.summary import main_froc
from medkd.review.store import WHOLE_CASE, Decision, open_store
from medkd.types import ReaderPoint, ReaderStudy

EVIL = "<b>&amp;\"'$x$"


@pytest.fixture
def read_run(own_run):
    """A run in which two readers finished the scans: one found all, one none."""
    store = open_store(own_run.review)
    uids = read_seriesuids(own_run.reference / "seriesuids.csv")
    for number, nodule in enumerate(read_annotations(own_run.reference / "annotations.csv")):
        store.add(Decision(nodule.seriesuid, f"m{number}", "anna", "accept",
                           center_mm=nodule.center_mm, diameter_mm=5.0))  # fmt: skip
        store.add(Decision(nodule.seriesuid, f"m{number}", EVIL, "reject",
                           center_mm=nodule.center_mm, diameter_mm=5.0))  # fmt: skip
    store.add(Decision(uids[0], "added_1", EVIL, "added", center_mm=(900.0, 0.0, 0.0),
                       diameter_mm=5.0))  # fmt: skip
    for uid in uids:
        for reader in ("anna", EVIL):
            store.add(Decision(uid, WHOLE_CASE, reader, "reviewed"))
    store.close()
    return own_run


def report_of(run):
    assert CliRunner().invoke(app, ["report", str(run.path)]).exit_code == 0
    return run.report.read_text(), json.loads(run.report.with_suffix(".json").read_text())


def test_the_report_names_the_readers_with_their_points_and_kappa(read_run):
    page, numbers = report_of(read_run)
    points = {p["reader"]: (p["sensitivity"], p["fp_per_scan"])
              for p in numbers["readers"]["points"]}  # fmt: skip
    scans = numbers["readers"]["points"][0]["scans"]
    assert points == {"anna": (1.0, 0.0), EVIL: (0.0, 1 / scans)}
    assert numbers["readers"]["pairs"][0]["only_second_yes"] > 0
    assert "Readers against the reference standard" in page
    assert "Cohen&#39;s kappa" in page
    assert "Reader 2 is outside the figure: 0.00 FP per scan, sensitivity 1.00." in page


def test_the_name_of_a_reader_is_text(read_run):
    page, _ = report_of(read_run)
    assert "&lt;b&gt;&amp;amp;" in page
    assert EVIL not in page


def test_a_store_without_a_decision_changes_no_byte_and_none_is_made(own_run):
    page, numbers = report_of(own_run)
    assert "readers" not in numbers
    assert not own_run.review.exists()
    store = open_store(own_run.review)  # without a decision
    store.close()
    assert report_of(own_run) == (page, numbers)


def test_a_reader_without_a_nodule_to_find_is_not_drawn(scan_contents):
    evaluation = scan_contents.evaluation
    point = ReaderPoint("anna", 1, 0, None, 1.0)
    section = build_readers(replace(scan_contents, readers=ReaderStudy((point,))))
    assert section.tables[0].rows == (("1", "anna", "1", "0", "not defined", "1.000"),)
    assert section.figures[0].content == froc_figure(main_froc(evaluation), "any").content
    assert build_readers(scan_contents) is None
