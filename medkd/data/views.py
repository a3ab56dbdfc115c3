"""Apply a drawn view to a whole batch at once.

A view is (sample, drawn parameters): teacher and student see the same one, and the same
parameters give the same view again on any device. Applying needs no randomness, runs on the
image's own device, and costs one `grid_sample` a batch. Drawing is in `augment.py`.

Convention: images are [B, C, I, J] or [B, C, I, J, K] float32 in 0..1. Geometry is in voxels
about the centre of the image and follows MONAI's `Affine`: the matrix maps a place in the view
to the place in the image that it is read from (rotation, then shift, then scale). Flips are
exact (no interpolation). Rotation keeps shapes only if the spacing is isotropic.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own customary name
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

Padding = Literal["border", "zeros", "reflection"]

NOISE_LENGTH = 1 << 20
"""Numbers in the noise table; a sample's noise begins at one of them."""

_NOISE_SEED = 20_160_705
_CACHED_VOXELS = 1 << 17
_TALLEST_PX = 1 << 13  # beyond it float32 places a row of a tall image too coarsely


@dataclass(frozen=True, slots=True, eq=False)
class ViewParameters:
    """What was drawn for each sample of a batch; CPU tensors, one row a sample.

    Args:
        flip: [B, n] bool along i, j (and k).
        angle_radians: [B, 1] in the plane (n = 2) or [B, 3] about i, j, k (n = 3).
        shift_vox: [B, n] voxels.
        scale: [B] factor on the place that is read (above 1: the content looks smaller).
        gamma: [B] exponent on the intensity.
        gain: [B] factor on the intensity.
        offset: [B] added to the intensity.
        noise_sd: [B] standard deviation of the noise.
        noise_start: [B] int64, where the sample's noise begins in the noise table.
        padding: what stands outside the image.
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
        """Number of axes that the view moves: 2 or 3."""
        return int(self.flip.shape[1])

    def select(self, rows: Sequence[int] | Tensor) -> ViewParameters:
        """Return the parameters of some samples, in the order of `rows`."""
        wanted = torch.as_tensor(rows)
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "padding"}
        return ViewParameters(**{n: t[wanted] for n, t in tensors.items()}, padding=self.padding)


def identity_parameters(batch: int, spatial_dims: int) -> ViewParameters:
    """Return the parameters of the view that is the sample itself."""
    zeros, ones = torch.zeros(batch), torch.ones(batch)
    return ViewParameters(
        flip=torch.zeros(batch, spatial_dims, dtype=torch.bool),
        angle_radians=torch.zeros(batch, 1 if spatial_dims == 2 else 3),
        shift_vox=torch.zeros(batch, spatial_dims),
        scale=ones,
        gamma=ones,
        gain=ones,
        offset=zeros,
        noise_sd=zeros,
        noise_start=torch.zeros(batch, dtype=torch.int64),
    )


def apply_view(image: Tensor, parameters: ViewParameters) -> Tensor:
    """Apply drawn parameters to a whole batch; the input is left as it is.

    Samples that do not move are not interpolated, so a view with zero parameters is its sample
    bit for bit. Where any intensity changes, the result is cut to 0..1.

    Args:
        image: [B, C, I, J] or [B, C, I, J, K] float32 in 0..1, on any device.
        parameters: of B samples and as many axes.

    Returns:
        The same shape, type and device.

    Raises:
        ValueError: if image and parameters do not belong together.
    """
    if image.dim() - 2 != parameters.spatial_dims or len(image) != len(parameters):
        raise ValueError(
            f"expected an image [{len(parameters)}, C, {parameters.spatial_dims} axes], got "
            f"{tuple(image.shape)}"
        )
    moved = _moved(_flipped(image, parameters.flip), parameters)
    return _intensity(moved, parameters, fresh=moved is not image)


def view_matrix(parameters: ViewParameters) -> Tensor:
    """Return the matrix from a place in the view to the place in the image, without flips.

    Args:
        parameters: of B samples.

    Returns:
        [B, n, n + 1] float32 in voxels from the centre of the image, order i, j (, k).
    """
    rotation = _rotation(parameters.angle_radians)
    linear = rotation * parameters.scale[:, None, None]
    shift = rotation @ parameters.shift_vox[:, :, None]
    return torch.cat([linear, shift], dim=2)


def _rotation(angles: Tensor) -> Tensor:
    """[B, 1] or [B, 3] radians to [B, n, n]: turns about i, then j, then k (MONAI's "XYZ")."""
    sine, cosine = torch.sin(angles), torch.cos(angles)
    if angles.shape[1] == 1:
        rows = [torch.cat([cosine, -sine], 1), torch.cat([sine, cosine], 1)]
        return torch.stack(rows, dim=1)
    turned = torch.eye(3).repeat(len(angles), 1, 1)
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        turn = torch.eye(3).repeat(len(angles), 1, 1)
        turn[:, a, a] = turn[:, b, b] = cosine[:, axis]
        turn[:, b, a] = sine[:, axis]
        turn[:, a, b] = -sine[:, axis]
        turned = turned @ turn
    return turned


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
    # A few samples at a time, so that what is in between stays in the processor's cache.
    result = torch.empty_like(image)
    few = max(1, _CACHED_VOXELS // image[0].numel())
    for start in range(0, len(image), few):
        part = slice(start, start + few)
        places = [_coordinate(matrix[part], shape, axis) for axis in range(3)]
        result[part] = _sample_by_planes(image[part], places)
    return result


def _coordinate(matrix: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """[B, n, n + 1] to [B, *shape]: index along `axis` at which each voxel of the view is read.

    A sum of one term an axis, last axis first, so that only the last sum is over everything.
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
    """Turn indices into `grid_sample`'s coordinates: -1..1 over the width, last axis first.

    Each coordinate lies apart in memory: interleaving them would cost as much as sampling.
    """
    scaled = [at * (2 / n) + (1 / n - 1) for at, n in zip(places, shape, strict=True)]
    return torch.stack(scaled[::-1]).movedim(0, -1)


def _sample_by_planes(image: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Sample volumes with border padding through torch's 2-D kernel.

    On a CPU `grid_sample` is vectorised in 2-D only. Trilinear is linear between two bilinear
    reads, so the planes along i are stacked into one tall image with the next plane as further
    channels: a third of the time of the 3-D kernel, equal within 1e-4.
    """
    batch, channels, size_i, size_j, size_k = image.shape
    at_i, at_j, at_k = (at.clamp(0, n - 1) for at, n in zip(places, image.shape[2:], strict=True))
    plane = at_i.floor()
    # Clamped j never reaches into the plane below: its last row has all the weight.
    row = torch.add(at_j, plane, alpha=size_j)
    grid = _grid((row, at_k), (size_i * size_j, size_k)).view(batch, size_i, size_j * size_k, 2)
    both = image.new_empty(batch, 2, channels, size_i, size_j, size_k)
    both[:, 0] = image
    both[:, 1, :, :-1] = image[:, :, 1:]
    both[:, 1, :, -1] = image[:, :, -1]
    tall = both.view(batch, 2 * channels, size_i * size_j, size_k)
    read = F.grid_sample(tall, grid, padding_mode="border", align_corners=False).view_as(both)
    return torch.lerp(read[:, 0], read[:, 1], (at_i - plane)[:, None])


def _intensity(image: Tensor, parameters: ViewParameters, *, fresh: bool) -> Tensor:
    """Change intensities in place where the image is `fresh`, else in a copy."""
    gamma = bool((parameters.gamma != 1).any())
    linear = bool((parameters.gain != 1).any() or (parameters.offset != 0).any())
    noisy = bool((parameters.noise_sd != 0).any())
    if not (gamma or linear or noisy):
        return image
    result = image if fresh else image.clone()
    if gamma:
        result.clamp_(min=0).pow_(_column(parameters.gamma, image))
    if linear:
        result.mul_(_column(parameters.gain, image)).add_(_column(parameters.offset, image))
    if noisy:
        noise = _noise(image, parameters.noise_start)
        result.addcmul_(noise, _column(parameters.noise_sd, image))
    return result.clamp_(0, 1)


def _column(values: Tensor, image: Tensor) -> Tensor:
    return values.to(image.device, image.dtype).view(-1, *[1] * (image.dim() - 1))


def _noise(image: Tensor, start: Tensor) -> Tensor:
    """Read [B, C, *spatial] of standard normal noise, each sample from its own place.

    A fixed table makes noise a pure function of the parameters on every device, and is many
    times faster than drawing.
    """
    length = image[0].numel()
    windows = _noise_table(length, image.device).unfold(0, length, 1)
    return windows[start.to(image.device)].view(image.shape).to(image.dtype)


@lru_cache(maxsize=8)
def _noise_table(extra: int, device: torch.device) -> Tensor:
    drawn = torch.randn(NOISE_LENGTH, generator=torch.Generator().manual_seed(_NOISE_SEED))
    repeats = -(-(NOISE_LENGTH + extra) // NOISE_LENGTH)
    return drawn.repeat(repeats)[: NOISE_LENGTH + extra].to(device)
