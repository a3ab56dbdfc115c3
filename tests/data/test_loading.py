"""The loading steps of a configuration: their order, and where a patch lands."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from medkd.data import loading
from medkd.data.crop import CropPatchd, crop_patch, patch_start
from medkd.data.loading import apply_loading, build_loading, parse_loading
from medkd.data.monai_bridge import scan_grid
from medkd.data.prepared import prepare_scan, to_unit_range
from medkd.errors import SeriesError, SettingsError
from medkd.geometry import VoxelGrid
from medkd.io.volume import read_volume, write_mhd
from medkd.types import Scan
from tests.real_data import needs_data

CT = [
    {"kind": "load"},
    {"kind": "orientation", "axcodes": "LPS"},
    {"kind": "spacing", "spacing_mm": [1.0, 1.0, 1.5]},
    {"kind": "crop", "patch_shape": [9, 13, 6]},
    {"kind": "intensity", "hu_window": [-1000, 1000]},
]
UNIT = VoxelGrid((8, 8, 8), np.eye(4))


def turned_grid(seed: int) -> VoxelGrid:
    """Oblique by up to 20 degrees, with axes flipped and exchanged by the seed."""
    rng = np.random.default_rng(seed)
    axes = np.eye(3)[rng.permutation(3)] @ np.diag(rng.choice([-1.0, 1.0], 3))
    tilt = Rotation.from_euler("xyz", rng.uniform(-20, 20, 3), degrees=True).as_matrix()
    return VoxelGrid.from_parts(
        (40, 36, 30), spacing_mm=[0.8, 0.7, 1.6], origin_mm=[-30, 12, 200], direction=tilt @ axes
    )


def write_bright(path: Path, grid: VoxelGrid, place_vox: tuple) -> None:
    """A scan of air with a bright block of 3 voxels an axis about one place."""
    hu = np.full(grid.shape, -1000, np.int16)
    hu[tuple(slice(n - 1, n + 2) for n in place_vox)] = 1000
    write_mhd(Scan("1", hu, grid, patient_id="p"), path)


@pytest.mark.parametrize("engine", ["slab", "monai"])
@pytest.mark.parametrize("seed", range(6))
def test_a_patch_at_a_place_in_the_world_shows_it(tmp_path: Path, engine: str, seed: int) -> None:
    grid, place_vox = turned_grid(seed), (25, 9, 20)
    write_bright(tmp_path / "a.mhd", grid, place_vox)
    center_mm = grid.voxel_to_world(place_vox)
    steps = parse_loading([{**step, "engine": engine} if "spacing" in step["kind"] else step
                           for step in CT])  # fmt: skip
    patch = apply_loading(
        build_loading(steps), {"image": tmp_path / "a.mhd", "center_mm": center_mm}
    )["image"]
    assert patch.shape == (1, 9, 13, 6)
    weights = patch.numpy()[0]
    mass_vox = np.array([(weights * axis).sum() for axis in np.indices(weights.shape)])
    error_mm = scan_grid(patch).voxel_to_world(mass_vox / weights.sum()) - center_mm
    assert np.linalg.norm(error_mm) < 0.4
    assert np.abs(mass_vox / weights.sum() - (np.array([9, 13, 6]) - 1) / 2).max() <= 0.75


@pytest.mark.parametrize(
    ("length", "place", "first"),
    [(3, 4.0, 3), (3, 4.4, 3), (3, 4.6, 4), (4, 4.0, 3), (4, 4.4, 3), (4, 3.9, 2)],
)
def test_a_patch_is_the_box_whose_middle_is_nearest(length: int, place: float, first: int) -> None:
    # Middle of 3 voxels from 3: index 4. Of 4 voxels from 3: 4.5, from 2: 3.5 (a tie goes up).
    assert patch_start(UNIT, [place] * 3, (length,) * 3) == (first,) * 3


def test_float_noise_does_not_decide_a_tie() -> None:
    for noise in (-1e-12, 0.0, 1e-12):
        assert patch_start(UNIT, [4.0 + noise] * 3, (4, 4, 4)) == (3, 3, 3)


def test_outside_the_volume_stands_the_low_end_of_the_window() -> None:
    volume = torch.full((1, 8, 8, 8), 50, dtype=torch.int16)
    patch = crop_patch(volume, UNIT, center_mm=[0, 4, 4], patch_shape=(3, 3, 3), pad_value=-1000)
    assert (patch[0, 0] == -1000).all()
    assert (patch[0, 1:] == 50).all()


def test_a_patch_wholly_outside_is_refused() -> None:
    with pytest.raises(SeriesError, match="outside the volume"):
        crop_patch(
            torch.zeros(1, 8, 8, 8), UNIT, center_mm=[0, 0, 99], patch_shape=(3, 3, 3), pad_value=0
        )


@pytest.mark.parametrize("first", ["crop", "intensity"])
def test_padding_is_zero_in_the_view_in_either_order(tmp_path: Path, first: str) -> None:
    write_mhd(Scan("1", np.full((8, 8, 8), 0, np.int16), UNIT, patient_id="p"), tmp_path / "a.mhd")
    last = [step for step in CT if step["kind"] in ("crop", "intensity")]
    steps = parse_loading([CT[0], *sorted(last, key=lambda step: step["kind"] != first)])
    item = {"image": tmp_path / "a.mhd", "center_mm": [0, 0, 0]}
    view = apply_loading(build_loading(steps), item)["image"]
    assert view.dtype == torch.float32
    assert sorted(set(view.unique().tolist())) == [0.0, 0.5]  # padding; 0 HU in -1000..1000


def test_what_the_steps_say_can_be_asked() -> None:
    steps = parse_loading(CT)
    assert loading.hu_window(steps) == (-1000, 1000)
    assert loading.patch_shape(steps) == (9, 13, 6)
    assert loading.spacing_mm(steps) == (1.0, 1.0, 1.5)
    assert loading.pad_value(steps) == -1000
    assert [s.kind for s in loading.scan_steps(steps)] == ["load", "orientation", "spacing"]
    images = parse_loading([{"kind": "image"}])
    assert (loading.hu_window(images), loading.patch_shape(images)) == (None, None)
    assert (loading.spacing_mm(images), loading.pad_value(images)) == (None, 0.0)


def test_scan_and_patch_parts_together_equal_the_whole(tmp_path: Path) -> None:
    grid = turned_grid(1)
    write_bright(tmp_path / "a.mhd", grid, (25, 9, 20))
    steps = parse_loading(CT)
    item = {"image": tmp_path / "a.mhd", "center_mm": grid.voxel_to_world([25, 9, 20])}
    whole = apply_loading(build_loading(steps), item)["image"]
    scan = apply_loading(build_loading(loading.scan_steps(steps)), item)
    rest = steps[len(loading.scan_steps(steps)) :]
    part = build_loading(rest, pad=loading.pad_value(steps))
    assert torch.equal(apply_loading(part, scan)["image"], whole)


def test_a_scan_in_memory_takes_the_same_steps(tmp_path: Path) -> None:
    write_bright(tmp_path / "a.mhd", turned_grid(2), (25, 9, 20))
    steps = parse_loading(CT)
    prepared = prepare_scan(read_volume(tmp_path / "a.mhd"), steps)
    view = to_unit_range(prepared.voxels_hu, loading.hu_window(steps))
    whole = parse_loading([step for step in CT if step["kind"] != "crop"])
    loaded = apply_loading(build_loading(whole), {"image": tmp_path / "a.mhd"})["image"]
    torch.testing.assert_close(view, loaded.as_tensor(), atol=1e-6, rtol=0)
    assert (view.min(), view.max()) == (0.0, 1.0)
    wanted = scan_grid(loaded).affine_lps_mm
    np.testing.assert_allclose(prepared.grid.affine_lps_mm, wanted)


def test_steps_survive_json() -> None:
    steps = parse_loading(CT)
    plain = json.loads(json.dumps(loading.loading_as_dicts(steps)))
    assert parse_loading(plain) == steps


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["orientation", "load", "intensity"], ["load (CT) or image", "expected the order"]),
        (["load", "spacing", "spacing"], ["spacing: expected at most once", "an intensity step"]),
        (["load", "crop", "spacing", "intensity"], ["expected the order"]),
        (["image", "intensity"], ["image: expected as the only step"]),
        ([], ["load (CT) or image", "an intensity step"]),
    ],
)
def test_a_senseless_order_is_refused_with_all_reasons(kinds: list, words: list) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_loading([{"kind": kind} for kind in kinds])
    for word in words:
        assert word in refusal.value.reasons[0]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"kind": "orientation", "axcodes": "LPL"}, "one letter of each pair"),
        ({"kind": "intensity", "hu_window": [400, -1000]}, "low < high"),
        ({"kind": "spacing", "spacing_mm": [1, 0, 1]}, "greater than 0"),
        ({"kind": "spacing", "pixdim": 1}, "Extra inputs"),
        ({"kind": "crop", "patch_shape": [32, 32]}, "Field required"),
        ({"kind": "magic"}, "magic"),
    ],
)
def test_a_senseless_step_is_refused(step: dict, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_loading([{"kind": "load"}, step, {"kind": "intensity"}])


def test_every_key_of_every_step_is_explained() -> None:
    for step in (loading.OrientationStep, loading.SpacingStep, loading.IntensityStep,
                 loading.CropStep, loading.ImageStep):  # fmt: skip
        for name, field in step.model_fields.items():
            assert field.description or name == "kind", f"{step.__name__}.{name}"


def test_a_refusal_comes_out_as_itself(tmp_path: Path) -> None:
    steps = parse_loading(CT)
    with pytest.raises(SeriesError, match="no such file"):
        apply_loading(build_loading(steps), {"image": tmp_path / "a.mhd", "center_mm": [0, 0, 0]})


def test_another_error_names_the_transform_and_its_cause() -> None:
    transform = build_loading(parse_loading(CT)[3:4], pad=0.0)
    with pytest.raises(RuntimeError, match=r"CropPatchd.*: AttributeError: .* 'meta'"):
        apply_loading(transform, {"image": torch.zeros(1, 2, 2, 2), "center_mm": [0, 0, 0]})


def test_images_in_memory_and_in_files_give_the_same_view(tmp_path: Path) -> None:
    pixels = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    views = [
        apply_loading(build_loading(parse_loading([{"kind": "image", "source": source}])), item)
        for source, item in (("memory", {"image": pixels}), ("file", {"image": tmp_path / "a.png"}))
    ]
    assert views[0]["image"].shape == (1, 12, 20)
    np.testing.assert_allclose(views[0]["image"], pixels[None] / 255, atol=1e-6)
    np.testing.assert_allclose(views[0]["image"], views[1]["image"], atol=1e-6)


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 28)])
def test_images_and_cubes_can_be_resized(shape: tuple) -> None:
    steps = parse_loading([{"kind": "image", "size_px": [14] * len(shape)}])
    view = apply_loading(build_loading(steps), {"image": np.full(shape, 51, np.uint8)})["image"]
    assert view.shape == (1, *(14 for _ in shape))
    np.testing.assert_allclose(view, 0.2, atol=1e-6)


def test_building_says_nothing_of_monais_other_readers(caplog) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_loading(parse_loading(CT))
    assert "nvImageCodec" not in caplog.text


@needs_data
def test_a_real_nodule_fills_the_middle_of_its_patch() -> None:
    root = Path(os.environ["MEDKD_DATA"])
    folder = next((root / "lidc" / "series_excerpts" / "LIDC-IDRI-0003").glob("*/*"))
    table = pd.read_csv(root / "luna16" / "annotations.csv")
    row = table[(table.seriesuid == folder.name) & table.diameter_mm.between(21, 22)].iloc[0]
    item = {"image": folder, "center_mm": [row.coordX, row.coordY, row.coordZ]}
    patch = apply_loading(build_loading(parse_loading(CT)), item)["image"].numpy()[0]
    # 9 x 13 x 6 voxels of 1 x 1 x 1.5 mm lie inside a nodule of 21 mm: soft tissue throughout.
    assert patch[2:7, 3:10, 1:5].min() * 2000 - 1000 > -300


def test_the_crop_is_a_transform_of_monai() -> None:
    from monai.transforms import MapTransform

    assert isinstance(CropPatchd("image", (3, 3, 3), pad_value=0.0), MapTransform)
