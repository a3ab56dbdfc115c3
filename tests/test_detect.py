"""Whole-scan search: places in LPS mm, scores, refusals, and what it leaves on disk."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medkd.data.loading import parse_loading
from medkd.data.prepared import prepare_scan
from medkd.detect import DetectSettings, detect_nodules, search_prepared
from medkd.detect.batch import search_scans
from medkd.detect.maps import count_cells, dense_map, patch_starts
from medkd.detect.results import write_results
from medkd.detect.view import PatchView, build_view
from medkd.errors import CheckpointError
from medkd.index.scan_inputs import find_inputs
from medkd.io.luna16_tables import read_marks
from medkd.io.volume import read_volume, write_mhd
from medkd.jsonio import read_json
from medkd.lungs import find_lungs
from medkd.models.package import Calibration, Preprocessing
from medkd.provenance import synthetic_words
from medkd.types import CaseResult, LungPlace
from tests.detect_cases import BALLS_MM, ball_model, chest_with_balls
from tests.real_data import needs_data


@pytest.fixture(scope="module")
def scan():
    return chest_with_balls()


def view_of(scan, settings: DetectSettings) -> PatchView:
    model = ball_model()
    steps = parse_loading(model.info.preprocessing.steps)
    prepared = prepare_scan(scan, steps)
    return build_view(prepared, prepared.found_lungs(), model=model, settings=settings)


@pytest.mark.parametrize("stride", [None, 2, 4])
def test_balls_are_marked_where_they_are_whatever_way_the_axes_point(scan, stride):
    settings = DetectSettings(sliding_step_mm=6.0)
    result = detect_nodules(scan, ball_model(stride=stride), settings)
    best = np.array([mark.center_mm for mark in result.candidates[:3]])
    apart = np.linalg.norm(best[:, None] - np.array(BALLS_MM), axis=2)
    # Whole voxels of 2 mm: at most half a voxel off along each axis, and some blur.
    assert apart.min(axis=0).max() < 2.5
    assert result.candidates[2].score > 0.5 > result.candidates[3].score
    assert result.status == "analysed"


@pytest.mark.parametrize("spaced", [True, False])
def test_preparing_the_lungs_alone_gives_the_marks_of_the_whole_scan(scan, spaced):
    model = ball_model()
    kinds = ("load", "spacing", "crop", "intensity") if spaced else ("load", "crop", "intensity")
    steps = tuple(s for s in model.info.preprocessing.steps if s["kind"] in kinds)
    model = replace(model, info=replace(model.info, preprocessing=Preprocessing(steps=steps)))
    # The thick slices come first, and the lungs are far from the sides of the volume.
    voxels = np.pad(scan.voxels_hu.transpose(2, 0, 1), 30, constant_values=40)
    grid = scan.grid.reordered((2, 0, 1), (False,) * 3).cropped([-30] * 3, voxels.shape)
    wide = replace(scan, voxels_hu=voxels, grid=grid)
    whole = search_prepared(prepare_scan(wide, parse_loading(steps)), model)
    marks = detect_nodules(wide, model).candidates
    for mark, same in zip(marks[:40], whole.candidates[:40], strict=True):
        assert np.linalg.norm(np.subtract(mark.center_mm, same.center_mm)) < 0.01
        assert mark.score == pytest.approx(same.score, abs=1e-3)


def test_marks_are_few_apart_and_best_first(scan):
    settings = DetectSettings(marks=5, apart_mm=15.0)
    marks = detect_nodules(scan, ball_model(), settings).candidates
    places = np.array([mark.center_mm for mark in marks])
    apart = np.linalg.norm(places[:, None] - places, axis=2) + 1e6 * np.eye(len(marks))
    assert len(marks) == 5
    assert apart.min() >= 15.0
    assert [m.score for m in marks] == sorted((m.score for m in marks), reverse=True)


def test_all_marks_lie_in_the_lungs(scan):
    marks = detect_nodules(scan, ball_model()).candidates
    assert find_lungs(scan).contains([mark.center_mm for mark in marks]).all()


def test_a_mark_states_its_lung_and_third(scan):
    result = detect_nodules(scan, ball_model())
    found = {}
    for mark, place in zip(result.candidates[:3], result.places[:3], strict=True):
        ball = int(np.linalg.norm(np.subtract(BALLS_MM, mark.center_mm), axis=1).argmin())
        found[ball] = place.lung
    right_lower, left_upper, right_upper = (
        LungPlace("right", "lower"), LungPlace("left", "upper"), LungPlace("right", "upper"),
    )  # fmt: skip
    assert found == {0: right_lower, 1: left_upper, 2: right_upper}


def test_implausible_lungs_are_noted():
    small = find_lungs(chest_with_balls()).warnings
    assert small
    assert set(small) <= set(detect_nodules(chest_with_balls(), ball_model()).notes)


def test_a_scan_without_nodules_gives_no_high_score():
    marks = detect_nodules(chest_with_balls(balls=False), ball_model()).candidates
    assert all(mark.score < 0.5 for mark in marks)


def test_a_score_is_the_calibrated_probability(scan):
    plain = detect_nodules(scan, ball_model()).candidates
    soft = detect_nodules(scan, ball_model(calibration=Calibration(temperature=(2.0,)))).candidates
    logits = [np.log(m.score / (1 - m.score)) for m in plain[:3]]
    assert [m.score for m in soft[:3]] == pytest.approx([1 / (1 + np.exp(-x / 2)) for x in logits])


@pytest.mark.parametrize("step_mm", [4.0, 8.0])
def test_the_dense_map_equals_the_patches_one_by_one(scan, step_mm):
    view = view_of(scan, DetectSettings(step_mm=step_mm))
    cells = count_cells(view)
    with torch.inference_mode():
        dense = dense_map(view, cells, 10**9).flatten()
        chosen = torch.arange(0, len(dense), 97)
        one_by_one = view.logits(patch_starts(cells, view)[chosen], batch_size=64)
    torch.testing.assert_close(dense[chosen], one_by_one, atol=1e-4, rtol=1e-4)


def test_a_map_made_in_slabs_is_the_same_map(scan):
    view = view_of(scan, DetectSettings(step_mm=4.0))
    cells = count_cells(view)
    plane = view.image.shape[3] * view.image.shape[4]
    with torch.inference_mode():
        whole = dense_map(view, cells, 10**9)
        slabs = dense_map(view, cells, 40 * plane)
    torch.testing.assert_close(whole, slabs, atol=1e-5, rtol=1e-5)


def test_a_scan_without_lungs_is_not_analysed_with_the_reason(scan):
    solid = replace(scan, voxels_hu=np.full_like(scan.voxels_hu, 40))
    result = detect_nodules(solid, ball_model())
    assert (result.status, result.candidates) == ("not_analysed", ())
    assert result.reasons[0].startswith("lungs_not_in_view: no lungs found: no voxel lies between")


def test_a_volume_without_lungs_is_refused_with_its_path_and_no_option(scan, tmp_path):
    path = tmp_path / "solid.mhd"
    write_mhd(replace(scan, voxels_hu=np.full_like(scan.voxels_hu, 40)), path)
    (result,) = search_scans(find_inputs([path]).scans, ball_model())
    assert [reason.partition(":")[0] for reason in result.reasons] == [
        "lungs_not_in_view",
        "expected a chest CT with air-filled lungs",
        f"in {path}",
    ]


def test_a_model_trained_on_phantoms_says_so_in_every_result(scan):
    note = synthetic_words(None, synthetic=True)
    assert note in detect_nodules(scan, ball_model(trained_on_synthetic=True)).notes
    assert note not in detect_nodules(scan, ball_model()).notes


def test_a_model_that_cannot_search_is_refused_with_every_reason(scan):
    model = ball_model(outputs="exclusive", label_names=("other", "nodule"))
    broken = replace(model, info=replace(model.info, preprocessing=Preprocessing()))
    with pytest.raises(CheckpointError, match="cannot search") as refused:
        detect_nodules(scan, broken)
    assert ["crop" in refused.value.reasons[0], "exclusive" in refused.value.reasons[1]] == [
        True,
        True,
    ]


def test_results_hold_every_scan_and_every_mark(scan, tmp_path):
    write_mhd(scan, tmp_path / "in" / "2.25.7.mhd")
    (tmp_path / "in" / "broken.mhd").write_text("no header")
    paths = find_inputs([tmp_path / "in"]).scans
    results = write_results(tmp_path / "out", search_scans(paths, ball_model()))
    assert sorted(r.status for r in results) == ["analysed", "not_analysed"]
    found = read_json(tmp_path / "out" / "2.25.7.json", CaseResult)
    marks = read_marks(tmp_path / "out" / "results.csv")
    assert [m.center_mm for m in marks] == [m.center_mm for m in found.candidates]
    assert json.loads((tmp_path / "out" / "broken.json").read_text())["reasons"]


def test_a_series_that_comes_twice_is_searched_once(scan, tmp_path):
    for folder in ("a", "b"):
        write_mhd(scan, tmp_path / folder / "2.25.7.mhd")
    results = list(search_scans(find_inputs([tmp_path]).scans, ball_model()))
    assert [r.status for r in results] == ["analysed", "not_analysed"]
    assert "already" in results[1].reasons[0]
    assert results[0].seriesuid != results[1].seriesuid


@needs_data
def test_a_real_chest_is_searched_within_its_lungs():
    real = read_volume(Path(os.environ["MEDKD_DATA"]) / "ct_small" / "ct-64.nrrd")
    result = detect_nodules(real, ball_model())
    assert result.status == "analysed"
    assert find_lungs(real).contains([m.center_mm for m in result.candidates]).all()
