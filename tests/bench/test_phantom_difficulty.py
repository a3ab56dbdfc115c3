"""The measures of phantom difficulty, on what can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.synthetic.phantom import PhantomSettings
from medkd.types import Candidate, Nodule, Scan
from tests.bench.phantom_difficulty import __main__ as bench
from tests.bench.phantom_difficulty import measure
from tests.bench.phantom_difficulty.measure import Place, ScanRow, far_from_findings
from tests.bench.phantom_difficulty.score import (
    as_many_false_marks,
    cross_validated_scores,
    failed_bars,
    result_of,
    score_classifier,
)
from tests.bench.phantom_difficulty.surroundings import FEATURES, read_surroundings

CENTER_MM = np.array([20.0, 21.0, 30.0])


def noise_scan() -> Scan:
    voxels = np.random.default_rng(1).normal(-850, 40, (60, 60, 50)).astype(np.int16)
    grid = VoxelGrid.from_parts((60, 60, 50), spacing_mm=[0.7, 0.7, 1.2], origin_mm=[0, 0, 0])
    return Scan("1.2", voxels, grid, "p")


def row_of(uid: str, *places: Place, marks: tuple[Candidate, ...] = ()) -> ScanRow:
    return ScanRow(uid, (Nodule(uid, (0.0, 0.0, 0.0), 8.0),), (), marks, places, 1.0)


def false_mark(blob_score: float, logit: float | None = None) -> Place:
    return Place((9, 0, 0), False, 2.5, blob_score=blob_score, classifier_logit=logit)


def test_a_place_is_far_beyond_the_rim_of_every_finding() -> None:
    places = np.array([[9.9, 0.0, 0.0], [10.1, 0.0, 0.0]])
    assert far_from_findings(places, (Nodule("1", (0.0, 0.0, 0.0), 10.0),)).tolist() == [
        False,
        True,
    ]


def test_surroundings_do_not_depend_on_what_is_masked_out() -> None:
    scan = noise_scan()
    index = np.indices(scan.grid.shape).reshape(3, -1).T
    away = np.linalg.norm(scan.grid.voxel_to_world(index) - CENTER_MM, axis=1)
    changed = scan.voxels_hu.copy()
    changed[(away <= 6.0).reshape(changed.shape)] = 300
    ours = read_surroundings(scan, CENTER_MM, radius_mm=4.0)
    assert ours == read_surroundings(replace(scan, voxels_hu=changed), CENTER_MM, radius_mm=4.0)
    assert len(ours) == len(FEATURES)
    assert None not in ours


def test_surroundings_read_the_noise_that_is_there() -> None:
    found = read_surroundings(noise_scan(), CENTER_MM, radius_mm=3.0)
    features = dict(zip(FEATURES, found, strict=True))
    # Less the mean of nine voxels, itself among them: variance 1 - 1/9.
    assert features["to 7 mm: noise sd"] == pytest.approx(40.0 * (8 / 9) ** 0.5, rel=0.06)
    assert features["to 7 mm: correlation 001"] == pytest.approx(0.0, abs=0.06)


@pytest.mark.slow
def test_trees_find_a_telling_feature_and_nothing_in_noise() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    groups = np.repeat([f"s{n}" for n in range(20)], 10)
    noise = rng.normal(size=(200, 5))
    telling = np.column_stack([noise, labels + rng.normal(0, 0.5, 200)])
    for features, low, high in ((noise, 0.35, 0.65), (telling, 0.85, 1.0)):
        scores = cross_validated_scores(features, labels, groups, shuffles=1)
        won = (scores[labels == 1][:, None] > scores[labels == 0]).mean()
        assert low < won < high


def test_the_classifier_is_scored_by_kind_against_the_same_false_marks() -> None:
    solid = Place((0, 0, 0), True, 2.5, 5.0, "solid", "free", classifier_logit=3.0)
    glass = Place((0, 0, 0), True, 4.5, 9.0, "ground-glass", "pleura", classifier_logit=1.0)
    found = score_classifier([("1", solid), ("1", glass)], [("1", false_mark(0.5, 2.0))])
    assert found is not None
    assert found.roc_auc == 0.5
    assert (found.by["solid"], found.by["attachment: pleura"]) == (1.0, 0.0)
    assert found.by["08 to 12 mm"] == 0.0


def test_each_scan_gives_its_best_false_marks_as_many_as_it_has_nodules() -> None:
    nodule = Place((0, 0, 0), True, 2.5, 5.0)
    rows = [
        row_of("1", nodule, false_mark(0.2), false_mark(0.3)),
        row_of("2", nodule, nodule, false_mark(0.1)),
    ]
    found = [(uid, place.blob_score) for uid, place in as_many_false_marks(rows)]
    assert found == [("1", 0.3), ("2", 0.1)]


def test_what_was_not_measured_keeps_to_no_bar() -> None:
    hit = Candidate("1", (0.0, 0.0, 0.0), 0.9)
    result = result_of([row_of("1", false_mark(0.2), marks=(hit,)), row_of("2")])
    assert result.luna16_classifier is None
    assert [words.split(",")[0] for words in failed_bars(result)] == [
        "classifier AUC None",
        "surroundings AUC None",
    ]


@pytest.mark.slow
def test_a_measurement_goes_on_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = PhantomSettings(site="b", size="small", nodules_per_scan="3-3")
    monkeypatch.setattr(measure, "PHANTOMS", small)
    first = bench.run(tmp_path, 2)
    kept, *_ = sorted(path.stat().st_mtime_ns for path in tmp_path.glob("scan-*-000.json"))
    next(tmp_path.glob("scan-*-001.json")).unlink()
    again = bench.run(tmp_path, 2)
    assert replace(first, seconds_a_scan=0.0) == replace(again, seconds_a_scan=0.0)
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("scan-*-000.json")] == [kept]
