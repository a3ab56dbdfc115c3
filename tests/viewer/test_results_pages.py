"""The app on RESULTS of `medkd detect`: worklist, marks, probabilities, pictures, decisions."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest

from medkd.detect.jobs import run_job, scan_job
from medkd.detect.view import DetectSettings
from medkd.io.dicom.gate import GateSettings
from medkd.io.dicom.write import write_dicom_series
from medkd.io.volume import write_mhd
from medkd.jsonio import write_json
from medkd.review.opened import open_review
from medkd.review.store import open_store
from medkd.runs import ResultsFolder, SearchRecord
from medkd.types import Candidate, CaseResult, OperatingPoint
from tests.data.archives import write_scan_archive, write_xray_archive
from tests.detect_cases import ball_model, chest_with_balls
from tests.viewer.test_pages import launch, press, scene_of, shown_images, texts  # noqa: F401  # a fixture

POINT = {"whole-scan": OperatingPoint(0.5, "fp_per_scan")}
GATE = GateSettings(allow=("coarse_voxels",))
COARSE = DetectSettings(step_mm=8.0, proposals=10, refined=10)


def search(inputs, out, **info):
    model = ball_model(operating_points=POINT, **info)
    run_job(scan_job(inputs, model, settings=COARSE, gate=GATE), out)
    return out


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Results of a volume, one series of two in a folder, and a file that is no scan."""
    folder = tmp_path_factory.mktemp("inputs")
    write_mhd(chest_with_balls(), folder / "ball.mhd")
    for uid in ("1.2.3.4", "1.2.3.5"):
        scan = replace(chest_with_balls(), seriesuid=uid)
        write_dicom_series(scan, folder / "flat", patient_name="P", patient_id=uid)
    (folder / "broken.mhd").write_text("no header")
    return search([folder], tmp_path_factory.mktemp("found") / "out")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_scan_archive(tmp_path_factory.mktemp("archive"), scans=1)


@pytest.fixture
def images(tmp_path):
    """Results of two radiographs of an archive: one scored, one refused."""
    index, out = write_xray_archive(tmp_path, patients=2), tmp_path / "found"
    record = SearchRecord("image", "m", "i", 2, threshold=0.6, labels=("Nodule",), notes=())
    write_json(ResultsFolder(out).record, record)
    scored = CaseResult("c002", (), "analysed", kind="image", probabilities={"Nodule": 0.7})
    write_json(out / "c002.json", scored)
    refused = CaseResult("c000", (), "not_analysed", ("colour: channels differ",), kind="image")
    write_json(out / "c000.json", refused)
    return open_review(out, index=index)


def test_refused_cases_come_first_then_those_with_the_highest_marks(found, launch):  # noqa: F811
    app = launch(open_review(found))
    table = app.dataframe[0].value
    assert list(table["Status"]) == ["NOT ANALYSED", "analysed", "analysed", "analysed"]
    assert table["Case"][0] == "broken"
    assert set(table["Case"][1:]) == {"ball", "1.2.3.4", "1.2.3.5"}
    assert table["Score"][1:].between(0.5, 1).all()
    assert all("decided" in words for words in table["Marks"][1:])
    assert "not the same as no findings" in texts(app.warning)
    assert "not compared with a reference" in texts(app.caption)
    assert [t.value for t in app.sidebar.caption] == ["Results", "Reader"]
    assert "Results" not in texts(app.title)


@pytest.mark.parametrize("case", ["ball", "1.2.3.4", "1.2.3.5"])
def test_a_scan_is_shown_with_its_marks_where_its_files_still_are(found, launch, case):  # noqa: F811
    app = launch(open_review(found), "case.py", case=case)
    assert shown_images(app) == 1
    assert "Marks of `medkd detect`" in texts(app.caption)
    jump = next(b.label for b in app.button if b.label.startswith("Mark 1: "))
    press(app, jump)
    scene = scene_of(app)
    assert scene["jump"]["id"] == scene["rings"][0]["id"]
    slice_number = int(re.search(r"slice (\d+)", jump).group(1))
    assert round(scene["rings"][0]["center"][2]) == slice_number - 1
    assert "chosen on validation" in str([radio.options for radio in app.radio])


def test_a_scan_whose_files_are_gone_keeps_its_marks(tmp_path, launch):  # noqa: F811
    write_mhd(chest_with_balls(), tmp_path / "in" / "ball.mhd")
    out = search([tmp_path / "in"], tmp_path / "out")
    shutil.rmtree(tmp_path / "in")
    app = launch(open_review(out), "case.py", case="ball")
    assert shown_images(app) == 0
    assert "This scan cannot be shown" in texts(app.error)
    assert any(b.label.startswith("Mark 1: ") for b in app.button)


def test_a_decision_is_kept_beside_the_results_and_the_search_goes_on(tmp_path, launch):  # noqa: F811
    write_mhd(chest_with_balls(), tmp_path / "in" / "ball.mhd")
    out = search([tmp_path / "in"], tmp_path / "out")
    press(launch(open_review(out), "case.py", case="ball"), "Accept")
    store = open_store(out / "review.sqlite")
    assert [(d.case_id, d.verdict) for d in store.history()] == [("ball", "accept")]
    store.close()
    model = ball_model(operating_points=POINT)
    job = scan_job([tmp_path / "in"], model, settings=COARSE, gate=GATE)
    assert len(run_job(job, out, resume=True)) == 1
    assert (out / "review.sqlite").is_file()


def test_a_pseudonymised_scan_is_shown_once_its_index_is_given(archive, tmp_path, launch):  # noqa: F811
    out = search([archive], tmp_path / "out")
    app = launch(open_review(out), "case.py", case="s0")
    assert shown_images(app) == 0
    assert "medkd review RESULTS --index INDEX" in texts(app.text)
    app = launch(open_review(out, index=archive), "case.py", case="s0")
    assert shown_images(app) == 1
    refused = launch(open_review(out, index=archive), "case.py", case="s1")
    assert texts(refused.text).count("missing_slices") == 1


def test_a_radiograph_shows_the_probability_of_each_label(images, launch):  # noqa: F811
    app = launch(images, "case.py", case="c002")
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row == {
        "Label": "Nodule", "Probability": "0.700", "Threshold": "0.600", "Result": "positive",
    }  # fmt: skip
    assert "of Nodule" in texts(app.text)
    assert scene_of(app)["picture"]
    assert launch(images).dataframe[0].value["Case"].to_list() == ["c000", "c002"]


def test_a_model_of_synthetic_scans_is_named_on_every_page(tmp_path, launch):  # noqa: F811
    write_mhd(chest_with_balls(), tmp_path / "in" / "ball.mhd")
    out = search([tmp_path / "in"], tmp_path / "out", trained_on_synthetic=True)
    for page in ("worklist.py", "case.py"):
        assert "no clinical performance known" in texts(launch(open_review(out), page).warning)


def test_results_that_do_not_say_what_trained_the_model_say_so(tmp_path, launch):  # noqa: F811
    write_json(ResultsFolder(tmp_path).record, SearchRecord("scan", "m", "i", 1))
    mark = Candidate("s", (0.0, 0.0, 0.0), 0.2)
    write_json(tmp_path / "s.json", CaseResult("s", (mark,), "analysed"))
    app = launch(open_review(tmp_path))
    assert "do not record whether" in texts(app.warning)
    assert list(app.dataframe[0].value["Marks"]) == ["0 of 1 decided"]
