"""Whole-scan search with a point detector: peaks, tiles, positions in LPS mm, refusals."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor, nn

from medkd.detect import DetectSettings, detect_nodules
from medkd.detect.points import find_peaks, run_detector, run_flipped
from medkd.detect.search import build_marks
from medkd.detect.view import Places
from medkd.errors import CheckpointError
from medkd.geometry import VoxelGrid
from medkd.io.axial import to_axial
from medkd.io.dicom.write import write_dicom_series
from medkd.io.scans import read_scan
from medkd.models.detector import DetectorSettings, PointDetector
from medkd.models.network import Network, seeded
from medkd.models.package import LoadedModel, ModelInfo, Preprocessing
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Scan
from tests.detect_cases import BALLS_MM, chest_with_balls, write_detector

STEPS = (
    {"kind": "load"},
    {"kind": "orientation"},
    {"kind": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
    {"kind": "intensity", "hu_window": [-1000.0, 400.0]},
)


class DensityDetector(Network):
    """Logit: density around the cell less the highest density 4 cells away; diameter e^2 mm."""

    def __init__(self) -> None:
        super().__init__(DetectorSettings(), embedding_layer="none")
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, view: Tensor) -> Tensor:
        cells = F.avg_pool3d(view, 2)
        near = F.avg_pool3d(cells, 3, stride=1, padding=1) + cells
        sides = [near.roll(step, axis) for axis in (2, 3, 4) for step in (-4, 4)]
        logit = self.scale / 2 * (near - torch.stack(sides).amax(dim=0)) - 2.0
        rest = torch.zeros(1, 3, *logit.shape[2:])
        return torch.cat([logit, rest, torch.full_like(logit, 2.0)], dim=1)


def density_model(steps: tuple[dict[str, object], ...] = STEPS) -> LoadedModel:
    info = ModelInfo(settings={"kind": "density"}, preprocessing=Preprocessing(steps=steps))
    return LoadedModel(DensityDetector().eval(), info)


def empty_map(cells: int = 12) -> Tensor:
    found = torch.zeros(5, cells, cells, cells)
    found[0] = -20.0
    found[4] = math.log(6.0)
    return found


def test_a_peak_has_the_weighted_place_and_size_of_its_neighbours() -> None:
    found = empty_map()
    found[0, 4, 5, 6], found[0, 5, 5, 6] = 0.0, -math.log(3)  # probabilities 1/2 and 1/4
    found[1:4, 4, 5, 6] = torch.tensor([0.3, 0.0, -0.2])
    found[4, 5, 5, 6] = math.log(12.0)
    peaks = find_peaks(found)
    # weights 2/3 and 1/3: cell 4.2 and 5 -> 4.533 along i; 5 along j; 5.867 along k
    expected = 2 * np.array([(2 * 4.3 + 5.0) / 3, 5.0, 6 - 0.2 * 2 / 3]) + 0.5
    np.testing.assert_allclose(peaks.center_vox, [expected], atol=1e-3)
    assert peaks.diameter_mm[0] == pytest.approx(6.0 * 2 ** (1 / 3), rel=1e-4)
    assert peaks.logit[0] == 0.0


def test_of_two_close_places_the_lower_goes_and_the_cap_keeps_the_best() -> None:
    centers_mm = np.array([[4.0, 4, 4], [8, 4, 4], [20, 20, 20], [32, 8, 8]])
    places = Places(centers_mm, np.array([0.7, 0.6, 0.9, 0.5]), np.array([5.0, 6, 7, 8]))
    marks = build_marks("2.25.7", places, DetectSettings(apart_mm=5.0))  # two are 4 mm apart
    assert [(mark.score, mark.diameter_mm) for mark in marks] == [(0.9, 7), (0.7, 5), (0.5, 8)]
    two = build_marks("2.25.7", places, DetectSettings(apart_mm=5.0, marks=2))
    assert [mark.score for mark in two] == [0.9, 0.7]


def test_a_map_without_a_peak_has_no_mark() -> None:
    assert len(find_peaks(empty_map()).logit) == 0


@pytest.mark.parametrize("blocks", [(2, 1), (3, 2)])
def test_tiles_give_the_map_of_the_whole(blocks: tuple[int, int]) -> None:
    with seeded(3):
        network = PointDetector(DetectorSettings(channels=(4, 6, 8), blocks=blocks)).eval()
    image = torch.rand(1, 1, 18, 16, 301, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        whole = run_detector(network, image, tile_voxels=10**9)
        tiles = run_detector(network, image, tile_voxels=24 * 16 * 72)
    assert whole.shape == (5, 9, 8, 151)
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-4)


def test_balls_are_found_with_their_places_in_the_lungs_alone() -> None:
    result = detect_nodules(chest_with_balls(), density_model())
    best = np.array([mark.center_mm for mark in result.candidates[:3]])
    apart = np.linalg.norm(best[:, None] - np.array(BALLS_MM), axis=2)
    assert apart.min(axis=0).max() < 4.0  # one cell: this detector gives no offsets
    assert result.candidates[0].diameter_mm == pytest.approx(7.39, abs=0.01)
    assert result.status == "analysed"
    assert len(result.places) == len(result.candidates)


def turned(scan: Scan) -> Scan:
    """The same scan, stored with other axes: k, i and a reversed j."""
    order, affine = [2, 0, 1], scan.grid.affine_lps_mm
    voxels = np.ascontiguousarray(scan.voxels_hu.transpose(order)[:, :, ::-1])
    turned_affine = affine[:, [*order, 3]].copy()
    turned_affine[:3, 3] += turned_affine[:3, 2] * (voxels.shape[2] - 1)
    turned_affine[:3, 2] *= -1
    i, j, k = voxels.shape
    return dataclasses.replace(scan, voxels_hu=voxels, grid=VoxelGrid((i, j, k), turned_affine))


def test_permuted_and_flipped_storage_gives_the_same_marks() -> None:
    scan = chest_with_balls()
    straight, other = (detect_nodules(s, density_model()) for s in (scan, turned(scan)))
    assert len(straight.candidates) >= 3
    for mark, same in zip(straight.candidates[:3], other.candidates[:3], strict=True):
        assert np.linalg.norm(np.subtract(mark.center_mm, same.center_mm)) < 0.5
        assert mark.score == pytest.approx(same.score, abs=1e-3)


@pytest.mark.parametrize("order", ["reversed", "turned"])
def test_a_dicom_series_in_any_order_gives_the_same_marks(tmp_path: Path, order: str) -> None:
    """Files in reverse, or slices that are turned by 180 degrees within their plane."""
    scan = to_axial(make_phantom(PhantomSettings(site="b"), 0).scan)
    write_dicom_series(scan, tmp_path / "one", patient_name="A^B", patient_id="1")
    other = scan
    if order == "turned":
        voxels = np.ascontiguousarray(scan.voxels_hu[::-1, ::-1])
        grid = scan.grid.reordered((0, 1, 2), (True, True, False))
        other = dataclasses.replace(scan, voxels_hu=voxels, grid=grid)
    files = write_dicom_series(other, tmp_path / "two", patient_name="A^B", patient_id="1")
    for number, file in enumerate(reversed(files)):
        file.rename(tmp_path / "two" / f"x{number:04d}")
    model = write_detector(tmp_path / "model")
    first, second = (detect_nodules(read_scan(tmp_path / name), model) for name in ("one", "two"))
    assert len(first.candidates) > 20
    for mark, same in zip(first.candidates[:20], second.candidates[:20], strict=True):
        assert np.linalg.norm(np.subtract(mark.center_mm, same.center_mm)) < 0.5
        assert mark.score == pytest.approx(same.score, abs=1e-3)


def test_a_detector_that_was_trained_on_patches_of_one_size_is_refused() -> None:
    steps = (*STEPS[:3], {"kind": "crop", "patch_shape": [16, 16, 16]}, STEPS[3])
    with pytest.raises(CheckpointError, match="cannot search") as refused:
        detect_nodules(chest_with_balls(), density_model(steps))
    assert refused.value.reasons == ("a point detector needs a spacing step and no crop step",)


@pytest.mark.parametrize("flips", [2, 4, 8])
def test_mirrored_copies_give_the_mean_of_their_maps_in_place(flips: int) -> None:
    network = PointDetector(DetectorSettings(channels=(4, 6, 8), blocks=(1, 1))).eval()
    image = torch.rand(1, 1, 24, 32, 40)
    found = run_flipped(network, image, tile_voxels=10**9, flips=flips)
    expected = torch.zeros(5, 12, 16, 20)
    for number in range(flips):
        signs = [-1 if number >> axis & 1 else 1 for axis in range(3)]
        axes = [axis for axis, sign in enumerate(signs) if sign < 0]
        with torch.no_grad():
            one = network(image.flip([axis + 2 for axis in axes]))[0].flip([a + 1 for a in axes])
        one[1:4] *= torch.tensor(signs)[:, None, None, None]
        expected += one / flips
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_mirrored_copies_of_a_scan_find_the_same_balls() -> None:
    """Sizes that are no multiples of 8 do not move the places."""
    plain = detect_nodules(chest_with_balls(), density_model())
    mean = detect_nodules(chest_with_balls(), density_model(), DetectSettings(flips=8))
    for one, other in zip(plain.candidates[:3], mean.candidates[:3], strict=True):
        np.testing.assert_allclose(one.center_mm, other.center_mm, atol=0.5)
        assert one.score == pytest.approx(other.score, abs=0.02)
