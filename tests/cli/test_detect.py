"""`medkd detect`."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.detect.scan_level import ScanLevelScore
from medkd.errors import SettingsError
from medkd.index.table import CaseLabel, read_index, write_index
from medkd.io.dicom.write import write_dicom_series
from medkd.io.luna16_tables import read_marks
from medkd.io.volume import write_mhd
from medkd.jsonio import read_json
from medkd.models.package import ModelInfo, Preprocessing, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import CaseResult, OperatingPoint
from tests.data.archives import write_scan_archive
from tests.detect_cases import chest_with_balls, write_detector


@pytest.fixture
def model(tmp_path):
    settings = parse_model_settings({"kind": "shallow3d", "channels": 2})
    steps = (
        {"kind": "load"},
        {"kind": "spacing", "spacing_mm": [4.0, 4.0, 4.0]},
        {"kind": "crop", "patch_shape": [8, 8, 8]},
        {"kind": "intensity"},
    )
    info = ModelInfo(
        settings=settings.model_dump(mode="json"),
        preprocessing=Preprocessing(steps=steps),
        operating_points={"whole-scan": OperatingPoint(0.0, "fp_per_scan")},
        trained_on_synthetic=True,
    )
    save_model(tmp_path / "model", build_model(settings, seed=0), info)
    return tmp_path / "model"


def test_marks_are_written_and_a_synthetic_model_says_so(model, tmp_path):
    write_mhd(chest_with_balls(), tmp_path / "scans" / "2.25.7.mhd")
    words = ["detect", str(model), str(tmp_path / "scans"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    marks = read_marks(tmp_path / "out" / "results.csv")
    assert f"1 of 1 scans analysed, {len(marks)} marks" in done.output
    assert "no clinical performance known" in done.output
    assert f"{len(marks)} marks reach the threshold: 0, chosen on " in done.output


def test_a_search_leaves_a_page_and_takes_a_frozen_threshold(tmp_path):
    points = {"whole-scan@2": OperatingPoint(0.0, "fp_per_scan")}
    write_detector(tmp_path / "model", operating_points=points)
    write_mhd(chest_with_balls(), tmp_path / "2.25.7.mhd")
    words = ["detect", str(tmp_path / "model"), str(tmp_path / "2.25.7.mhd"), "--out"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "out"), "--fp-per-scan", "2"])
    assert done.exit_code == 0, done.output
    assert "reach the threshold: 0, chosen on validation" in done.output
    assert "Not a medical device" in (tmp_path / "out" / "results.html").read_text()
    with pytest.raises(SettingsError, match="expected one of 2"):
        CliRunner().invoke(
            app, [*words, str(tmp_path / "no"), "--fp-per-scan", "3"], catch_exceptions=False
        )
    assert not (tmp_path / "no").exists()


def test_marks_on_phantoms_say_which_generator_made_them(model, tmp_path):
    write_mhd(chest_with_balls(), tmp_path / "scans" / "subset0" / "2.25.7.mhd")
    (tmp_path / "scans" / "phantom.json").write_text('{"generator_version": "1"}')
    words = ["detect", str(model), str(tmp_path / "scans"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    line = "medkd phantom 1: difficulty not measured for this generator"
    assert line in done.output
    result = read_json(next((tmp_path / "out").glob("2*.json")), CaseResult)
    assert f"synthetic scan: {line}" in result.notes


def test_if_no_scan_can_be_read_it_ends_with_an_error_and_the_reasons(model, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "broken.mhd").write_text("no header")
    words = ["detect", str(model), str(tmp_path / "scans"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "not analysed: broken" in done.output
    assert (tmp_path / "out" / "broken.json").is_file()


def test_each_series_of_a_flat_export_is_a_result_of_its_own(model, tmp_path):
    flat = tmp_path / "export"
    flat.mkdir()
    thick = {"SliceThickness": "5", "SeriesInstanceUID": "1.2.3.5"}
    for number, extra in enumerate(({"SeriesInstanceUID": "1.2.3.4"}, thick)):
        for path in write_dicom_series(chest_with_balls(), tmp_path / str(number), extra=extra,
                                       patient_name="Doe^Jane", patient_id="1"):  # fmt: skip
            path.rename(flat / f"IM{number}{path.stem}.IMA")
    (flat / "mask.nii.gz").write_bytes(b"")
    words = ["detect", str(model), str(flat), "--out", str(tmp_path / "out"), "--allow",
             "coarse_voxels"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert read_json(tmp_path / "out" / "1.2.3.4.json", CaseResult).status == "analysed"
    refused = read_json(tmp_path / "out" / "1.2.3.5.json", CaseResult)
    assert refused.status == "not_analysed"
    assert "to accept this: --allow slice_thickness" in refused.reasons
    assert any(str(flat) in reason for reason in refused.reasons)
    mask = read_json(tmp_path / "out" / "mask.json", CaseResult)
    assert mask.reasons[0] == "empty_file: the file is empty"


def test_scans_of_an_index_are_scored_by_the_labels_that_it_has(model, tmp_path):
    index = write_scan_archive(tmp_path / "archive", scans=2)
    archive = read_index(index)
    write_index(index, replace(archive, labels=(CaseLabel("s3", "Nodule", 0),)))
    words = ["detect", str(model), str(index), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "not analysed: s2\n  - missing_slices: after position -120.0 mm" in done.output
    assert "2 of 3 scans with a nodule, 0 unknown" in done.output
    score = read_json(tmp_path / "out" / "scan_level-index.json", ScanLevelScore)
    assert (score.scans, score.not_analysed) == (3, 1)


def test_a_dicom_folder_passes_the_gate_or_is_refused(model, tmp_path):
    scan = make_phantom(PhantomSettings(site="b"), 0).scan
    thick = f"slice_thickness: {scan.acquisition.slice_thickness_mm:g} mm, limit 3 mm"
    write_dicom_series(scan, tmp_path / "in", patient_name="A^B", patient_id="17")
    words = ["detect", str(model), str(tmp_path / "in"), "--out"]
    refused = CliRunner().invoke(app, [*words, str(tmp_path / "strict")])
    assert refused.exit_code == 1
    assert thick in refused.output
    passed = CliRunner().invoke(
        app, [*words, str(tmp_path / "lenient"), "--allow", "slice_thickness"]
    )
    assert passed.exit_code == 0, passed.output
    result = read_json(next((tmp_path / "lenient").glob("*.json")), CaseResult)
    assert f"allowed: {thick}" in result.notes


def test_a_fault_that_may_not_be_let_pass_is_named_with_those_that_may(model, tmp_path):
    words = ["detect", str(model), str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(SettingsError, match="cannot be allowed: gantry_tilt; these can: "):
        CliRunner().invoke(app, [*words, "--allow", "gantry_tilt"], catch_exceptions=False)
