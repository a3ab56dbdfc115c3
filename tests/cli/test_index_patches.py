"""Patches in NODE21's layout on the command line: index, check, and no search of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from medkd.cli import app
from medkd.detect.batch import search_scans
from medkd.errors import SettingsError
from medkd.index.scan_inputs import find_inputs
from tests.archive.patches import write_findings, write_patch
from tests.detect_cases import ball_model

UIDS = ("1.2.3", "1.2.4", "1.2.5")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    for uid in UIDS:
        write_patch(tmp_path / "in", uid)
    return tmp_path / "in"


def test_patches_are_indexed_with_both_tables_and_checked(archive: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("seriesuid,patient_id\n" + "".join(f"{uid},P{uid[-1]}\n" for uid in UIDS))
    findings = write_findings(tmp_path / "annotations.csv", ("1.2.3", (1.0, 0.0, 0.0), 7.0))
    out = tmp_path / "work" / "index.csv"
    made = run("index", archive, "--out", out, "--annotations", findings, "--patients", table)
    assert made.exit_code == 0, made.output
    assert "3 scans (3 of them patches around nodules): 3 ready, 0 not analysed" in made.output
    assert "2 of 3 segmented nodules have no annotated nodule within 6 mm" in made.output
    checked = run("check", out)
    assert checked.exit_code == 0, checked.output
    assert "3 scans (3 of them patches around nodules) of 3 patients, 3 ready" in checked.output
    assert "warning" not in checked.output


def test_a_table_without_patients_is_refused_with_the_columns(
    archive: Path, tmp_path: Path
) -> None:
    table = write_findings(tmp_path / "annotations.csv")
    done = run("index", archive, "--out", tmp_path / "i.csv", "--patients", table)
    assert isinstance(done.exception, SettingsError)
    assert "expected the columns seriesuid and patient_id" in str(done.exception)


def test_patches_of_an_index_are_not_searched(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "work" / "index.csv"
    assert run("index", archive, "--out", out).exit_code == 0
    results = list(search_scans(find_inputs([out]).scans, ball_model()))
    assert [result.status for result in results] == ["not_analysed"] * 3
    assert results[0].reasons[0].startswith("not_whole_scan: a patch around a nodule")
