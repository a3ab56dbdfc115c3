"""What helps reading on the case page: places in words, DICOM images, windows, other arms."""

from dataclasses import replace

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.io.dicom.write import write_dicom_series
from medkd.io.luna16_tables import write_annotations, write_seriesuids
from medkd.jsonio import write_json
from medkd.types import Candidate, CaseResult, Nodule, RunCase, Scan
from tests.io.radiograph_helper import write_dx
from tests.viewer import factory
from tests.viewer.test_pages import fresh_run, launch, press, scene_of, texts  # noqa: F401  # fixtures

GRID = VoxelGrid.from_parts((24, 20, 6), spacing_mm=(1, 1, 2.5), origin_mm=(0, 0, 0))


def write_dicom_run(path):
    """Write a run with one small DICOM series, in which there are no lungs, and one radiograph."""
    voxels = np.random.default_rng(0).integers(-900, 400, GRID.shape).astype(np.int16)
    window = {"WindowCenter": ["-550", "40"], "WindowWidth": ["1400", "400"]}
    write_dicom_series(Scan("1.2.3", voxels, GRID, "p"), path / "data" / "ct",
                       patient_name="Doe^Jane", patient_id="17", extra=window)  # fmt: skip
    film = np.random.default_rng(1).integers(0, 4096, (30, 20)).astype(np.uint16)
    header = {"PatientOrientation": ["L", "F"], "WindowCenter": "2048", "WindowWidth": "4096"}
    write_dx(path / "data" / "film.dcm", film, **header)
    case = RunCase("ct", "p", "scan", "data/ct", "test", None, None, 0.9, "analysed")
    run = factory.write_bare_run(
        path, [case, replace(case, case_id="film", kind="image", path="data/film.dcm")]
    )
    mark = Candidate("ct", tuple(map(float, GRID.voxel_to_world((10, 10, 1)))), 0.9, 6.0)
    write_json(run.result("student", "ct"), CaseResult("ct", (mark,), "analysed"))
    return run


@pytest.fixture(scope="module")
def dicom_run(tmp_path_factory):
    return write_dicom_run(tmp_path_factory.mktemp("dicom") / "run")


def labels(app, start):
    return [button.label for button in app.button if button.label.startswith(start)]


def test_a_mark_tells_its_lung_and_third_where_lungs_are_found(fresh_run, launch):  # noqa: F811
    app = launch(fresh_run, "case.py", case="scan-a")
    # The lungs fill the scan's 40 slices of 6 mm: slice 21 is in the middle third.
    assert labels(app, "Mark 1") == ["Mark 1: 0.930, 16.0 mm, slice 21, right middle, undecided"]
    assert "right lung, middle third, slice 21, 16.0 mm\n" in texts(app.text)
    rings = scene_of(app)["rings"]
    assert [ring["place"] for ring in rings][:2] == [
        "right lung, middle third", "left lung, middle third",
    ]  # fmt: skip
    assert scene_of(app)["volume"]["images"] is None  # the scan is no DICOM series


def test_a_dicom_series_shows_its_image_numbers_and_no_lung_where_none_is_found(dicom_run, launch):  # noqa: F811
    app = launch(dicom_run, "case.py", case="ct")
    # InstanceNumber falls from 6 to 1 from the feet to the head.
    assert labels(app, "Mark 1") == ["Mark 1: 0.900, 6.0 mm, slice 2 (image 5), undecided"]
    scene = scene_of(app)
    assert scene["volume"]["images"] == {
        "axis": 2,
        "words": [f"image {n}" for n in range(6, 0, -1)],
    }
    assert scene["rings"][0]["place"] == ""
    assert scene["windows"][4] == {"name": "header", "center": -550, "width": 1400}


def test_a_radiograph_has_the_letters_and_the_window_of_its_header(dicom_run, launch):  # noqa: F811
    scene = scene_of(launch(dicom_run, "case.py", case="film"))
    assert scene["planes"][0]["letters"] == {"left": "R", "right": "L", "top": "H", "bottom": "F"}
    assert scene["windows"][0]["name"] == "header"


def test_the_marks_of_the_other_arms_are_shown_with_their_scores(fresh_run, launch):  # noqa: F811
    (first, _), (second, _), _ = factory.NODULES
    near = (first[0] + 5.0, first[1], first[2])  # in the radius of 8 mm
    far = (first[0] + 9.0, first[1], first[2])
    for arm, places in (("teacher", {near: 0.81, second: 0.35}), ("control", {far: 0.55})):
        marks = tuple(Candidate("scan-a", place, score, 9.0) for place, score in places.items())
        write_json(fresh_run.result(arm, "scan-a"), CaseResult("scan-a", marks, "analysed"))
    write_annotations(fresh_run.reference / "annotations.csv", [Nodule("scan-a", first, 16.0)])
    write_seriesuids(fresh_run.reference / "seriesuids.csv", ["scan-a"])
    app = launch(fresh_run, "case.py", case="scan-a")
    assert "Scores here: student 0.930, teacher 0.810, control none\n" in texts(app.text)
    others = [ring for ring in scene_of(app)["rings"] if ring["group"] == "other"]
    # The teacher's second mark is below its threshold of .4.
    found = [(ring["arm"], ring["score"], ring["outcome"]) for ring in others]
    assert found == [("teacher", 0.81, "hit"), ("control", 0.55, "false")]
    app.radio[0].set_value(app.radio[0].options[1]).run()
    assert sum(ring["group"] == "other" for ring in scene_of(app)["rings"]) == 3
    press(app, next(iter(labels(app, "Mark 2"))))
    assert "Scores here: student 0.710, teacher 0.350, control none\n" in texts(app.text)


def test_a_run_without_marks_of_other_arms_shows_no_scores(fresh_run, launch):  # noqa: F811
    app = launch(fresh_run, "case.py", case="scan-a")
    assert "Scores here" not in texts(app.text)
    assert not any(ring["group"] == "other" for ring in scene_of(app)["rings"])
