"""Lung segmentation by density: the region in which nodules are searched.

The result is a coarse mask (voxels of about 4 mm) of all air in the body that has the density of
lung, and the box around it. The mask is closed morphologically to include vessels, nodules and
tissue at the pleura. No model is involved: lungs full of fluid or tumour are not found, and a
scan without lungs is refused. `lungs_in_view` checks whether the lungs are complete. The grid may
have any orientation; voxels outside the field of view must be air or padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from medkd.types import Scan

AIR_HU = -400
"""Threshold between lung and soft tissue."""

PADDING_HU = -1500
"""Lower values are padding outside the field of view, not a measured tissue."""

LUNG_HU = (-965.0, -450.0)
"""Range of the median density of a lung; bowel gas and room air are lower."""

LEAST_LITRES = 0.15
"""Least volume of a connected lung region; even an excerpt of a few slices has more."""

MOST_AT_END = 0.67
"""Most lung area on the first or last slice, as a share of the largest lung area of any slice.
Lung bases may be cut a little; a scan that ends within the lungs has a share near 1."""

MOST_AT_SIDE_CM2 = 30.0
"""Most lung area that may touch a side of the field of view; with more, the field is too small."""

_NOT_IN_VIEW = "lungs_not_in_view"
_COARSE_MM = 4.0
_CLOSE_MM = 12.0
_MARGIN_MM = 8.0
_SHARE_OF_LARGEST = 0.1

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class LungField:
    """The lungs of one scan.

    Args:
        box: the voxels of the scan around the lungs, with a margin.
        mask: [i, j, k] bool on `grid`; it includes vessels and tissue at the pleura.
        grid: the coarse grid of the mask in LPS mm.
        litres: volume of the air-filled lung, before closing.
    """

    box: Box
    mask: NDArray[np.bool_]
    grid: VoxelGrid
    litres: float

    def contains(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Return for each point [N, 3] (LPS mm) whether it lies in the lungs."""
        places = np.rint(self.grid.world_to_voxel(np.reshape(points_mm, (-1, 3)))).astype(int)
        known = np.asarray(((places >= 0) & (places < self.mask.shape)).all(axis=1))
        places = np.where(known[:, None], places, 0)
        return np.asarray(known & self.mask[places[:, 0], places[:, 1], places[:, 2]])


def find_lungs(scan: Scan) -> LungField:
    """Find the lungs of a scan.

    Args:
        scan: HU on any grid.

    Raises:
        SeriesError: if no region has the density and size of a lung.

    Example:
        >>> from medkd.synthetic.phantom import PhantomSettings, make_phantom
        >>> phantom = make_phantom(PhantomSettings(site="b"), 0)
        >>> 2.0 < find_lungs(phantom.scan).litres < 8.0
        True
    """
    coarse, grid, step = _coarse(scan)
    air = _lung_air(scan.seriesuid, coarse, grid)
    litres = float(air.sum() * np.prod(grid.spacing_mm) / 1e6)
    mask = _closed(air, grid.spacing_mm)
    return LungField(_box(mask, step, scan.grid), mask, grid, litres)


def field_of_patch(scan: Scan) -> LungField:
    """Return a field of all voxels of a patch, in which lungs cannot be found: it is too small.

    Args:
        scan: HU on any grid; `litres` of the field is 0, because no lung is measured.
    """
    i, j, k = scan.grid.shape
    box = (slice(0, i), slice(0, j), slice(0, k))
    return LungField(box, np.ones(scan.grid.shape, dtype=np.bool_), scan.grid, litres=0.0)


def lungs_in_view(scan: Scan) -> list[str]:
    """Return the reasons why the lungs are not completely in the scan.

    Args:
        scan: HU on any grid.

    Returns:
        Reasons "lungs_not_in_view: ..."; empty if the lungs are complete, up to the tolerances
        `MOST_AT_END` and `MOST_AT_SIDE_CM2`.
    """
    coarse, grid, _ = _coarse(scan)
    try:
        air = _lung_air(scan.seriesuid, coarse, grid)
    except SeriesError as error:
        return [error.reasons[0]]
    return [f"{_NOT_IN_VIEW}: {why}" for why in (*_ends(air, grid), *_sides(air, coarse, grid))]


def _axes_across(grid: VoxelGrid) -> tuple[int, ...]:
    """Return the two axes other than the one nearest to foot-to-head."""
    along_z = int(np.abs(grid.direction[2]).argmax())
    return tuple(axis for axis in range(3) if axis != along_z)


def _ends(air: NDArray[np.bool_], grid: VoxelGrid) -> list[str]:
    """Return a reason for each end of the scan at which too much of the lungs is cut off."""
    across = _axes_across(grid)
    (along_z,) = {0, 1, 2} - set(across)
    cm2 = air.sum(axis=across) * float(np.prod(grid.spacing_mm[list(across)])) / 100
    upwards = bool(grid.direction[2, along_z] > 0)
    names = ("bottom", "top") if upwards else ("top", "bottom")
    return [
        f"the lungs are cut off at the {name} of the scan: {end:.0f} of at most {cm2.max():.0f} cm2"
        for name, end in zip(names, (cm2[0], cm2[-1]), strict=True)
        if end > MOST_AT_END * cm2.max()
    ]


def _sides(air: NDArray[np.bool_], coarse: NDArray[np.int16], grid: VoxelGrid) -> list[str]:
    """Return at most one reason: too much lung touches a side of the field of view or padding."""
    padded = np.pad(coarse < PADDING_HU, 1, constant_values=True)
    inner = tuple(slice(1, -1) for _ in range(3))
    reasons = []
    for axis in _axes_across(grid):
        face_cm2 = float(np.prod(np.delete(grid.spacing_mm, axis))) / 100
        for step in (-1, 1):
            beyond = np.roll(padded, step, axis=axis)[inner]
            cut_cm2 = float((air & beyond).sum()) * face_cm2
            if cut_cm2 > MOST_AT_SIDE_CM2:
                reasons.append(f"{cut_cm2:.0f} cm2 of lung touch a side of the field of view")
    return reasons[:1]


def _coarse(scan: Scan) -> tuple[NDArray[np.int16], VoxelGrid, NDArray[np.int64]]:
    """Return every n-th voxel (about 4 mm apart), the grid of these, and n along each axis."""
    step = np.maximum(np.round(_COARSE_MM / scan.grid.spacing_mm), 1).astype(np.int64)
    coarse = scan.voxels_hu[:: step[0], :: step[1], :: step[2]]
    affine = scan.grid.affine_lps_mm.copy()
    affine[:3, :3] *= step
    return coarse, VoxelGrid((coarse.shape[0], coarse.shape[1], coarse.shape[2]), affine), step


def _lung_air(seriesuid: str, coarse: NDArray[np.int16], grid: VoxelGrid) -> NDArray[np.bool_]:
    """Mark the air regions that are lung: large, of lung density, within the body."""
    # Padding does not count as air: it would join lungs that a round field of view cuts.
    labels, count = ndimage.label((coarse < AIR_HU) & (coarse > PADDING_HU))
    if count == 0:
        raise _no_lungs(seriesuid, f"no voxel lies between {PADDING_HU} and {AIR_HU} HU")
    voxel_litres = float(np.prod(grid.spacing_mm)) / 1e6
    litres = np.bincount(labels.reshape(-1), minlength=count + 1)[1:] * voxel_litres
    numbers = np.flatnonzero(litres >= LEAST_LITRES) + 1
    if not len(numbers):
        raise _no_lungs(
            seriesuid,
            f"the largest region below {AIR_HU} HU has {litres.max():.2f} litres, "
            f"expected at least {LEAST_LITRES}",
        )
    middle_hu = np.asarray(ndimage.median(coarse, labels, numbers))
    within = np.asarray(ndimage.mean(_sides_with_body(coarse, grid) >= 3, labels, numbers))
    fit = (middle_hu > LUNG_HU[0]) & (middle_hu < LUNG_HU[1]) & (within > 0.6)
    if not fit.any():
        found = ", ".join(
            f"{litres[n - 1]:.2f} litres of {hu:.0f} HU, {share:.0%} of it within the body"
            for n, hu, share in zip(numbers, middle_hu, within, strict=True)
        )
        expected = f"{LUNG_HU[0]:.0f} to {LUNG_HU[1]:.0f} HU within the body"
        raise _no_lungs(seriesuid, f"no air of {expected}; found {found}")
    wanted = numbers[fit]
    volume = litres[wanted - 1]
    return np.isin(labels, wanted[volume >= _SHARE_OF_LARGEST * volume.max()])


def _sides_with_body(coarse: NDArray[np.int16], grid: VoxelGrid) -> NDArray[np.int8]:
    """Count for each voxel on how many of four sides (left, right, front, back) there is body.

    Lung has body on all four sides, or on three where the field of view cuts it. Air around the
    patient has body on one or two.
    """
    labels, count = ndimage.label(coarse >= AIR_HU)
    body = labels == (np.bincount(labels.reshape(-1))[1:].argmax() + 1 if count else 0)
    sides = np.zeros(coarse.shape, dtype=np.int8)
    for axis in _axes_across(grid):
        sides += np.logical_or.accumulate(body, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(body, axis), axis=axis), axis)
    return sides


def _closed(air: NDArray[np.bool_], spacing_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Close gaps up to twice `_CLOSE_MM`, fill holes, and dilate by one coarse voxel."""
    pad = np.ceil(_CLOSE_MM / spacing_mm).astype(int) + 1
    padded = np.pad(air, [(int(n), int(n)) for n in pad])
    grown = ndimage.distance_transform_edt(~padded, sampling=spacing_mm) <= _CLOSE_MM
    shrunk = ndimage.distance_transform_edt(grown, sampling=spacing_mm) > _CLOSE_MM
    filled = ndimage.binary_fill_holes(shrunk | padded)
    kept = ndimage.binary_dilation(filled)
    inner = tuple(slice(int(n), -int(n)) for n in pad)
    return np.asarray(kept[inner], dtype=np.bool_)


def _box(mask: NDArray[np.bool_], step: NDArray[np.int64], grid: VoxelGrid) -> Box:
    """Return the bounding box of the coarse mask in voxels of the scan, with a margin.

    Args:
        mask: [i, j, k], not empty.
        step: voxels of the scan per coarse voxel, along each axis.
        grid: of the scan.
    """
    slices = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        index = np.flatnonzero(mask.any(axis=others))
        margin = int(np.ceil(_MARGIN_MM / grid.spacing_mm[axis]))
        low = max(int(index[0] * step[axis]) - margin, 0)
        high = min(int((index[-1] + 1) * step[axis]) + margin, grid.shape[axis])
        slices.append(slice(low, high))
    return slices[0], slices[1], slices[2]


def _no_lungs(seriesuid: str, reason: str) -> SeriesError:
    return SeriesError(
        f"{seriesuid}: no lungs found",
        [
            f"{_NOT_IN_VIEW}: no lungs found: {reason}",
            "expected a chest CT with air-filled lungs",  # without a code: cannot be allowed
        ],
    )
