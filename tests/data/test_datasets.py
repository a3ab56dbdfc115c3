"""From cases to samples: CT patches equal MONAI's, with and without a cache; images in memory."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medkd.data.cache_folder import CacheFolder
from medkd.data.candidate_patches import CandidatePatches, candidate_table, thin_negatives
from medkd.data.cases import Case, CaseIndex
from medkd.data.data_sets import MedMnistData
from medkd.data.datasets import build_patches
from medkd.data.loader import TrainLoader
from medkd.data.loading import apply_loading, build_loading, parse_loading
from medkd.data.prepared import PreparedScans
from medkd.errors import SeriesError, SettingsError
from medkd.geometry import VoxelGrid
from medkd.io.volume import write_mhd
from medkd.types import LabelledCandidate, Scan
from tests.data.conftest import make_table

LOADING = parse_loading(
    [
        {"kind": "load"},
        {"kind": "orientation", "axcodes": "LPS"},
        {"kind": "spacing", "spacing_mm": [1.5, 1.5, 1.5]},
        {"kind": "crop", "patch_shape": [8, 9, 6]},
        {"kind": "intensity", "hu_window": [-1000, 400]},
    ]
)
SCANS = ("1.1", "1.2")


def write_scan(folder: Path, uid: str, seed: int) -> Path:
    """An anisotropic scan whose i and j axes point to -x and -y."""
    random = np.random.default_rng(seed)
    voxels = random.integers(-1200, 600, (24, 20, 12)).astype(np.int16)
    grid = VoxelGrid.from_parts(
        (24, 20, 12),
        spacing_mm=[1, 1.2, 2.5],
        origin_mm=[40, 30, -90],
        direction=np.diag([-1, -1, 1]),
    )
    path = folder / f"{uid}.mhd"
    write_mhd(Scan(uid, voxels, grid, patient_id=uid), path)
    return path


@pytest.fixture
def index(tmp_path: Path) -> CaseIndex:
    """Two scans with three candidates each; the last one of each reaches beyond the volume."""
    cases = tuple(
        Case(uid, f"p{n}", "scan", path=write_scan(tmp_path, uid, n), origin="subset0")
        for n, uid in enumerate(SCANS)
    )
    places = [((28.0, 18.0, -75.0), 1), ((30.3, 20.1, -80.2), 0), ((39.0, 29.5, -89.0), 0)]
    candidates = tuple(
        LabelledCandidate(uid, place, label) for place, label in places for uid in SCANS
    )
    return CaseIndex(
        "scans", cases, dict.fromkeys(SCANS, 1), ("nodule",), "f", candidates=candidates
    )


def patches(
    index: CaseIndex, cache_dir: Path | None, *, loading: Any = LOADING, **changes: object
) -> CandidatePatches:
    scans = PreparedScans(loading, cache_dir)
    options = {"scans": scans, "seed": 0} | changes
    source = build_patches(index, SCANS, **options)  # type: ignore[arg-type]
    assert isinstance(source, CandidatePatches)
    source.prepare()
    return source


def test_candidates_are_listed_with_scan_patient_place_and_label(index: CaseIndex) -> None:
    source = patches(index, None)
    assert source.sample_id == ("1.1:0", "1.2:0", "1.1:1", "1.2:1", "1.1:2", "1.2:2")
    assert source.patient_id[:2] == ("p0", "p1")
    assert source.center_mm is not None
    assert source.center_mm[0] == (28.0, 18.0, -75.0)
    assert source.label[:, 0].tolist() == [1, 1, 0, 0, 0, 0]
    assert source.image_shape == (1, 8, 9, 6)
    assert source.prior == pytest.approx((1 / 3,))


@pytest.mark.parametrize("order", [(3, 4), (4, 3)])
@pytest.mark.parametrize("engine", ["slab", "monai"])
def test_a_patch_equals_that_of_the_monai_compose(
    index: CaseIndex, tmp_path: Path, order: tuple[int, int], engine: str
) -> None:
    steps = [step.model_dump() for step in LOADING]
    steps[2]["engine"] = engine
    loading = parse_loading([*steps[:3], steps[order[0]], steps[order[1]]])
    source = patches(index, tmp_path / "cache", loading=loading)
    batch = source.__getitems__(range(6))
    compose = build_loading(loading)
    assert source.center_mm is not None
    for n in range(6):
        path = index.by_id()[source.seriesuid[n]].path
        item = apply_loading(compose, {"image": path, "center_mm": source.center_mm[n]})
        torch.testing.assert_close(batch.image[n], item["image"].as_tensor(), atol=1e-6, rtol=0)
    assert float(batch.image.min()) == 0.0
    assert float(batch.image.max()) == 1.0


def test_a_patch_is_the_same_with_and_without_cache_and_from_an_old_cache(
    index: CaseIndex, tmp_path: Path
) -> None:
    rows = [5, 0, 3]
    without = patches(index, None).__getitems__(rows).image
    fresh = patches(index, tmp_path / "cache").__getitems__(rows).image
    old = patches(index, tmp_path / "cache").__getitems__(rows).image
    assert torch.equal(without, fresh)
    assert torch.equal(without, old)


def test_the_cache_is_filled_before_the_first_batch_and_then_used(
    index: CaseIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches(index, tmp_path / "cache")
    assert len(CacheFolder(tmp_path / "cache").entries()) == 2

    def fail(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("medkd.data.prepared.apply_loading", fail)
    patches(index, tmp_path / "cache").__getitems__([0, 1])


def test_another_step_or_a_changed_file_makes_a_new_entry(index: CaseIndex, tmp_path: Path) -> None:
    patches(index, tmp_path / "cache")
    coarse = [
        s.model_dump() | ({"spacing_mm": [2, 2, 2]} if s.kind == "spacing" else {}) for s in LOADING
    ]
    patches(index, tmp_path / "cache", loading=parse_loading(coarse))
    assert len(CacheFolder(tmp_path / "cache").entries()) == 4
    write_scan(tmp_path, "1.1", seed=9)
    changed = patches(index, tmp_path / "cache")
    assert len(CacheFolder(tmp_path / "cache").entries()) == 5
    assert torch.equal(
        changed.__getitems__([0]).image, patches(index, None).__getitems__([0]).image
    )


def test_a_broken_scan_is_refused_before_training_and_leaves_no_entry(
    index: CaseIndex, tmp_path: Path
) -> None:
    (tmp_path / "1.2.raw").unlink()
    with pytest.raises(SeriesError, match=r"1\.2"):
        patches(index, tmp_path / "cache")
    assert len(CacheFolder(tmp_path / "cache").entries()) == 1


def test_a_cache_entry_names_no_patient(index: CaseIndex, tmp_path: Path) -> None:
    patches(index, tmp_path / "cache")
    entry = CacheFolder(tmp_path / "cache").entries()[0].path
    assert sorted(p.name for p in entry.iterdir()) == ["scan.json", "voxels_hu.npy"]
    assert np.load(entry / "voxels_hu.npy").dtype == np.int16
    assert "p0" not in (entry / "scan.json").read_text()


def test_worker_processes_give_the_same_patches(index: CaseIndex, tmp_path: Path) -> None:
    source = patches(index, tmp_path / "cache")
    source.__getitems__([0])
    loaders = [TrainLoader(source, batch_size=2, balanced=True, seed=0, workers=w) for w in (0, 1)]
    pairs = zip(*(loader.epoch(0) for loader in loaders), strict=True)
    assert all(torch.equal(a.image, b.image) for a, b in pairs)


def test_steps_without_a_crop_are_refused(index: CaseIndex) -> None:
    with pytest.raises(SettingsError, match="expected load, crop and intensity"):
        patches(index, None, loading=(*LOADING[:3], LOADING[4]))


def test_labels_of_hidden_cases_are_not_known_and_do_not_count_in_the_prior(
    index: CaseIndex,
) -> None:
    source = build_patches(
        index, ["1.1"], scans=PreparedScans(LOADING, None), seed=0, unlabelled=["1.2"]
    )
    known = {n: bool(k) for n, k in zip(source.seriesuid, source.label_known[:, 0], strict=True)}
    assert known == {"1.1": True, "1.2": False}
    assert source.prior == pytest.approx((1 / 3,))


def test_only_the_asked_cases_give_samples(index: CaseIndex) -> None:
    assert set(candidate_table(index, ["1.2"]).seriesuid) == {"1.2"}


def test_thinning_keeps_every_positive_and_the_true_prior(index: CaseIndex) -> None:
    source = patches(index, None, negatives_per_positive=1)
    assert source.label[:, 0].tolist() == [1, 1, 0, 0]
    assert source.prior == pytest.approx((1 / 3,))


def test_thinning_is_seeded_and_leaves_out_hidden_samples_in_proportion() -> None:
    table = make_table([1] * 10 + [0] * 190 + [1] * 100, known=[True] * 200 + [False] * 100)
    thin = thin_negatives(table, 3, seed=0)
    # 40 of 200 labelled samples stay: a fifth, so 20 of 100 hidden ones.
    assert len(thin) == 60
    assert int(thin.label_known.sum()) == 40
    assert thin.sample_id == thin_negatives(table, 3, seed=0).sample_id
    assert thin.sample_id != thin_negatives(table, 3, seed=1).sample_id


def test_nothing_is_thinned_where_there_is_no_positive() -> None:
    assert len(thin_negatives(make_table([0] * 9), 2, seed=0)) == 9


def mnist(path: Path) -> CaseIndex:
    return MedMnistData(path=str(path)).read_cases(path.parent)


def test_images_keep_their_pixels_and_labels(medmnist_file: Path) -> None:
    index = mnist(medmnist_file)
    source = build_patches(
        index, [c.case_id for c in index.cases[20:26]], scans=PreparedScans((), None), seed=0
    )
    stored = np.load(medmnist_file)
    expected = torch.from_numpy(stored["val_images"][:, None]).float() / 255
    batch = source.__getitems__(range(6))
    torch.testing.assert_close(batch.image, expected)
    assert batch.label[:, 0].tolist() == stored["val_labels"][:, 0].tolist()
    assert source.image_shape == (1, 28, 28)
    assert source.center_mm is None


def test_resized_images_equal_the_monai_compose(medmnist_file: Path) -> None:
    loading = parse_loading([{"kind": "image", "size_px": [20, 14]}])
    index = mnist(medmnist_file)
    ids = [c.case_id for c in index.cases[:3]]
    source = build_patches(index, ids, scans=PreparedScans(loading, None), seed=0)
    compose = build_loading(loading)
    for n, image in enumerate(np.load(medmnist_file)["train_images"][:3]):
        theirs = apply_loading(compose, {"image": image})["image"].as_tensor()
        torch.testing.assert_close(source[n].image[0], theirs, atol=1e-6, rtol=0)


def test_a_size_for_another_number_of_axes_is_refused(medmnist_file: Path) -> None:
    loading = parse_loading([{"kind": "image", "size_px": [20, 20, 20]}])
    index = mnist(medmnist_file)
    with pytest.raises(SettingsError, match="expected 2 sizes"):
        build_patches(index, [index.cases[0].case_id], scans=PreparedScans(loading, None), seed=0)


def test_hidden_image_labels_come_after_the_others(medmnist_file: Path) -> None:
    index = mnist(medmnist_file)
    ids = [c.case_id for c in index.cases]
    source = build_patches(
        index, ids[:2], scans=PreparedScans((), None), seed=0, unlabelled=ids[2:5]
    )
    assert source.label_known[:, 0].tolist() == [True, True, False, False, False]


def test_several_classes_become_one_output_each(medmnist_file: Path) -> None:
    arrays = dict(np.load(medmnist_file))
    for part in ("train", "val", "test"):
        arrays[f"{part}_labels"] = (np.arange(len(arrays[f"{part}_labels"])) % 4)[:, None]
    path = medmnist_file.parent / "organmnist.npz"
    np.savez(path, **arrays)
    index = mnist(path)
    ids = [c.case_id for c in index.cases[:4]]
    source = build_patches(index, ids, scans=PreparedScans((), None), seed=0)
    assert torch.equal(source.label, torch.eye(4))
    assert index.exclusive


def test_one_label_or_several_findings_are_not_exclusive(medmnist_file: Path) -> None:
    assert not mnist(medmnist_file).exclusive
    arrays = dict(np.load(medmnist_file))
    for part in ("train", "val", "test"):
        arrays[f"{part}_labels"] = np.repeat(arrays[f"{part}_labels"], 3, axis=1)
    path = medmnist_file.parent / "findings.npz"
    np.savez(path, **arrays)
    assert not mnist(path).exclusive


def test_ct_steps_for_images_are_refused(medmnist_file: Path) -> None:
    index = mnist(medmnist_file)
    with pytest.raises(SettingsError, match="images in memory"):
        build_patches(index, [index.cases[0].case_id], scans=PreparedScans(LOADING, None), seed=0)


def test_an_index_is_left_as_it_was(index: CaseIndex) -> None:
    before = dataclasses.asdict(index)
    patches(index, None, negatives_per_positive=1).__getitems__([0, 1])
    assert dataclasses.asdict(index) == before
