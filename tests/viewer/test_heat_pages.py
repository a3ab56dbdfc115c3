"""Heat maps and disagreements on the pages, launched through the router."""

import json

import numpy as np
import pytest
from scene import Jump

from medkd.io.heat_maps import HeatMap, write_heat_map
from medkd.runs import Disagreement, write_disagreements
from tests.viewer import factory, test_pages
from tests.viewer.test_pages import scene_of, texts

launch = test_pages.launch


@pytest.fixture
def fresh_run(tmp_path):
    return factory.write_review_run(tmp_path / "run")


def open_disagreements(launch, run):
    app = launch(run, "results.py")
    app.session_state["results_part"] = "Disagreements"
    return app.run()


def test_the_results_list_the_disagreements_and_a_case_opens_at_the_place(launch, fresh_run):
    assert "`medkd explain RUN` finds" in texts(open_disagreements(launch, fresh_run).info)
    place_mm = (62.0, -20.0, -120.0)
    rows = [Disagreement("scan-a", "nodule", 0.2, 0.9, place_mm)]
    write_disagreements(fresh_run.explained.disagreements, rows)
    table = next(
        frame.value
        for frame in open_disagreements(launch, fresh_run).dataframe
        if "Teacher" in frame.value and "Place, LPS mm" in frame.value
    )
    assert table.loc[0, "Student - teacher"] == 0.7
    app = launch(fresh_run, "case.py", case="scan-a")
    app.session_state["jump:scan-a"] = Jump("", 1, place_mm)
    app.run()
    jump = scene_of(app)["jump"]
    np.testing.assert_allclose(jump["center"], factory.GRID.world_to_voxel(place_mm))


def test_a_case_has_its_heat_maps_in_the_scene_and_a_broken_file_is_reported(launch, fresh_run):
    heat = scene_of(launch(fresh_run, "case.py", case="scan-a"))["heat"]
    assert "`medkd explain RUN` writes" in heat["words"]
    values = np.zeros(factory.GRID.shape, np.uint8)
    folder = fresh_run.explained.heat_maps("scan-a")
    write_heat_map(folder, HeatMap(values, factory.GRID, "probability", "teacher", "nodule"))
    path = write_heat_map(folder, HeatMap(values, factory.GRID, "grad-cam", "student", "nodule"))
    heat = scene_of(launch(fresh_run, "case.py", case="scan-a"))["heat"]
    titles = [shown["title"] for shown in heat["maps"]]
    assert titles == ["Student: Grad-CAM, nodule", "Teacher: probability, nodule"]
    np.testing.assert_allclose(heat["maps"][0]["matrix"], np.eye(4)[:3], atol=1e-12)
    assert str(values[:2].tolist()) not in json.dumps(heat)
    path.write_bytes(b"broken")
    app = launch(fresh_run, "case.py", case="scan-a")
    assert scene_of(app)["heat"]["maps"] == []
    assert "not a heat map" in texts(app.text)
