"""`medkd report`: which folders it takes, what it leaves, and how it refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medkd.cli.report import register
from medkd.errors import SeriesError, SettingsError
from medkd.jsonio import read_json
from medkd.report import words
from medkd.report.contents import read_contents, read_log
from medkd.report.render import write_report
from medkd.runs import Disagreement, RunFolder, write_disagreements, write_label_next
from medkd.transfer.table import TERMS
from medkd.types import Evaluation, Interval, LayerSimilarity


def rows_of(path: Path) -> dict[tuple[str, str, str], tuple[str, str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        assert reader.fieldnames == ["arm", "split", "metric", "value", "low", "high", "caution"]
        rows = list(reader)
    found = {(r["arm"], r["split"], r["metric"]): (r["value"], r["low"], r["high"]) for r in rows}
    assert len(found) == len(rows), "a row stands twice"
    return found


def test_the_csv_holds_every_number_to_the_last_digit(own_run: RunFolder) -> None:
    evaluation = read_json(own_run.evaluation, Evaluation)
    rows = rows_of(write_report(own_run).csv)
    student = evaluation.arm("student")
    auc = student.classification["test"][0].roc_auc
    assert auc.interval is not None
    assert tuple(map(float, rows["student", "test", "roc_auc"])) == (
        auc.value, auc.interval.low, auc.interval.high,
    )  # fmt: skip
    whole = student.froc[1]
    assert float(rows["student", "test", "whole-scan/cpm_nearest"][0]) == whole.cpm_nearest
    difference = evaluation.differences[0].difference
    assert float(rows["student - control", "test", "roc_auc"][0]) == difference.value
    assert rows["student", "", "parameters"] == ("214017", "", "")
    assert float(rows["control", "test", "kl_from_teacher"][0]) == evaluation.fidelity[0].kl


def test_the_csv_holds_the_similarity_of_layers(
    changed_run: Callable[[Callable[[Evaluation], Evaluation]], RunFolder],
) -> None:
    alike = LayerSimilarity(
        "student", "teacher", "test", 9, ("body",), ("pool", "head"), ((0.5, None),)
    )
    run = changed_run(lambda evaluation: replace(evaluation, similarity=(alike,)))

    rows = rows_of(write_report(run).csv)

    assert rows["student", "test", "cka body / pool"] == ("0.5", "", "")
    assert ("student", "test", "cka body / head") not in rows


def test_the_report_lists_the_disagreements_of_the_run(own_run: RunFolder) -> None:
    path = own_run.explained.disagreements
    path.parent.mkdir()
    write_disagreements(path, [Disagreement("case-7", "nodule", 0.9, 0.2)])
    write_label_next(own_run.label_next, [Disagreement("case-8", "nodule", 0.1, 0.7)])
    page = write_report(own_run).html.read_text()
    assert "case-7" in page
    assert "case-8" in page
    path.write_text("case_id,label\ncase-7,nodule\n")
    with pytest.raises(SettingsError, match="row 2 is not a disagreement"):
        write_report(own_run)


def test_the_json_holds_the_evaluation_the_curves_and_the_config(own_run: RunFolder) -> None:
    document = json.loads(write_report(own_run).json.read_text())
    assert document["evaluation"] == json.loads(own_run.evaluation.read_text())
    assert len(document["training"]["student"]["term_hint"]) == 12
    assert document["config"] == own_run.config.read_text()
    assert document["not_analysed"][0]["case_id"] == "example-99"
    assert len(document["rows"]) == len(rows_of(own_run.path / "report.csv"))


def test_no_path_of_a_case_reaches_a_report(own_run: RunFolder) -> None:
    written = write_report(own_run)
    for path in (written.html, written.json, written.csv):
        assert "example-99.mhd" not in path.read_text()


def test_a_number_that_json_cannot_hold_becomes_null(own_run: RunFolder) -> None:
    own_run.log("student").write_text("epoch,term_hint\n1,nan\n2,\n3,0.5\n")
    document = json.loads(write_report(own_run).json.read_text())
    assert document["training"]["student"]["term_hint"] == [None, None, 0.5]


def test_the_report_goes_where_out_says(own_run: RunFolder, tmp_path: Path) -> None:
    written = write_report(own_run, tmp_path / "new" / "r.html")
    assert written.html == tmp_path / "new" / "r.html"
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["r.csv", "r.html", "r.json"]
    assert not own_run.report.exists()


def test_an_out_that_is_no_html_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        write_report(RunFolder(tmp_path / "none"), tmp_path / "report.pdf")
    assert "ends in .html" in caught.value.reasons[0]


def test_a_folder_that_is_no_run_is_refused_with_all_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read_contents(RunFolder(tmp_path))
    reasons = "\n".join(caught.value.reasons)
    assert "evaluation.json is missing" in reasons
    assert "config.yaml is missing" in reasons
    assert "medkd train" in reasons


@pytest.mark.parametrize(("make", "said"), [(False, "a missing path"), (True, "a file")])
def test_what_is_no_folder_is_refused(tmp_path: Path, make: bool, said: str) -> None:
    path = tmp_path / "run"
    if make:
        path.write_text("x")
    with pytest.raises(SettingsError) as caught:
        read_contents(RunFolder(path))
    assert said in caught.value.reasons[0]


def test_what_detect_left_is_named_as_that(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("seriesuid\n")
    with pytest.raises(SettingsError) as caught:
        read_contents(RunFolder(tmp_path))
    assert "medkd detect" in caught.value.reasons[-1]


def test_every_broken_file_of_a_run_is_named_at_once(own_run: RunFolder) -> None:
    own_run.evaluation.write_text("{}")
    own_run.cases.write_text("case_id\nx\n")
    own_run.log("control").write_text("epoch,train_loss\n1,much\nx,0.5\n")
    with pytest.raises(SettingsError) as caught:
        read_contents(own_run)
    reasons = "\n".join(caught.value.reasons)
    for part in ("evaluation.json", "cases.csv: row 2", "row 2, train_loss", "row 3, epoch"):
        assert part in reasons


def test_a_run_of_a_newer_medkd_is_refused(own_run: RunFolder) -> None:
    values = json.loads(own_run.evaluation.read_text())
    assert values["format_version"] == json.loads(own_run.record.read_text())["format_version"]
    own_run.evaluation.write_text(json.dumps(values | {"format_version": 99}))
    with pytest.raises(SettingsError, match="RUN format 99"):
        read_contents(own_run)


def test_a_log_without_epochs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,2\n")
    with pytest.raises(SeriesError, match="column epoch"):
        read_log(path)


def test_a_row_that_a_kill_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,term_a,term_b\n1,0.5,0.25\n2,0.4\n")
    log = read_log(path)
    assert log.terms()["a"] == (0.5, 0.4)
    assert log.terms()["b"][0] == 0.25
    assert log.terms()["b"][1] != log.terms()["b"][1]  # NaN


def test_an_arm_that_was_given_needs_no_log(
    changed_run: Callable[..., RunFolder],
) -> None:
    run = changed_run(lambda e: replace(e, warnings=()))
    run.log("teacher").unlink()
    write_report(run)
    assert "no training log" not in run.report.read_text()


def command() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_the_command_says_what_was_found_and_where_the_report_is(own_run: RunFolder) -> None:
    result = CliRunner().invoke(command(), ["report", str(own_run.path)])
    assert result.exit_code == 0, result.output
    assert "Student minus control" in result.output
    assert "wrote" in result.output.splitlines()[-1] or "report.csv" in result.output
    assert own_run.report.is_file()
    assert result.output.isascii()


def test_the_command_leaves_nothing_where_it_refuses(tmp_path: Path) -> None:
    result = CliRunner().invoke(command(), ["report", str(tmp_path)])
    assert isinstance(result.exception, SettingsError)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_help_has_an_example() -> None:
    assert "medkd report runs/demo" in CliRunner().invoke(command(), ["report", "--help"]).output


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.9166, "0.917"), (-0.25, "\u22120.250"), (-0.0001, "0.000"), (float("nan"), "not defined")],
)
def test_numbers_are_written_with_a_true_minus_and_no_negative_zero(
    value: float, said: str
) -> None:
    assert words.number(value) == said


def test_a_small_difference_has_no_sign_and_a_tiny_p_is_not_zero() -> None:
    assert words.signed(0.0001) == "0.000"
    assert words.signed(0.01) == "+0.010"
    assert words.p_value(0.00001) == "< 0.0001"


def test_intervals_of_one_making_are_described_once() -> None:
    made = [Interval(0, 1), Interval(0.1, 0.2, resamples=990), None]
    said = words.interval_words(made)
    assert said == (
        "In brackets: 95 % percentile bootstrap intervals "
        "(990 to 1,000 resamples by patient, seed 0)."
    )
    assert words.interval_words([None]) == "No intervals were computed."


def test_every_transfer_term_is_shown_by_words() -> None:
    shown = {kind: words.term_words(kind) for kind in TERMS}
    assert [kind for kind, text in shown.items() if text == kind] == []
    assert words.term_words("rkd_angle_2") == "angles between samples (rkd_angle_2)"
