from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.real_data import data_root

COUNTS = (
    "true_positives", "false_positives", "false_negatives", "ignored_excluded", "ignored_double",
    "candidates",
)  # fmt: skip
GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "froc_deeplung.json").read_text(encoding="utf-8")
)


def run_froc(*words: object) -> subprocess.CompletedProcess[str]:
    program = "from medkd.cli import main; main()"
    return subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", program, "froc", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


PLACE = ["seriesuid", "coordX", "coordY", "coordZ"]


@pytest.fixture
def tables(tmp_path: Path) -> list[object]:
    """One scan with a nodule that is hit, one without; one false positive."""
    marks = [[*PLACE, "probability"], ["a", 1, 0, 0, 0.9], ["b", 0, 0, 0, 0.5]]
    return [
        "--marks", write_csv(tmp_path / "marks.csv", marks),
        "--annotations",
        write_csv(tmp_path / "annotations.csv", [[*PLACE, "diameter_mm"], ["a", 0, 0, 0, 8]]),
        "--excluded", write_csv(tmp_path / "excluded.csv", [[*PLACE, "diameter_mm"]]),
        "--seriesuids", write_csv(tmp_path / "seriesuids.csv", [["a"], ["b"]]),
    ]  # fmt: skip


def test_a_score_on_phantoms_says_how_hard_they_are(tables, tmp_path):
    (tmp_path / "phantom.json").write_text('{"generator_version": "1"}')
    done = run_froc(*tables, "--json", tmp_path / "out" / "froc.json")
    line = "medkd phantom 1: difficulty not measured for this generator"
    assert line in done.stdout
    assert json.loads((tmp_path / "out" / "froc.json").read_text())["phantoms"] == [line]


def test_marks_are_scored_and_written_as_json(tables, tmp_path):
    done = run_froc(*tables, "--json", tmp_path / "out" / "froc.json", "--threshold", 0.6)

    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "out" / "froc.json").read_text(encoding="utf-8"))
    assert [written[key] for key in COUNTS] == [1, 1, 0, 0, 0, 2]
    assert list(written["sensitivity_at"]) == ["0.125", "0.25", "0.5", "1", "2", "4", "8"]
    assert written["at_operating_point"]["f1"]["value"] == 1.0
    assert written["variant"]["cap"].startswith("100 marks per scan; ")
    assert "CPM interpolated  1.000000" in done.stdout


def test_a_broken_table_ends_with_every_reason_and_leaves_nothing(tables, tmp_path):
    write_csv(tmp_path / "annotations.csv", [[*PLACE, "size"], ["a", "x", 0, 0, 8]])
    write_csv(tmp_path / "seriesuids.csv", [["a"], ["a"]])

    done = run_froc(*tables, "--json", tmp_path / "froc.json")

    assert done.returncode == 1
    assert "coordX must be a finite number, got 'x'" in done.stderr
    assert "column 'diameter_mm' is missing" in done.stderr
    assert "row 2: series a is already in row 1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "froc.json").exists()


def test_intervals_go_by_patient_where_patients_are_given(tables, tmp_path):
    patients = write_csv(tmp_path / "p.csv", [["seriesuid", "patient_id"], ["a", 1], ["b", 2]])

    done = run_froc(*tables, "--patients", patients, "--json", tmp_path / "froc.json")

    assert "by patient" in done.stdout
    written = json.loads((tmp_path / "froc.json").read_text(encoding="utf-8"))
    assert written["interval"]["unit"] == "patient"


def test_warnings_are_shown(tables, tmp_path):
    marks = [[*PLACE, "probability"], ["a", 1, 0, 0, 0.9], ["z", 0, 0, 0, 0.5]]
    write_csv(tmp_path / "marks.csv", marks)

    assert "warning: 1 marks of 1 series" in run_froc(*tables, "--bootstrap", 0).stderr


def test_froc_imports_nothing_slow():
    program = (
        "import sys; from medkd.cli import app; import medkd.evaluate.froc, medkd.io.luna16_tables;"
        "slow = {'torch', 'sklearn', 'scipy', 'monai', 'matplotlib'}; print(slow & {*sys.modules})"
    )
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def luna16() -> Path:
    return data_root() / "luna16"


def test_real_marks_score_as_the_official_script_says(luna16, tmp_path):
    done = run_froc(
        "--marks", luna16 / "deeplung_marks.csv", "--annotations", luna16 / "annotations.csv",
        "--excluded", luna16 / "annotations_excluded.csv",
        "--seriesuids", luna16 / "seriesuids.csv", "--json", tmp_path / "froc.json",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "froc.json").read_text(encoding="utf-8"))
    tolerance = GOLDEN["tolerance"]
    assert {key: written[key] for key in COUNTS} == {key: GOLDEN[key] for key in COUNTS}
    for name in ("cpm_interpolated", "cpm_nearest"):
        assert written[name] == pytest.approx(GOLDEN[name], abs=tolerance["cpm"])
    assert written["sensitivity_at"] == pytest.approx(
        GOLDEN["sensitivity_at"], abs=tolerance["sensitivity"]
    )
    bounds = written["interval_of_curve"]
    assert written["cpm_bootstrap_mean"] == pytest.approx(
        GOLDEN["bootstrap"]["mean"], abs=tolerance["bootstrap"]
    )
    assert [bounds["low"], bounds["high"]] == pytest.approx(
        [GOLDEN["bootstrap"]["low"], GOLDEN["bootstrap"]["high"]], abs=tolerance["bootstrap"]
    )
    curve = np.genfromtxt(luna16 / "deeplung_official_output" / "froc.txt", delimiter=",")
    ours = np.stack([written["fp_per_scan"], written["sensitivity"]], axis=1)
    assert np.abs(curve[:, :2] - ours).max() < tolerance["curve"]
    assert np.abs(curve[1:, 2] - written["thresholds"][1:]).max() < tolerance["curve"]
