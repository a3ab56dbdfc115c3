"""Search a scan with a point detector: one run over the lungs, then peaks of its map.

The lungs are searched in one piece, or in tiles along k if they are larger than
`DetectSettings.tile_voxels`. Tiles overlap by the receptive field of the network, so the map is
the same as without tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from numpy.typing import NDArray
from torch import Tensor

from medkd.data.loading import DEFAULT_WINDOW, hu_window
from medkd.data.prepared import PreparedScan, to_unit_range
from medkd.detect.fast import fast_copy
from medkd.detect.heat import KeepMap, probability_map
from medkd.detect.view import DetectSettings, Places, check_model
from medkd.lungs import LungField
from medkd.models.detector import ALIGNMENT, STRIDE
from medkd.models.network import Network
from medkd.models.package import LoadedModel, calibrated_probability

_LEAST_LOGIT = -9.0
"""Peaks with a lower logit are dropped."""
_MOST_PEAKS = 20_000
"""Only so many of the highest peaks are read; a trained network has far fewer."""
MARGIN_VOX = 8
"""Voxels around the box of the lungs that are searched too, for context."""


class Peaks(NamedTuple):
    """Peaks of one map, highest logit first.

    `center_vox` are [N, 3] voxels of the view, `diameter_mm` and `logit` are [N].
    """

    center_vox: NDArray[np.float64]
    diameter_mm: NDArray[np.float64]
    logit: NDArray[np.float64]


def search_points(
    prepared: PreparedScan,
    lungs: LungField,
    *,
    model: LoadedModel,
    settings: DetectSettings,
    keep_map: KeepMap | None = None,
) -> Places:
    """Return the places in the lungs that a point detector finds.

    Args:
        prepared: the scan, prepared by the loading steps of the model.
        lungs: the lungs of the scan.
        model: a model whose network `finds_points`; it runs on the device of the network.
        settings: the limits.
        keep_map: called with the map of the calibrated probability.
    """
    low = [max(part.start - MARGIN_VOX, 0) for part in lungs.box]
    i, j, k = (
        slice(first, part.stop + MARGIN_VOX) for first, part in zip(low, lungs.box, strict=True)
    )
    window = hu_window(check_model(model)) or DEFAULT_WINDOW
    network = fast_copy(model.network, settings.precision)
    dtype = next(network.parameters()).dtype
    found = run_flipped(  # the image has no name here, so that the padded copy can replace it
        network,
        to_unit_range(prepared.voxels_hu[:, i, j, k], window)[None].to(dtype),
        tile_voxels=settings.tile_voxels,
        flips=settings.flips,
    )
    if keep_map is not None:
        first = np.add(low, (STRIDE - 1) / 2)
        keep_map(probability_map(found[0], model.info, prepared.grid, first=first, step=STRIDE))
    peaks = find_peaks(found)
    centers_mm = prepared.grid.voxel_to_world(peaks.center_vox + low)
    inside = lungs.contains(centers_mm)
    probability = calibrated_probability(torch.from_numpy(peaks.logit)[:, None], model.info)
    return Places(centers_mm[inside], probability[:, 0].numpy()[inside], peaks.diameter_mm[inside])


def run_flipped(network: Network, image: Tensor, *, tile_voxels: int, flips: int = 1) -> Tensor:
    """Return the mean map of mirrored copies of an image; arguments and map as in `run_detector`.

    Args:
        network: see `run_detector`.
        image: see `run_detector`.
        tile_voxels: see `run_detector`.
        flips: 1: the image itself; 2, 4, 8: also its mirror images along i, along i and j, along
            all axes.
    """
    if flips == 1:
        return run_detector(network, image, tile_voxels=tile_voxels)
    i, j, k = (-(-size // STRIDE) for size in image.shape[2:])
    image = _aligned(image)  # otherwise the cells of a mirror image lie elsewhere
    total = torch.zeros(())
    for number in range(flips):
        axes = [axis for axis in range(3) if number >> axis & 1]
        mirrored = image.flip([axis + 2 for axis in axes])
        found = run_detector(network, mirrored, tile_voxels=tile_voxels)
        found = found.flip([axis + 1 for axis in axes])
        for axis in axes:
            found[1 + axis] = -found[1 + axis]
        total = total + found / flips
    return total[:, :i, :j, :k]


def run_detector(network: Network, image: Tensor, *, tile_voxels: int) -> Tensor:
    """Return the map [5, I/2, J/2, K/2] of an image on the CPU.

    Args:
        network: a network that `finds_points`, in eval mode.
        image: [1, C, I, J, K] in 0..1 of any size; it is filled up with zeros (air). Its dtype is
            that of the first layer of the network.
        tile_voxels: most voxels per forward pass in float32, without the overlap of tiles; twice
            as many in a type of half the size.
    """
    i, j, k = (-(-size // STRIDE) for size in image.shape[2:])
    image = _aligned(image)
    device = next(network.parameters()).device
    length, halo = image.shape[4], network.context_voxels
    most = tile_voxels * 4 // image.element_size()
    step = most // (image.shape[2] * image.shape[3]) // ALIGNMENT * ALIGNMENT
    step = max(step, ALIGNMENT)
    parts = []
    for first in range(0, length, step):
        begin, last = max(first - halo, 0), min(first + step, length)
        tile = image[..., begin : min(last + halo, length)].to(device)
        found = network(tile)[0].float().cpu()
        parts.append(found[..., (first - begin) // STRIDE : (last - begin) // STRIDE])
    return torch.cat(parts, dim=3)[:, :i, :j, :k]


def _aligned(image: Tensor) -> Tensor:
    """Fill an image [1, C, I, J, K] up with zeros to multiples of `ALIGNMENT`."""
    missing = [-size % ALIGNMENT for size in image.shape[2:]]
    return F.pad(image, [n for size in reversed(missing) for n in (0, size)])


def find_peaks(found: Tensor) -> Peaks:
    """Read the peaks from the map of one view.

    A peak is a cell with the highest logit among its 27 neighbours. Its centre and its diameter
    are means over these neighbours, weighted by their probability.

    Args:
        found: [5, I, J, K] map of the detector.
    """
    logits = found[0]
    cells = torch.nonzero((logits == _highest_nearby(logits)) & (logits >= _LEAST_LOGIT))
    values = logits[tuple(cells.T)]
    order = values.argsort(descending=True, stable=True)[:_MOST_PEAKS]
    center, diameter_mm = _refine(found, cells[order])
    return Peaks(STRIDE * center + (STRIDE - 1) / 2, diameter_mm, values[order].double().numpy())


def _highest_nearby(logits: Tensor) -> Tensor:
    """Return for each cell [I, J, K] the highest logit among its 27 neighbours, itself included.

    One axis after another: several times faster than max_pool3d on a processor.
    """
    highest = logits
    for axis in range(3):
        before, after = highest[_all_but(-1, axis)], highest[_all_but(0, axis)]
        highest = highest.clone()
        lower, upper = highest[_all_but(-1, axis)], highest[_all_but(0, axis)]
        torch.maximum(lower, after, out=lower)
        torch.maximum(upper, before, out=upper)
    return highest


def _all_but(end: int, axis: int) -> tuple[slice, ...]:
    """Return an index of all but the first (0) or the last (-1) plane along an axis."""
    part = slice(1, None) if end == 0 else slice(None, -1)
    return tuple(part if n == axis else slice(None) for n in range(3))


def _refine(found: Tensor, cells: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centres [N, 3] in cells and diameters [N] in mm as weighted means of neighbours."""
    steps = torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * 3)
    most = torch.tensor(found.shape[1:]) - 1
    around = cells[:, None] + steps
    inside = ((around >= 0) & (around <= most)).all(dim=2)
    at = torch.minimum(around.clamp(min=0), most)
    values = found[:, at[..., 0], at[..., 1], at[..., 2]].double()
    weight = values[0].sigmoid() * inside
    weight = weight / weight.sum(dim=1, keepdim=True)
    center = (weight[..., None] * (at + values[1:4].movedim(0, -1))).sum(dim=1)
    diameter = (weight * values[4]).sum(dim=1).exp()
    return center.numpy(), diameter.numpy()
