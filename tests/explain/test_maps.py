"""Heat maps of models: hot where the nodules are, on the right grid, with Grad-CAM on the patch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medkd.data.prepared import prepare_lungs
from medkd.detect.maps import count_cells, patch_starts
from medkd.detect.search import search_margin
from medkd.detect.view import DetectSettings, build_view, check_model
from medkd.explain.maps import Explainer
from medkd.models.classifiers import Shallow2dSettings, Shallow3dSettings
from medkd.models.network import Network
from medkd.models.package import LoadedModel, ModelInfo, Preprocessing
from medkd.types import Radiograph
from tests.detect_cases import BALLS_MM, ball_model, chest_with_balls
from tests.test_detect_points import density_model


class BrightNetwork(Network):
    """Logit: the mean of one feature map, the brightness of blocks of 4 voxels or pixels."""

    def __init__(self, settings: Shallow2dSettings | Shallow3dSettings) -> None:
        super().__init__(settings, embedding_layer="none")
        pool = torch.nn.AvgPool2d if settings.spatial_dims == 2 else torch.nn.AvgPool3d
        self.features = torch.nn.Sequential(pool(4))
        self.weight = torch.nn.Parameter(torch.ones(1))

    def _logits(self, view: Tensor) -> Tensor:
        return self.weight * self.features(view).flatten(2).mean(dim=2)


def test_the_hottest_cell_of_a_detectors_map_is_in_a_ball() -> None:
    heat_map = Explainer(density_model(), "student").explain_scan(chest_with_balls())[0]
    assert (heat_map.kind, heat_map.arm) == ("probability", "student")
    cell = np.unravel_index(heat_map.values.argmax(), heat_map.values.shape)
    apart_mm = np.linalg.norm(BALLS_MM - heat_map.grid.voxel_to_world(cell), axis=1)
    assert apart_mm.min() < 5.0  # the radius of the balls


@pytest.mark.parametrize("stride", [4, None])
def test_the_cells_of_a_patch_classifiers_map_are_the_centres_of_its_patches(
    stride: int | None,
) -> None:
    model, scan = ball_model(stride=stride), chest_with_balls()
    heat_map = Explainer(model).explain_scan(scan)[0]
    steps, margin = check_model(model), search_margin(scan, model)
    prepared = prepare_lungs(scan, steps, margin_vox=margin)
    settings = DetectSettings()
    view = build_view(prepared, prepared.found_lungs(), model=model, settings=settings)
    cells = np.indices(heat_map.values.shape).reshape(3, -1).T
    patches_mm = view.centers_mm(patch_starts(count_cells(view), view))
    np.testing.assert_allclose(heat_map.grid.voxel_to_world(cells), patches_mm, atol=1e-9)
    assert heat_map.values.max() > 0


def test_the_grad_cam_of_marks_is_hot_where_the_feature_is() -> None:
    model = ball_model()
    bright = LoadedModel(BrightNetwork(Shallow3dSettings()).eval(), model.info)
    maps = Explainer(bright).explain_scan(chest_with_balls())
    assert [one.kind for one in maps] == ["probability", "grad-cam"]
    grad_cam = maps[1]
    assert grad_cam.values.max() == 255
    hot_mm = grad_cam.grid.voxel_to_world(np.argwhere(grad_cam.values > 250))
    scan = chest_with_balls()
    stored = tuple(np.rint(scan.grid.world_to_voxel(hot_mm)).astype(int).T)
    assert np.median(scan.voxels_hu[stored]) == 40  # tissue, not lung


def test_the_grad_cam_of_a_radiograph_lies_on_its_pixels() -> None:
    steps = ({"kind": "image", "source": "file", "size_px": [16, 24]},)
    info = ModelInfo(
        {"kind": "bright"}, preprocessing=Preprocessing(steps=steps), label_names=("opacity",)
    )
    pixels = np.zeros((64, 120), dtype=np.float32)
    pixels[40:56, 20:40] = 1.0  # exactly one of the 4 x 6 cells of 16 x 20 pixels: row 3, column 1
    pixels[48:64, 20:40], pixels[40:48] = 1.0, 0.0
    network = BrightNetwork(Shallow2dSettings()).eval()
    (found,) = Explainer(LoadedModel(network, info)).explain_radiograph(Radiograph("a", pixels, ""))
    assert found.values.shape == (6, 4, 1)
    hot = np.argwhere(found.values == 255)
    assert hot.tolist() == [[1, 3, 0]]
    # The middle of columns 20 to 39 is 29.5, that of rows 48 to 63 is 55.5.
    np.testing.assert_allclose(found.grid.voxel_to_world(hot[0]), [29.5, 55.5, 0.0])


def test_a_map_without_positive_evidence_is_empty() -> None:
    steps = ({"kind": "image", "source": "file", "size_px": [16, 24]},)
    info = ModelInfo({"kind": "bright"}, preprocessing=Preprocessing(steps=steps))
    network = BrightNetwork(Shallow2dSettings()).eval()
    with torch.no_grad():
        network.weight.fill_(-1.0)
    model = LoadedModel(network, replace(info, label_names=("opacity",)))
    picture = Radiograph("a", np.ones((8, 8), dtype=np.float32), "")
    assert Explainer(model).explain_radiograph(picture)[0].values.max() == 0
