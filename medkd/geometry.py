"""Conversion between array indices and world coordinates; no other module converts them.

Convention: an index is (i, j, k) as in MONAI; it is continuous, with voxel centres at integers.
World is LPS millimetres (x to the patient's left, y to the back, z to the head) as in DICOM,
ITK and the LUNA16 CSV files. All matrices are float64. RAS occurs only where NIfTI or MONAI
requires it, and `lps_to_ras` is the only conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]

T = TypeVar("T", bound=np.generic)

SHEAR_TOLERANCE = 2e-3
"""Largest accepted cosine between two axes: twice the rounding error that file readers accept."""

_LEAST_SPACING_MM = 1e-6

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True, eq=False)
class VoxelGrid:
    """A regular grid of voxels in world coordinates.

    Args:
        shape: number of voxels along (i, j, k).
        affine_lps_mm: [4, 4] float64, maps the index (i, j, k, 1) to LPS mm. Columns may be
            oblique, flipped (left-handed) or anisotropic but not sheared: the cosine between two
            columns is at most `SHEAR_TOLERANCE`.

    Raises:
        ValueError: if the shape is not three positive numbers, or if the matrix is not a finite
            affine whose columns are perpendicular and longer than 0.
    """

    shape: tuple[int, int, int]
    affine_lps_mm: Float64

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine_lps_mm, dtype=np.float64)
        if np.shape(self.shape) != (3,) or min(self.shape) < 1:
            raise ValueError(f"a grid needs three positive sizes (i, j, k), got {self.shape!r}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"a grid needs a finite 4x4 affine, got {affine!r}")
        if not np.allclose(affine[3], [0, 0, 0, 1]):
            raise ValueError(f"the last row of an affine is 0 0 0 1, got {affine[3]!r}")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if lengths.min() < _LEAST_SPACING_MM:
            raise ValueError(f"expected spacings above 0 mm, got {lengths.tolist()}")
        cosines = affine[:3, :3] / lengths
        sheared = float(np.abs(np.triu(cosines.T @ cosines, 1)).max())
        if sheared > SHEAR_TOLERANCE:
            raise ValueError(
                f"expected axes at right angles, got a sheared affine: a cosine of {sheared:.3g} "
                f"between two axes, at most {SHEAR_TOLERANCE:g}: resample the volume"
            )
        object.__setattr__(self, "affine_lps_mm", affine)

    @classmethod
    def from_parts(
        cls,
        shape: tuple[int, int, int],
        *,
        spacing_mm: ArrayLike,
        origin_mm: ArrayLike,
        direction: ArrayLike | None = None,
    ) -> VoxelGrid:
        """Build a grid from spacing, origin and direction cosines in ITK's convention.

        Args:
            shape: number of voxels along (i, j, k).
            spacing_mm: (3,) positive mm.
            origin_mm: (3,) LPS mm of the centre of voxel (0, 0, 0).
            direction: [3, 3]; column a is the unit LPS direction of index axis a.

        Raises:
            ValueError: if a spacing is not a positive number, or for a reason of the class.
        """
        spacing = np.asarray(spacing_mm, dtype=np.float64)
        if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
            raise ValueError(f"expected three positive spacings in mm, got {spacing.tolist()}")
        cosines = np.eye(3) if direction is None else np.asarray(direction, dtype=np.float64)
        affine = np.eye(4)
        affine[:3, :3] = cosines.reshape(3, 3) * spacing
        affine[:3, 3] = np.asarray(origin_mm, dtype=np.float64)
        return cls(shape, affine)

    @property
    def spacing_mm(self) -> Float64:
        """(3,) distance in mm between neighbouring voxel centres along i, j, k."""
        return np.asarray(np.linalg.norm(self.affine_lps_mm[:3, :3], axis=0))

    @property
    def origin_mm(self) -> Float64:
        """(3,) LPS mm of the centre of voxel (0, 0, 0)."""
        return self.affine_lps_mm[:3, 3].copy()

    @property
    def direction(self) -> Float64:
        """[3, 3] unit LPS direction of each index axis, one per column."""
        return np.asarray(self.affine_lps_mm[:3, :3] / self.spacing_mm)

    def voxel_to_world(self, points_vox: ArrayLike) -> Float64:
        """Map continuous indices to LPS mm.

        Args:
            points_vox: (3,) or [N, 3] in (i, j, k).

        Returns:
            The same shape, LPS mm.
        """
        points = np.asarray(points_vox, dtype=np.float64)
        return np.asarray(points @ self.affine_lps_mm[:3, :3].T + self.affine_lps_mm[:3, 3])

    def world_to_voxel(self, points_mm: ArrayLike) -> Float64:
        """Map LPS mm to continuous indices.

        Args:
            points_mm: (3,) or [N, 3] LPS mm.

        Returns:
            The same shape in (i, j, k); not rounded, possibly outside the grid.
        """
        points = np.asarray(points_mm, dtype=np.float64)
        inverse = np.linalg.inv(self.affine_lps_mm)
        return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])

    def contains_world(self, points_mm: ArrayLike) -> NDArray[np.bool_]:
        """Return for each point whether it is in the grid, up to the outer faces of its voxels.

        Args:
            points_mm: (3,) or [N, 3] LPS mm.

        Returns:
            [N] (or scalar) bool.
        """
        points_vox = self.world_to_voxel(points_mm)
        upper = np.asarray(self.shape) - 0.5
        return np.asarray(((points_vox >= -0.5) & (points_vox <= upper)).all(axis=-1))

    def reordered(self, axes: tuple[int, int, int], flipped: tuple[bool, bool, bool]) -> VoxelGrid:
        """Return the grid of the same voxels with its axes in another order or direction.

        Args:
            axes: for each new axis i, j, k the number (0 to 2) of the present axis.
            flipped: for each new axis whether its direction is reversed.
        """
        corner_vox = np.zeros(3)
        affine = self.affine_lps_mm.copy()
        for new, (old, is_flipped) in enumerate(zip(axes, flipped, strict=True)):
            column = self.affine_lps_mm[:3, old]
            affine[:3, new] = -column if is_flipped else column
            corner_vox[old] = self.shape[old] - 1 if is_flipped else 0
        affine[:3, 3] = self.voxel_to_world(corner_vox)
        i, j, k = (self.shape[axis] for axis in axes)
        return VoxelGrid((i, j, k), affine)

    def cropped(self, start_vox: ArrayLike, shape: tuple[int, int, int]) -> VoxelGrid:
        """Return the grid of a box of whole voxels of this grid.

        Args:
            start_vox: (3,) first index of the box along i, j, k; negative means padding.
            shape: number of voxels of the box.
        """
        affine = self.affine_lps_mm.copy()
        affine[:3, 3] = self.voxel_to_world(start_vox)
        return VoxelGrid(shape, affine)

    def strided(
        self, first_vox: ArrayLike, step_vox: ArrayLike, shape: tuple[int, int, int]
    ) -> VoxelGrid:
        """Return the grid of cells that are some voxels of this grid apart.

        Args:
            first_vox: (3,) centre of the first cell in (i, j, k); between voxels if not whole.
            step_vox: (3,) voxels from one cell to the next along i, j, k.
            shape: number of cells.
        """
        affine = self.affine_lps_mm.copy()
        affine[:3, :3] *= np.asarray(step_vox, dtype=np.float64)
        affine[:3, 3] = self.voxel_to_world(first_vox)
        return VoxelGrid(shape, affine)


@dataclass(frozen=True, slots=True)
class AxisOrder:
    """A reordering of the axes of an array, without resampling.

    Args:
        axes: for each new axis the number (0 to 2) of the stored axis.
        flipped: for each new axis whether its direction is reversed.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    @classmethod
    def to_lps(cls, grid: VoxelGrid) -> AxisOrder:
        """Return the order in which axes run nearest to the left, to the back and to the head.

        Example:
            >>> AxisOrder.to_lps(VoxelGrid((4, 5, 6), np.diag([-1.0, 1.0, 2.5, 1.0]))).flipped
            (True, False, False)
        """
        share = np.abs(grid.direction)
        k = int(share[2].argmax())
        one, other = (axis for axis in range(3) if axis != k)
        axes = (one, other, k) if share[0, one] >= share[0, other] else (other, one, k)
        i, j, k = (bool(grid.direction[world, axis] < 0) for world, axis in enumerate(axes))
        return cls(axes, (i, j, k))

    def apply(self, values: NDArray[T]) -> NDArray[T]:
        """Return stored values [i, j, k] in the new order, as a view."""
        return values.transpose(self.axes)[self._steps]

    def undo(self, values: NDArray[T]) -> NDArray[T]:
        """Return values in the new order [i, j, k] in their stored order, as a view."""
        return values[self._steps].transpose(np.argsort(self.axes))

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flipped else 1) for flipped in self.flipped)


def lps_to_ras(affine: ArrayLike) -> Float64:
    """Convert the world of an affine from LPS to RAS or back (the flip is its own inverse).

    Args:
        affine: [4, 4] index to LPS mm (or RAS mm).

    Returns:
        [4, 4] index to RAS mm (or LPS mm).
    """
    return np.asarray(_LPS_RAS @ np.asarray(affine, dtype=np.float64))
