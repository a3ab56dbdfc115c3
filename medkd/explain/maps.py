"""Heat maps of one model: the probability map of a scan, and Grad-CAM of a classifier."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from medkd.data.crop import crop_patch, patch_start
from medkd.data.loading import DEFAULT_WINDOW, hu_window, patch_shape
from medkd.data.prepared import PreparedScan, prepare_lungs, to_unit_range
from medkd.data.radiograph_patches import resize_radiograph
from medkd.detect.radiographs import check_image_model
from medkd.detect.search import search_margin, search_prepared
from medkd.detect.view import check_model
from medkd.errors import CheckpointError, SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.heat_maps import HeatMap, to_bytes_range
from medkd.models.grad_cam import GradCam
from medkd.models.package import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medkd.types import Candidate, Point, Radiograph, Scan

MARKS = 10
"""The highest marks of a scan of which a patch classifier has a Grad-CAM."""
CELL_MM = 2.0
"""Spacing of the grid on which the Grad-CAMs of marks are joined."""


class Explainer:
    """Computes the heat maps of one model.

    Args:
        model: a point detector, a 3-D patch classifier or a classifier of radiographs.
        arm: the arm of a run that the model is; empty for the model of a search.
    """

    def __init__(self, model: LoadedModel, arm: str = "") -> None:
        self.model = model
        self.arm = arm

    @cached_property
    def no_grad_cam(self) -> str:
        """Why the model has no Grad-CAM; empty if it has one."""
        if self.model.network.finds_points:
            return "a point detector: its probability map already shows where it finds nodules"
        try:
            _ = self._grad_cam
        except CheckpointError as error:
            return str(error)
        return ""

    @cached_property
    def _grad_cam(self) -> GradCam:
        network = self.model.network
        if network.spatial_dims == 2:
            shape: tuple[int, ...] = check_image_model(self.model)
        else:
            shape = patch_shape(check_model(self.model)) or ()
        return GradCam(network, shape)

    def explain_scan(self, scan: Scan) -> list[HeatMap]:
        """Return the probability map of a scan and, of a patch classifier, its Grad-CAM.

        Raises:
            SeriesError: if no lungs are found.
            CheckpointError: if the model cannot search scans.
        """
        steps = check_model(self.model)
        prepared = prepare_lungs(scan, steps, margin_vox=search_margin(scan, self.model))
        kept: list[HeatMap] = []
        result = search_prepared(prepared, self.model, keep_map=kept.append)
        if result.status == "not_analysed":
            raise SeriesError(f"{scan.seriesuid}: no heat map", result.reasons)
        if result.candidates and not self.no_grad_cam:
            kept.append(self._of_marks(prepared, result.candidates[:MARKS]))
        return [replace(one, arm=self.arm) for one in kept]

    def _of_marks(self, prepared: PreparedScan, marks: Sequence[Candidate]) -> HeatMap:
        """Return the Grad-CAM of the patches around marks, joined on one grid.

        The map of each mark is relative to its own highest value; where two patches overlap, the
        higher value counts.
        """
        steps = check_model(self.model)
        shape, window = patch_shape(steps) or (1, 1, 1), hu_window(steps) or DEFAULT_WINDOW
        grid = _grid_around(prepared.grid, [mark.center_mm for mark in marks], shape)
        joined = np.zeros(grid.shape, dtype=np.float32)
        for mark in marks:
            hu = crop_patch(
                prepared.voxels_hu,
                prepared.grid,
                center_mm=mark.center_mm,
                patch_shape=shape,
                pad_value=window[0],
            )
            cells = self._relative(to_unit_range(hu, window)[None], self._output(0))
            start = patch_start(prepared.grid, mark.center_mm, shape)
            _paste(joined, grid, cells, prepared.grid.cropped(start, shape))
        label = self.model.info.label_names[-1]
        return HeatMap(to_bytes_range(joined), grid, "grad-cam", label=label)

    def explain_radiograph(self, radiograph: Radiograph) -> list[HeatMap]:
        """Return the Grad-CAM of a radiograph for each label, relative to its highest value.

        Raises:
            CheckpointError: if the model cannot score radiographs, or has no Grad-CAM.
        """
        pixels = resize_radiograph(radiograph, check_image_model(self.model))
        view = torch.from_numpy(pixels).float()[None, None] / 255
        rows, columns = radiograph.pixels.shape
        found = []
        for number, label in enumerate(self.model.info.label_names):
            cells = self._relative(view, self._output(number))
            values = to_bytes_range(cells.T[:, :, None])
            step = (columns / cells.shape[1], rows / cells.shape[0], 1.0)
            # World is (column, row, 0), with the centres of pixels at whole numbers.
            pixel_grid = VoxelGrid((columns, rows, 1), np.eye(4))
            first = (np.array(step) - 1) / 2
            grid = pixel_grid.strided(first, step, (cells.shape[1], cells.shape[0], 1))
            found.append(HeatMap(values, grid, "grad-cam", arm=self.arm, label=label))
        return found

    def _relative(self, view: torch.Tensor, output: int) -> NDArray[np.float32]:
        """Return the Grad-CAM of one view, divided by its highest value."""
        device = next(self.model.network.parameters()).device
        cells = self._grad_cam.compute(view.to(device), output)[0].numpy()
        highest = float(cells.max())
        return np.asarray(cells / highest if highest > 0 else cells, dtype=np.float32)

    def _output(self, label: int) -> int:
        """Return the output of a label; of two exclusive outputs for one label, the last."""
        one_of_two = len(self.model.info.label_names) == 1 and self.model.network.label_count == 2
        return 1 if one_of_two else label


def _grid_around(grid: VoxelGrid, centers_mm: Sequence[Point], shape: Sequence[int]) -> VoxelGrid:
    """Return a grid along the axes of `grid` that covers the patches around all places."""
    centers_vox = grid.world_to_voxel(np.asarray(centers_mm))
    half = np.asarray(shape) / 2
    low, high = centers_vox.min(axis=0) - half, centers_vox.max(axis=0) + half
    step = CELL_MM / grid.spacing_mm
    i, j, k = np.ceil((high - low) / step).astype(int).tolist()
    return grid.strided(low + step / 2, step, (i, j, k))


def _paste(
    joined: NDArray[np.float32], grid: VoxelGrid, cells: NDArray[np.float32], patch: VoxelGrid
) -> None:
    """Raise `joined` to the values of one patch's cells, interpolated, inside the patch."""
    size = np.asarray(patch.shape)
    ends = grid.world_to_voxel(patch.voxel_to_world(np.stack([size * 0 - 0.5, size - 0.5])))
    low = np.clip(np.ceil(ends[0]), 0, None).astype(int)  # the axes of both grids are parallel
    box = tuple(slice(a, b) for a, b in zip(low, np.floor(ends[1]).astype(int) + 1, strict=True))
    inside = joined[box]
    points_vox = np.indices(inside.shape).reshape(3, -1).T + low
    places = (patch.world_to_voxel(grid.voxel_to_world(points_vox)) + 0.5) / size  # in 0..1
    at = places * np.asarray(cells.shape) - 0.5
    values = ndimage.map_coordinates(cells, at.T, order=1, mode="nearest")
    np.maximum(inside, values.reshape(inside.shape), out=inside)
