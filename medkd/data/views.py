"""Apply drawn views to a whole batch at once.

The pixels of a sample's view depend on its image and its parameters alone: on a CPU they are the
same bit for bit whatever other samples are in the batch and wherever it is in it; another device
gives the same view within rounding. `augment.py` draws the parameters; applying them needs no
randomness, runs on the device of the image, and costs one `grid_sample` a batch.

To keep that, elementwise work uses only sums, products and limits. torch's vectorised powers differ
in the last bit between the body and the tail of a tensor, and its sines and fused products may.

Convention: images are [B, C, I, J] or [B, C, I, J, K] float32 in 0..1. Geometry is in voxels from
the centre of the image and follows MONAI's `Affine`: the matrix maps a place in the view to the
place in the image from which it is read (first scale, then shift, then rotation). Flips are exact,
without interpolation. Rotation keeps shapes only if the spacing is isotropic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own customary name
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Padding = Literal["border", "zeros", "reflection"]

NOISE_LENGTH = 1 << 20
"""Length of the noise table; the noise of a sample begins at one of its numbers."""

_NOISE_SEED = 20_160_705
_CACHED_VOXELS = 1 << 17
_TALLEST_PX = 1 << 13  # beyond it float32 places a row of a tall image too coarsely


@dataclass(frozen=True, slots=True, eq=False)
class ViewParameters:
    """The randomly drawn parameters of a batch of views: CPU tensors with one row per sample.

    Args:
        flip: [B, n] bool along i, j (and k).
        angle_radians: [B, 1] in the plane (n = 2) or [B, 3] about i, j, k (n = 3).
        shift_vox: [B, n] voxels by which the places that are read are shifted.
        scale: [B] image voxels per voxel of the view (above 1 makes the content smaller).
        gamma: [B] exponent on the intensity.
        gain: [B] factor on the intensity.
        offset: [B] added to the intensity.
        noise_sd: [B] standard deviation of the noise.
        noise_start: [B] int64, index in the noise table at which the sample's noise begins.
        padding: what is read outside the image.
    """

    flip: Tensor
    angle_radians: Tensor
    shift_vox: Tensor
    scale: Tensor
    gamma: Tensor
    gain: Tensor
    offset: Tensor
    noise_sd: Tensor
    noise_start: Tensor
    padding: Padding = "border"

    def __len__(self) -> int:
        return len(self.scale)

    @property
    def spatial_dims(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return int(self.flip.shape[1])


def apply_view(image: Tensor, parameters: ViewParameters) -> Tensor:
    """Apply drawn parameters to a whole batch; the input is not changed.

    A sample that is not moved is not interpolated, so a view in which nothing changes is its
    sample bit for bit. The result is limited to 0..1.

    Args:
        image: [B, C, I, J] or [B, C, I, J, K] float32 in 0..1, on any device.
        parameters: of B samples, with the same number of axes.

    Returns:
        The views, with the shape, type and device of the image.

    Raises:
        ValueError: if image and parameters differ in samples or axes.
    """
    if image.dim() - 2 != parameters.spatial_dims or len(image) != len(parameters):
        raise ValueError(
            f"expected an image [{len(parameters)}, C, {parameters.spatial_dims} axes], got "
            f"{tuple(image.shape)}"
        )
    moved = _moved(_flipped(image, parameters.flip), parameters)
    return _intensity(moved.clone() if moved is image else moved, parameters).clamp_(0, 1)


def view_matrix(parameters: ViewParameters) -> Tensor:
    """Return the matrix that maps a place in the view to a place in the image, without flips.

    Args:
        parameters: of B samples.

    Returns:
        [B, n, n + 1] float32 in voxels from the centre of the image, order i, j (, k).
    """
    rotation = _rotation(parameters.angle_radians)
    columns = zip(rotation.unbind(2), parameters.shift_vox.unbind(1), strict=True)
    shift = sum(column * along[:, None] for column, along in columns)
    linear = rotation * parameters.scale[:, None, None]
    return torch.cat([linear, torch.as_tensor(shift)[:, :, None]], dim=2)


def move_points(center_vox: Tensor, parameters: ViewParameters, shape: Sequence[int]) -> Tensor:
    """Return where places of the images are in their views.

    Args:
        center_vox: [B, N, n] voxels of the images.
        parameters: of B samples.
        shape: the shape of an image, n numbers.

    Returns:
        [B, N, n] voxels of the views; they may lie outside.
    """
    middle = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    centred = center_vox - middle
    flipped = torch.where(parameters.flip[:, None], -centred, centred)
    matrix = view_matrix(parameters)
    linear, shift = matrix[:, :, :-1], matrix[:, :, -1]
    moved: Tensor = torch.linalg.solve(linear, (flipped - shift[:, None]).transpose(1, 2))
    return moved.transpose(1, 2) + middle


def each(function: Callable[[float], float], values: Tensor) -> Tensor:
    """Apply a function of one number to every element by itself (see the module's docstring)."""
    found = [function(value) for value in values.flatten().tolist()]
    return torch.tensor(found, dtype=values.dtype).view(values.shape)


def _rotation(angles: Tensor) -> Tensor:
    """[B, 1] or [B, 3] radians to [B, n, n]: turns about i, then j, then k (MONAI's "XYZ")."""
    sines, cosines = each(math.sin, angles).unbind(1), each(math.cos, angles).unbind(1)
    if len(sines) == 1:
        (s,), (c,) = sines, cosines
        rows = [[c, -s], [s, c]]
    else:
        (si, sj, sk), (ci, cj, ck) = sines, cosines
        rows = [
            [cj * ck, -cj * sk, sj],
            [ci * sk + si * sj * ck, ci * ck - si * sj * sk, -si * cj],
            [si * sk - ci * sj * ck, si * ck + ci * sj * sk, ci * cj],
        ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def _flipped(image: Tensor, flip: Tensor) -> Tensor:
    result = image
    for axis in range(flip.shape[1]):
        rows = flip[:, axis].nonzero().flatten().to(image.device)
        if len(rows):
            result = image.clone() if result is image else result
            result[rows] = result[rows].flip(axis + 2)
    return result


def _moved(image: Tensor, parameters: ViewParameters) -> Tensor:
    matrix = view_matrix(parameters)
    still = torch.eye(matrix.shape[1], matrix.shape[2])
    rows = (matrix != still).flatten(1).any(dim=1).nonzero().flatten()
    if not len(rows):
        return image
    everything = len(rows) == len(image)
    picked = rows.to(image.device)
    source = image if everything else image[picked]
    moved = _sampled(source, matrix[rows].to(image.device, image.dtype), parameters.padding)
    if everything:
        return moved
    result = image.clone()
    result[picked] = moved
    return result


def _sampled(image: Tensor, matrix: Tensor, padding: Padding) -> Tensor:
    shape = image.shape[2:]
    solid_on_cpu = len(shape) == 3 and image.device.type == "cpu"
    if not solid_on_cpu or padding != "border" or shape[0] * shape[1] > _TALLEST_PX:
        grid = _grid([_coordinate(matrix, shape, axis) for axis in range(len(shape))], shape)
        return F.grid_sample(image, grid, padding_mode=padding, align_corners=False)
    # A few samples at a time, so that intermediate results stay in the processor's cache.
    result = torch.empty_like(image)
    few = max(1, _CACHED_VOXELS // image[0].numel())
    for start in range(0, len(image), few):
        part = slice(start, start + few)
        places = [_coordinate(matrix[part], shape, axis) for axis in range(3)]
        result[part] = _sample_by_planes(image[part], places)
    return result


def _coordinate(matrix: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """[B, n, n + 1] to [B, *shape]: index along `axis` at which each voxel of the view is read.

    The sum has one term an axis, the last axis first: only the last addition is of full size.
    """
    dims = len(shape)
    total = (matrix[:, axis, dims] + (shape[axis] - 1) / 2).view(-1, *[1] * dims)
    for other in reversed(range(dims)):
        layout = [1] * (dims + 1)
        layout[other + 1] = -1
        centred = torch.arange(shape[other], dtype=matrix.dtype, device=matrix.device)
        centred = centred - (shape[other] - 1) / 2
        total = total + centred.view(layout) * matrix[:, axis, other].view(-1, *[1] * dims)
    return total


def _grid(places: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Convert indices to the coordinates of `grid_sample`: -1..1 over the width, last axis first.

    Each coordinate is contiguous in memory: interleaving them would cost as much as sampling.
    """
    scaled = [at * (2 / n) + (1 / n - 1) for at, n in zip(places, shape, strict=True)]
    return torch.stack(scaled[::-1]).movedim(0, -1)


def _sample_by_planes(image: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Sample volumes with border padding by torch's 2-D kernel.

    On a CPU `grid_sample` is vectorised in 2-D only. Trilinear interpolation is linear between
    two bilinear reads, so the planes along i are stacked into one tall image with the next plane
    as further channels. This takes a third of the time of the 3-D kernel and agrees within 1e-4.
    """
    batch, channels, size_i, size_j, size_k = image.shape
    at_i, at_j, at_k = (at.clamp(0, n - 1) for at, n in zip(places, image.shape[2:], strict=True))
    plane = at_i.floor()
    # Clamped j never reads the plane below: the last row of its own plane has all the weight.
    row = torch.add(at_j, plane, alpha=size_j)
    grid = _grid((row, at_k), (size_i * size_j, size_k)).view(batch, size_i, size_j * size_k, 2)
    both = image.new_empty(batch, 2, channels, size_i, size_j, size_k)
    both[:, 0] = image
    both[:, 1, :, :-1] = image[:, :, 1:]
    both[:, 1, :, -1] = image[:, :, -1]
    tall = both.view(batch, 2 * channels, size_i * size_j, size_k)
    read = F.grid_sample(tall, grid, padding_mode="border", align_corners=False).view_as(both)
    first, second = read[:, 0], read[:, 1]
    return second.sub_(first).mul_((at_i - plane)[:, None]).add_(first)


def _intensity(image: Tensor, parameters: ViewParameters) -> Tensor:
    """Change intensities in place."""
    # Each sample by itself: see the docstring of this module.
    for sample, gamma in zip(image, parameters.gamma.tolist(), strict=True):
        if gamma != 1:
            sample.clamp_(min=0).pow_(gamma)
    if (parameters.gain != 1).any() or (parameters.offset != 0).any():
        image.mul_(_column(parameters.gain, image)).add_(_column(parameters.offset, image))
    if (parameters.noise_sd != 0).any():
        noise = _noise(image, parameters.noise_start)
        image.add_(noise.mul_(_column(parameters.noise_sd, image)))
    return image


def _column(values: Tensor, image: Tensor) -> Tensor:
    return values.to(image.device, image.dtype).view(-1, *[1] * (image.dim() - 1))


def _noise(image: Tensor, start: Tensor) -> Tensor:
    """Return standard normal noise [B, C, *spatial] from a table, each sample from its start.

    A fixed table makes noise a pure function of the parameters on every device, and reading it
    is many times faster than drawing.
    """
    length = image[0].numel()
    windows = _noise_table(length, image.device).unfold(0, length, 1)
    return windows[start.to(image.device)].view(image.shape).to(image.dtype)


@lru_cache(maxsize=8)
def _noise_table(extra: int, device: torch.device) -> Tensor:
    drawn = torch.randn(NOISE_LENGTH, generator=torch.Generator().manual_seed(_NOISE_SEED))
    repeats = -(-(NOISE_LENGTH + extra) // NOISE_LENGTH)
    return drawn.repeat(repeats)[: NOISE_LENGTH + extra].to(device)
