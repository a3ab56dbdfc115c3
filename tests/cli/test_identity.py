"""`medkd identity`: back from a pseudonym, and never without a line in the audit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SeriesError
from medkd.index.case_store import open_scan
from medkd.index.pseudonyms import LinkTable
from medkd.io.dicom.write import write_dicom_series
from medkd.types import Scan
from tests.archive.archives import chest, index_of, write_picture

runner = CliRunner()


def index_with_a_patient(folder: Path) -> Path:
    LinkTable(folder / "index.private").record([("p1", "patient_id", "hospital-17")])
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


@pytest.mark.parametrize("zipped", [False, True])
def test_a_mark_of_a_pseudonymised_scan_leads_back_to_its_image(
    tmp_path: Path, zipped: bool
) -> None:
    folder = tmp_path / "DOE^JANE"
    write_dicom_series(chest()[0], folder, patient_name="DOE^JANE", patient_id="17")
    if zipped:
        shutil.make_archive(str(tmp_path / "a" / "export"), "zip", folder)
        folder = tmp_path / "a"
    index = tmp_path / "work" / "index.csv"
    (case,) = index_of(folder, index).cases
    shown = open_scan(index, case.case_id)
    assert isinstance(shown, Scan)
    assert {s.sop_instance_uid for s in shown.slices} == {""}
    number = shown.slices[4].instance_number
    words = ["identity", "lookup", case.case_id, "--index", str(index), "--why", "x", "--slice"]
    tags = dict(line.split("\t") for line in runner.invoke(app, [*words, "5"]).stdout.splitlines())
    assert tags["instance_number"] == str(number)
    if not zipped:
        image = dcmread(tags["file"])
        assert (image.SOPInstanceUID, image.InstanceNumber) == (tags["sop_instance_uid"], number)
    else:
        assert tags["file"].startswith(f"{folder / 'export.zip'}: ")
    assert len(LinkTable(tmp_path / "work" / "index.private").audit()) == 1
    refused = runner.invoke(app, [*words, "9999"])
    assert "expected a slice from 1 to" in str(refused.exception)


def test_the_files_of_a_film_can_be_looked_up_but_it_has_no_slice(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "DOE.png")
    index = tmp_path / "work" / "index.csv"
    (case,) = index_of(tmp_path / "in", index).cases
    words = ["identity", "lookup", case.case_id, "--index", str(index), "--why", "x"]
    files = runner.invoke(app, [*words, "--files"]).stdout
    assert f"file\t{tmp_path / 'in' / 'DOE.png'}\n" in files
    refused = runner.invoke(app, [*words, "--slice", "1"])
    assert "it is stored as one image" in str(refused.exception)
