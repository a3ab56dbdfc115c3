"""The app on an INDEX, and on a run whose cases stand in one: refused cases are among them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.models.package import ModelInfo, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.review.opened import open_review
from medkd.review.store import open_store
from medkd.types import RunCase
from tests.data.archives import write_scan_archive, write_xray_archive
from tests.viewer.factory import write_bare_run
from tests.viewer.test_pages import launch, press, scene_of, shown_images, texts  # noqa: F401  # a fixture


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return write_scan_archive(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_xray_archive(tmp_path_factory.mktemp("images"), patients=4, values=(1, None))


def test_every_case_of_an_index_is_listed_refused_ones_first_with_their_reasons(scans, launch):  # noqa: F811
    app = launch(open_review(scans))
    table = app.dataframe[0].value
    assert list(table["Case"]) == ["s3", "s0", "s1", "s2", "s4"]
    assert list(table["Status"])[:2] == ["NOT ANALYSED", "ready"]
    assert table["Reasons"][0] == "missing_slices: after position -120.0 mm"
    assert table["Nodules"][1] >= 2
    assert table["Reference"][1] == "nodules with their places"
    assert "not the same as no findings" in texts(app.warning)
    assert "no model has analysed these cases" in texts(app.caption)
    assert "highest score first" not in texts(app.caption)


def test_a_scan_of_an_index_shows_where_its_nodules_lie_and_jumps_there(scans, launch):  # noqa: F811
    app = launch(open_review(scans), "case.py", case="s0")
    assert shown_images(app) == 1
    jumps = [b.label for b in app.button if b.label.startswith("1: nodule, ")]
    assert len(jumps) == 1
    slice_number = int(re.search(r"slice (\d+)", jumps[0]).group(1))
    press(app, jumps[0])
    scene = scene_of(app)
    assert scene["jump"] == {"id": "reference-1", "count": 1, "center": None}
    assert round(scene["rings"][0]["center"][2]) == slice_number - 1
    assert not scene["decides"]
    assert "Blue: reference nodule" in texts(app.caption)


def test_a_scan_that_nobody_annotated_is_not_shown_as_one_without_nodules(tmp_path, launch):  # noqa: F811
    scans = [Case(name, "p", "scan", "ready") for name in ("read", "unread", "labelled")]
    made = Case("made", "p", "scan", "ready", synthetic=True, generator="medkd phantom 3")
    labels = (CaseLabel("read", "nodule", 0), CaseLabel("labelled", "nodule", 1))
    index = tmp_path / "index.csv"
    write_index(index, ArchiveIndex((*scans, made), labels=labels))
    app = launch(open_review(index))
    table = app.dataframe[0].value.set_index("Case")
    assert table["Reference"].to_dict() == {
        "read": "annotated, no nodule", "unread": "not annotated", "made": "not annotated",
        "labelled": "has a nodule, place not known",
    }  # fmt: skip
    assert table["Nodules"]["read"] == 0
    assert table["Nodules"].isna().sum() == 3
    assert table["Synthetic"]["made"] == "synthetic: medkd phantom 3"
    assert "1 of 4 cases are synthetic" in texts(app.warning)
    said = texts(launch(open_review(index), "case.py", case="unread").caption)
    assert "not annotated. That is not the same as no nodule" in said


def test_a_refused_case_is_shown_as_not_analysed_with_its_reasons(scans, images, launch):  # noqa: F811
    for index, case, reason in (
        (scans, "s3", "missing_slices: after position -120.0 mm"),
        (images, "c000", "colour: channels differ"),
    ):
        app = launch(open_review(index), "case.py", case=case)
        assert texts(app.text).count(reason) == 1
        assert "not the same as no findings" in texts(app.error)
        assert scene_of(app)["refused"]


def test_a_refused_case_that_cannot_be_shown_says_why(tmp_path, launch):  # noqa: F811
    index = write_xray_archive(tmp_path, patients=1)
    place = tmp_path / "DOE^JANE" / "0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)).save(place)
    app = launch(open_review(index), "case.py", case="c000")
    assert "cannot be shown" in texts(app.error)
    assert "colour" in texts(app.text)
    assert shown_images(app) == 0
    place.unlink()
    app = launch(open_review(index), "case.py", case="c000")
    assert "no longer where it was" in texts(app.text)
    assert "DOE" not in texts(app.text)


def test_an_image_of_an_index_shows_what_is_known_of_its_labels(images, launch):  # noqa: F811
    app = launch(open_review(images), "case.py", case="c002")
    table = app.dataframe[0].value.set_index("Label")
    assert dict(table["Value"]) == {"Nodule": "not known", "Mass": "absent"}
    assert scene_of(app)["picture"]


def test_decisions_on_an_index_are_kept_beside_it_when_it_is_opened_again(images, launch):  # noqa: F811
    press(launch(open_review(images), "case.py", case="c002"), "Accept")
    again = open_review(images)
    store = open_store(again.decisions)
    assert [d.case_id for d in store.history()] == ["c002"]
    store.close()
    assert again.decisions.parent == images.with_suffix(".review")


def test_no_path_of_the_archive_is_shown_or_written(images, launch):  # noqa: F811
    review = open_review(images)
    app = launch(review, "case.py", case="c003")
    shown = texts([*app.text, *app.caption, *app.error])
    written = [p.name + p.read_text("latin-1") for p in review.decisions.parent.iterdir()]
    assert "DOE" not in shown + "".join(written)


def test_a_run_opens_the_cases_of_an_archive(scans, images, tmp_path, launch):  # noqa: F811
    scan = RunCase("s1", "p1", "scan", str(scans), "test", None, 1, 0.9, "analysed")
    image = RunCase("c003", "p1", "image", str(images), "test", None, 1, 0.7, "analysed")
    refused = RunCase("s3", "p3", "scan", str(scans), "none", None, None, None, "not_analysed",
                      ("missing_slices: after position -120.0 mm",))  # fmt: skip
    run = write_bare_run(tmp_path, [scan, image, refused])
    for case in ("s1", "c003", "s3"):
        app = launch(run, "case.py", case=case)
        assert scene_of(app)["refused"] == (case == "s3")
    assert "Results" not in texts(app.title)


def test_a_probability_says_of_what(images, tmp_path, launch):  # noqa: F811
    image = RunCase("c003", "p1", "image", str(images), "test", None, 1, 0.7, "analysed")
    run = write_bare_run(tmp_path, [image])
    assert "of the finding" in texts(launch(run, "case.py", case="c003").text)
    settings = parse_model_settings({"kind": "shallow2d", "channels": 2})
    info = ModelInfo(settings.model_dump(mode="json"), label_names=("Nodule or Mass",))
    save_model(run.model("student"), build_model(settings, seed=0), info)
    assert "of Nodule or Mass" in texts(launch(run, "case.py", case="c003").text)
