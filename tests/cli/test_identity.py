"""`medkd identity`: back from a pseudonym, and never without a line in the audit."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SeriesError
from medkd.io.identity import LinkTable

runner = CliRunner()


def index_with_a_patient(folder: Path) -> Path:
    LinkTable(folder / "index.private").record("p1", "patient_id", "hospital-17")
    return folder / "index.csv"


def test_a_look_up_answers_and_is_listed(tmp_path: Path) -> None:
    index = index_with_a_patient(tmp_path)
    asked = ["identity", "lookup", "p1", "--index", str(index), "--why", "call\nback"]
    assert runner.invoke(app, asked).stdout == "patient_id\thospital-17\n"
    listed = runner.invoke(app, ["identity", "audit", "--index", str(index)]).stdout
    assert listed.endswith("\tp1\tcall back\n")
    assert "hospital-17" not in listed


def test_a_reason_must_be_given(tmp_path: Path) -> None:
    index = index_with_a_patient(tmp_path)
    assert runner.invoke(app, ["identity", "lookup", "p1", "--index", str(index)]).exit_code == 2


def test_an_unknown_pseudonym_is_refused_and_yet_listed(tmp_path: Path) -> None:
    index = index_with_a_patient(tmp_path)
    asked = ["identity", "lookup", "p2", "--index", str(index), "--why", "x"]
    assert isinstance(runner.invoke(app, asked).exception, SeriesError)
    assert len(LinkTable(tmp_path / "index.private").audit()) == 1
