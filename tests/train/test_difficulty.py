"""The bench of the phantoms' difficulty: its measures on what can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import blob_log

from medkd.config.difficulty_settings import BlobSettings, DifficultySettings, SurroundingsSettings
from medkd.errors import SettingsError
from medkd.geometry import VoxelGrid
from medkd.synthetic.phantom import PhantomScan, PhantomSettings, make_phantom
from medkd.synthetic.phantom.blob_log import find_peaks, prune_peaks
from medkd.train.difficulty import run as bench
from medkd.train.difficulty.places import far_from_findings, find_lung_peaks, sigmas_of
from medkd.train.difficulty.rows import MarksAt, Place, ScanRow
from medkd.train.difficulty.run import measure_part, run_difficulty
from medkd.train.difficulty.score import (
    choose_threshold,
    cross_validated_scores,
    score_judge,
)
from medkd.train.difficulty.surroundings import feature_names, read_surroundings
from medkd.train.difficulty.tables import difficulty_markdown, failed_bars
from medkd.types import Candidate, Nodule, Scan

SIGMAS = np.linspace(1.0, 9.0, 9)
SETTINGS = DifficultySettings(tuning_seed=1, test_seed=2, bootstrap=50)
AROUND = SurroundingsSettings()


def bumpy_image() -> np.ndarray:
    rough = np.random.default_rng(0).normal(size=(44, 40, 48))
    smooth = ndimage.gaussian_filter(rough, 1.5)
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def noise_scan() -> Scan:
    voxels = np.random.default_rng(1).normal(-850, 40, (60, 60, 50)).astype(np.int16)
    grid = VoxelGrid.from_parts((60, 60, 50), spacing_mm=[0.7, 0.7, 1.2], origin_mm=[0, 0, 0])
    return Scan("1.2", voxels, grid, "p")


def row_of(number: int, *, places: tuple[Place, ...] = (), marks: object = ()) -> ScanRow:
    nodule = Nodule(f"1.{number}", (0.0, 0.0, 0.0), 8.0)
    return ScanRow(
        number, f"1.{number}", "sharp", (1, 1, 1), (1.0, 1.0, 1.0), (nodule,), (), marks, places,
        {"made": 1.0}, 100,
    )  # fmt: skip


def found_by_both(overlap: float) -> tuple[set[tuple[float, ...]], set[tuple[float, ...]]]:
    """(i, j, k, sigma) of our blobs and of skimage's, those with a response above .08."""
    image = bumpy_image()
    expected = blob_log(image, 1, 9, 9, threshold=0.08, overlap=overlap)
    peaks = find_peaks(image, SIGMAS, threshold=0.05)
    found = peaks.kept(prune_peaks(peaks, SIGMAS, threshold=0.08, overlap=overlap))
    ours = {(*i, SIGMAS[s]) for i, s in zip(found.index_vox.tolist(), found.level, strict=True)}
    return ours, set(map(tuple, expected.tolist()))


def test_blobs_have_the_places_and_sigmas_of_skimage() -> None:
    ours, expected = found_by_both(overlap=1.0)
    assert ours == expected
    assert len(ours) > 100


def test_overlapping_blobs_go_as_in_skimage() -> None:
    """Alike but for chains of three, where skimage depends on the order of a Python set."""
    ours, expected = found_by_both(overlap=0.5)
    assert len(ours ^ expected) <= 0.02 * len(expected)
    assert len(expected) < len(found_by_both(overlap=1.0)[1])


def test_a_response_is_that_of_scipy() -> None:
    image = bumpy_image()
    peaks = find_peaks(image, SIGMAS, threshold=0.05)
    exact = np.stack([-(s**2) * ndimage.gaussian_laplace(image, s) for s in SIGMAS])
    assert peaks.response == pytest.approx(exact[(peaks.level, *peaks.index_vox.T)], abs=1e-6)
    assert (np.diff(peaks.response) <= 0).all()


def test_a_ball_in_the_lung_is_marked_at_its_centre_and_with_its_width() -> None:
    made = known_phantom()
    grid = VoxelGrid.from_parts((60, 60, 40), spacing_mm=[0.8, 0.8, 1.5], origin_mm=[-9, 5, 70])
    center = np.array([17.0, 30.0, 95.0])
    index = np.indices((60, 60, 40)).reshape(3, -1).T
    away = np.linalg.norm(grid.voxel_to_world(index) - center, axis=1).reshape(60, 60, 40)
    voxels = np.where(away < 6.0, 0, -850).astype(np.int16)
    ball = replace(
        made,
        scan=Scan("1", voxels, grid, "p"), lung=np.ones(voxels.shape, dtype=np.bool_),
    )  # fmt: skip
    found = find_lung_peaks(ball, BlobSettings())
    assert np.linalg.norm(found.center_mm[0] - center) < 1.0
    # A ball answers most at sigma = radius / sqrt(3) (Lindeberg 1998, section 3): 3.5 of 1 mm.
    assert sigmas_of(BlobSettings())[found.peaks.level[0]] in (3.0, 4.0)


def test_places_near_the_rim_of_a_finding_are_told_from_far_ones() -> None:
    finding = Nodule("1", (0.0, 0.0, 0.0), 10.0)
    places = np.array([[9.9, 0.0, 0.0], [10.1, 0.0, 0.0]])
    assert far_from_findings(places, (finding,), apart_mm=5.0).tolist() == [False, True]


def test_surroundings_know_nothing_of_what_is_masked_out() -> None:
    scan = noise_scan()
    center = np.array([20.0, 21.0, 30.0])
    index = np.indices(scan.grid.shape).reshape(3, -1).T
    away = np.linalg.norm(scan.grid.voxel_to_world(index) - center, axis=1)
    changed = scan.voxels_hu.copy()
    changed[(away <= 6.0).reshape(changed.shape)] = 300
    ours = read_surroundings(scan, center, radius_mm=4.0, settings=AROUND)
    other = read_surroundings(
        replace(scan, voxels_hu=changed), center, radius_mm=4.0, settings=AROUND
    )
    np.testing.assert_array_equal(ours, other)
    assert len(ours) == len(feature_names(AROUND))
    assert np.isfinite(ours).all()


def test_surroundings_read_the_noise_that_is_there() -> None:
    scan = noise_scan()
    found = dict(
        zip(
            feature_names(AROUND),
            read_surroundings(scan, np.array([20.0, 21.0, 30.0]), radius_mm=3.0, settings=AROUND),
            strict=True,
        )
    )
    # Less the mean of nine voxels, itself among them: variance 1 - 1/9.
    assert found["to 7 mm: noise sd"] == pytest.approx(40.0 * (8 / 9) ** 0.5, rel=0.06)
    assert abs(found["to 7 mm: correlation 001"]) < 0.06


@pytest.mark.slow
def test_trees_find_a_telling_feature_and_nothing_in_noise() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    groups = np.repeat([f"s{n}" for n in range(20)], 10)
    noise = rng.normal(size=(200, 5))
    telling = np.column_stack([noise, labels + rng.normal(0, 0.5, 200)])
    settings = SETTINGS.model_copy(update={"surroundings": SurroundingsSettings(repeats=1)})
    for features, low, high in ((noise, 0.35, 0.65), (telling, 0.85, 1.0)):
        scores = cross_validated_scores(features, labels, groups=groups, settings=settings)
        won = (scores[labels == 1][:, None] > scores[labels == 0]).mean()
        assert low < won < high


def test_the_threshold_with_the_best_cpm_is_chosen() -> None:
    def marks(uid: str, *, right: bool) -> tuple[Candidate, ...]:
        wrong = Candidate(uid, (50.0, 0.0, 0.0), 0.9)
        return (wrong, Candidate(uid, (1.0, 0.0, 0.0), 0.8)) if right else (wrong,)

    blobs = BlobSettings(thresholds=(0.1, 0.2))
    settings = SETTINGS.model_copy(update={"blobs": blobs})
    rows = [
        row_of(
            n,
            marks=(
                MarksAt(0.1, marks(f"1.{n}", right=False)),
                MarksAt(0.2, marks(f"1.{n}", right=True)),
            ),
        )
        for n in range(3)
    ]
    threshold, tried = choose_threshold(rows, settings)
    assert threshold == 0.2
    assert tried[0.1] == 0.0


def test_the_judge_is_scored_by_kind_against_the_best_false_marks() -> None:
    places = (
        Place((0, 0, 0), True, 5.0, 2.5, "solid", "round", "free", None, 3.0),
        Place((0, 0, 0), True, 9.0, 4.5, "ground-glass", "round", "pleura", None, 1.0),
        Place((9, 0, 0), False, None, 2.5, blob_score=0.5, judge_score=2.0),
    )
    found = score_judge([row_of(0, places=places), row_of(1)], SETTINGS)
    assert found is not None
    assert found.roc_auc == 0.5
    assert {name: auc.roc_auc for name, auc in found.by_texture.items()} == {
        "ground-glass": 0.0,
        "solid": 1.0,
    }
    assert list(found.by_diameter) == ["below 6 mm", "8 to 12 mm"]


def fake_phantom(_settings: PhantomSettings, index: int) -> PhantomScan:
    """The same chest under other names, in voxels so large that a bench takes no time."""
    made, uid = known_phantom(), f"2.25.{index}"
    voxels = np.roll(made.scan.voxels_hu, index, axis=0)[::2, ::2, ::2]
    grid = VoxelGrid.from_parts(
        voxels.shape, spacing_mm=made.scan.grid.spacing_mm * 2, origin_mm=made.scan.grid.origin_mm
    )
    return replace(
        made,
        scan=replace(made.scan, seriesuid=uid, voxels_hu=voxels, grid=grid),
        nodules=tuple(replace(nodule, seriesuid=uid) for nodule in made.nodules),
        excluded=tuple(replace(nodule, seriesuid=uid) for nodule in made.excluded),
        lung=made.lung[::2, ::2, ::2],
    )


@lru_cache(maxsize=1)
def known_phantom() -> PhantomScan:
    return make_phantom(PhantomSettings(seed=1, nodules_per_scan="4-4"), 0)


@pytest.fixture
def small_bench(monkeypatch: pytest.MonkeyPatch) -> DifficultySettings:
    monkeypatch.setattr("medkd.train.difficulty.measure.make_phantom", fake_phantom)
    return DifficultySettings(
        tuning_scans=1, tuning_seed=1, scans=2, test_seed=2, size="small", site="a", workers=1,
        bootstrap=20, nodules_per_scan="3-3",
        blobs=BlobSettings(spacing_mm=3.0, sigma_steps=3, sigmas=(1.0, 3.0), thresholds=(0.1, 0.2)),
        surroundings=SurroundingsSettings(repeats=1, folds=2, shells_mm=(9.0, 14.0)),
    )  # fmt: skip


@pytest.mark.slow
def test_a_bench_goes_on_where_it_stood_and_says_what_it_could_not_measure(
    small_bench: DifficultySettings, tmp_path: Path
) -> None:
    first = run_difficulty(small_bench, tmp_path / "b")
    (tmp_path / "b" / "scans" / "test-001.json").unlink()
    kept = (tmp_path / "b" / "scans" / "test-000.json").stat().st_mtime_ns
    again = run_difficulty(small_bench, tmp_path / "b", resume=True)
    assert replace(first, record=None, seconds_a_scan={}, peak_mib=0) == replace(
        again, record=None, seconds_a_scan={}, peak_mib=0
    )
    assert (tmp_path / "b" / "scans" / "test-000.json").stat().st_mtime_ns == kept
    assert "NOT MEASURED: the classifier of real nodules (none is named)" in first.notes
    assert "classifier of real nodules not measured" in failed_bars(first)
    assert "| not measured |" in difficulty_markdown(first)
    assert (tmp_path / "b" / "froc.png").is_file()


@pytest.mark.slow
def test_a_high_threshold_leaves_no_scan_without_false_marks(
    small_bench: DifficultySettings, tmp_path: Path
) -> None:
    rows = measure_part(small_bench, "test", folder=tmp_path, threshold=0.9)
    for row in rows:
        assert {found.threshold: len(found.marks) > 0 for found in row.marks} == {
            0.1: True,
            0.9: False,
        }
        nodules = sum(place.is_nodule for place in row.places)
        assert len(row.places) - nodules >= nodules > 0


@pytest.mark.slow
def test_a_bench_does_not_mix_scans_of_two_generators(
    small_bench: DifficultySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_difficulty(small_bench, tmp_path / "b")
    monkeypatch.setattr(bench, "generator_stamp", lambda: "medkd phantom 99 ffff")
    with pytest.raises(SettingsError) as refused:
        run_difficulty(small_bench, tmp_path / "b", resume=True)
    assert any("medkd phantom 99 ffff" in reason for reason in refused.value.reasons)


def test_tuning_and_test_scans_are_never_the_same() -> None:
    with pytest.raises(ValueError, match="no scan may serve twice"):
        DifficultySettings(tuning_seed=1, test_seed=1)
