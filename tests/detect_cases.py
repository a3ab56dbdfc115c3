"""A scan with balls at known places, and networks whose logit is known by hand."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import Tensor, nn

from medkd.geometry import VoxelGrid
from medkd.models.classifiers import Shallow3dSettings
from medkd.models.detector import DetectorSettings
from medkd.models.network import Network
from medkd.models.package import LoadedModel, ModelInfo, Preprocessing, load_model, save_model
from medkd.models.table import build_model
from medkd.types import Scan
from tests.spheres import sphere_mask

PATCH = (12, 14, 10)
SPACING_MM = (2.0, 2.0, 2.0)
BALLS_MM = ((-60.0, -95.0, 410.0), (55.0, -120.0, 450.0), (-50.0, -130.0, 455.0))
"""LPS mm of three balls of 10 mm in the lungs of `chest_with_balls`."""


def chest_with_balls(*, balls: bool = True) -> Scan:
    """A block of tissue with two lungs of -850 HU; i runs to the right, k to the feet."""
    direction = np.diag([-1.0, 1.0, -1.0])
    grid = VoxelGrid.from_parts(
        (100, 70, 60), spacing_mm=(2.4, 2.1, 3.0), origin_mm=(119.0, -180.0, 520.0),
        direction=direction,
    )  # fmt: skip
    voxels = np.full(grid.shape, -1000, dtype=np.int16)
    voxels[5:-5, 5:-5] = 40
    for x in (-55.0, 55.0):
        voxels[sphere_mask(grid, (x, -112.0, 432.0), 88.0)] = -850
    if balls:
        for place in BALLS_MM:
            voxels[sphere_mask(grid, place, 10.0)] = 40
    return Scan("2.25.7", voxels, grid, "p")


class BallNetwork(Network):
    """Logit: density in a ball of 5 voxels diameter less that in the shell around it.

    The dense run is the same convolution with a stride, so it is exact.
    """

    def __init__(self, *, stride: int | None) -> None:
        dense = None if stride is None else (stride,) * 3
        super().__init__(Shallow3dSettings(), embedding_layer="none", dense_stride=dense)
        axes = [np.arange(n) - (n - 1) / 2 for n in PATCH]
        apart = np.sqrt(sum(line**2 for line in np.meshgrid(*axes, indexing="ij")))
        kernel = (apart < 2.5) / (apart < 2.5).sum()
        shell = (apart > 3.2) & (apart < 4.6)
        kernel = 20 * (kernel - shell / shell.sum())
        self.kernel = nn.Parameter(torch.tensor(kernel, dtype=torch.float32)[None, None])

    def _logits(self, view: Tensor) -> Tensor:
        return F.conv3d(view, self.kernel)[:, :, 0, 0, 0] - 8.0

    def forward_dense(self, view: Tensor, *, patch_shape: tuple[int, ...]) -> Tensor:
        assert tuple(patch_shape) == PATCH
        return F.conv3d(view, self.kernel, stride=self.dense_stride) - 8.0


def ball_model(*, stride: int | None = 4, **info: object) -> LoadedModel:
    """A model of it that resamples to 2 mm."""
    steps = (
        {"kind": "load"},
        {"kind": "spacing", "spacing_mm": list(SPACING_MM)},
        {"kind": "crop", "patch_shape": list(PATCH)},
        {"kind": "intensity", "hu_window": [-1000.0, 400.0]},
    )
    facts = ModelInfo(
        settings={"kind": "ball"},
        preprocessing=Preprocessing(steps=steps, hu_window=(-1000.0, 400.0), patch_shape=PATCH),
        **info,
    )
    return LoadedModel(BallNetwork(stride=stride).eval(), facts)


DETECTOR_STEPS = (
    {"kind": "load"},
    {"kind": "orientation"},
    {"kind": "spacing", "spacing_mm": [3.0, 3.0, 3.0]},
    {"kind": "intensity", "hu_window": [-1000.0, 400.0]},
)


def write_detector(folder: Path, **info: object) -> LoadedModel:
    """Write and load the directory of a small point detector with random weights."""
    settings = DetectorSettings(channels=(4, 6, 8), blocks=(1, 1))
    facts = ModelInfo(
        settings=settings.model_dump(mode="json"),
        preprocessing=Preprocessing(steps=DETECTOR_STEPS, hu_window=(-1000.0, 400.0)),
        **info,
    )
    save_model(folder, build_model(settings, seed=0), facts)
    return load_model(folder)
