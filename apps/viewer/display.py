"""Pixel computations of the viewer, without Streamlit: windows, planes of a scan, radiographs.

A scan is shown as an axial stack, indexed [column, row, slice]. Columns run to the patient's left,
rows to the back, slices to the head. An axial slice therefore shows the patient from the feet,
with the right side on the left, as is usual in radiology. Voxels are reordered and never
resampled: an oblique scan is shown along the planes of its array, each named by the body plane
that is nearest. `component/js/` draws the planes; its functions must agree with those here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import AxisOrder, Float64, VoxelGrid
from medkd.review.slice_images import SliceImages, slice_images
from medkd.types import Point, Radiograph, Scan

SLAB_SLICES = 10
"""Axial slices that travel to the browser in one response."""

_OBLIQUE = 0.25
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))


@dataclass(frozen=True, slots=True)
class Window:
    """A display window: its centre, and its width from black to white, in HU."""

    center_hu: float
    width_hu: float


WINDOWS = {
    "lung": Window(-600.0, 1500.0),
    "soft tissue": Window(40.0, 400.0),
    "mediastinum": Window(50.0, 350.0),
    "bone": Window(500.0, 2000.0),
}
"""The presets of the keys 1 to 4, in this order; that of the header follows."""

HEADER = "header"
"""The name of the preset that the file's header gives."""

GREYS = 4095
"""The value of the brightest pixel of a radiograph; the darkest is 0."""

WHOLE_RANGE = Window(GREYS / 2, GREYS)
"""The first preset for a radiograph, in grey values."""

PICTURE_WINDOWS = {
    "dark parts": Window(GREYS / 4, GREYS / 2),
    "bright parts": Window(GREYS * 3 / 4, GREYS / 2),
}
"""The other presets for a radiograph."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A plane of the stack: the axes that run across and down a picture, and through the stack.

    `across`, `down` and `through` are axes of the stack (0 column, 1 row, 2 slice). If `upward`,
    the down axis is shown reversed, so that the head is at the top.
    """

    name: str
    across: int
    down: int
    through: int
    upward: bool


PLANES = (
    Plane("axial", 0, 1, 2, upward=False),
    Plane("coronal", 0, 2, 1, upward=True),
    Plane("sagittal", 1, 2, 0, upward=True),
)


@dataclass(frozen=True, slots=True, eq=False)
class AxialStack:
    """A scan as axial slices, HU [column, row, slice]: axes are reordered, voxels not resampled.

    A radiograph is a stack of one slice of grey values (`is_picture`), which lies nowhere in the
    body. If it is not `scaled`, the millimetres of its grid are pixels. `edges` are the letters of
    its edges, if its header gives them.
    `images` are the DICOM images that the slices were read from, and `header_window` is the window
    of the header (of a radiograph: that its pixels were mapped with, which is their whole range).
    `volume_id` is a hash of the grid and of every voxel. Two scans that differ in one voxel
    therefore have different ids, and the id contains nothing about the patient.
    """

    voxels_hu: NDArray[np.int16]
    grid: VoxelGrid
    volume_id: str
    is_picture: bool = False
    scaled: bool = True
    images: SliceImages | None = None
    header_window: Window | None = None
    edges: Mapping[str, str] | None = None

    @property
    def slices(self) -> int:
        """Number of axial slices."""
        return self.grid.shape[2]

    def nearest_slice(self, point_mm: Point) -> int:
        """Return the slice nearest to a point in LPS mm, kept inside the stack."""
        number = round(float(self.grid.world_to_voxel(point_mm)[2]))
        return min(max(number, 0), self.slices - 1)

    def slice_at(self, center_mm: Point) -> tuple[int, str]:
        """Return number (from 1) and DICOM image of the slice with a point; (0, "") outside."""
        if not self.grid.contains_world(center_mm):
            return 0, ""
        image = self.images.at(self.grid, center_mm) if self.images else ""
        return self.nearest_slice(center_mm) + 1, image

    def slab(self, first: int, count: int) -> bytes:
        """Return axial slices as little-endian int16 HU: slice by slice, row by row.

        Args:
            first: index of the first slice.
            count: number of slices; fewer are returned at the end of the stack.
        """
        part = self.voxels_hu[:, :, first : first + count]
        return np.ascontiguousarray(part.T, dtype="<i2").tobytes()


def open_stack(scan: Scan) -> AxialStack:
    """Build the axial slices of a scan, with what its header tells about them."""
    stack = build_axial_stack(scan.voxels_hu, scan.grid)
    window = Window(scan.window.center, scan.window.width) if scan.window else None
    return replace(stack, images=slice_images(scan, stack.grid), header_window=window)


def open_picture(radiograph: Radiograph) -> AxialStack:
    """Build the stack of a radiograph, with what its header tells about it."""
    stack = build_picture(radiograph.pixels, spacing_mm=radiograph.pixel_spacing_mm)
    edges = radiograph.orientation and edge_letters(*radiograph.orientation)
    return replace(stack, header_window=WHOLE_RANGE if radiograph.window else None, edges=edges)


def presets(stack: AxialStack) -> dict[str, Window]:
    """Return the windows of the number keys, in their order.

    The pixels of a radiograph were mapped with the header's window when they were read, and values
    outside it are lost. Its whole range is therefore the header's window, and is named so.
    """
    header = {HEADER: stack.header_window} if stack.header_window else {}
    if not stack.is_picture:
        return WINDOWS | header
    return (header or {"all": WHOLE_RANGE}) | PICTURE_WINDOWS


def build_axial_stack(voxels_hu: NDArray[np.int16], grid: VoxelGrid) -> AxialStack:
    """Permute and flip the axes of a scan to get axial slices; voxels are not copied.

    Args:
        voxels_hu: [i, j, k] HU.
        grid: grid of the voxels; an oblique axis is assigned to the nearest body axis.
    """
    order = AxisOrder.to_lps(grid)
    turned, turned_grid = order.apply(voxels_hu), grid.reordered(order.axes, order.flipped)
    return AxialStack(turned, turned_grid, _hash_volume(turned, turned_grid))


def build_picture(
    pixels: NDArray[np.float32], *, spacing_mm: tuple[float, float] | None = None
) -> AxialStack:
    """Build the stack of a radiograph, or of a small volume without a scale.

    Args:
        pixels: [row, col] or [row, col, slice] in 0..1.
        spacing_mm: (row, column) distance of pixel centres; None: not known, pixels are square.
    """
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    grey = np.round(np.clip(pixels, 0.0, 1.0) * GREYS).astype(np.int16)
    voxels = np.atleast_3d(grey).transpose(1, 0, 2)
    grid = VoxelGrid.from_parts(
        voxels.shape, spacing_mm=(column_mm, row_mm, 1.0), origin_mm=(0.0, 0.0, 0.0)
    )
    name = _hash_volume(voxels, grid)
    return AxialStack(voxels, grid, name, is_picture=True, scaled=spacing_mm is not None)


def _hash_volume(voxels: NDArray[np.int16], grid: VoxelGrid) -> str:
    digest = blake2b(repr(grid.shape).encode(), digest_size=20)
    digest.update(grid.affine_lps_mm.tobytes())
    for number in range(grid.shape[2]):
        digest.update(np.ascontiguousarray(voxels[:, :, number].T, dtype="<i2").data)
    return digest.hexdigest()


def build_look_up(window: Window, *, inverted: bool = False) -> NDArray[np.uint8]:
    """Build the grey value of every HU.

    A window maps HU linearly: its lower edge to 0, its upper edge to 255, clipped outside. Halves
    are rounded upwards.

    Args:
        window: centre and width in HU.
        inverted: whether the lower edge is white.

    Returns:
        [65536] grey values of -32768, -32767, ..., 32767 HU.
    """
    low = window.center_hu - window.width_hu / 2.0
    values_hu = np.arange(-32768, 32768, dtype=np.float64)
    grey = np.floor((values_hu - low) * (255.0 / window.width_hu) + 0.5).clip(0, 255)
    return (255 - grey if inverted else grey).astype(np.uint8)


def direction_letters(vector: Float64) -> str:
    """Return the letters of a direction in the body (DICOM PS3.3 C.7.6.1.1.1).

    Args:
        vector: (3,) unit LPS direction.

    Returns:
        L or R, P or A, H or F; if it is oblique, several letters, largest component first.
    """
    axes = sorted(range(3), key=lambda axis: -abs(vector[axis]))
    named = [axis for axis in axes if abs(vector[axis]) > _OBLIQUE]
    return "".join(_LETTERS[axis][0 if vector[axis] > 0 else 1] for axis in named)


def plane_letters(plane: Plane, grid: VoxelGrid) -> dict[str, str]:
    """Return the letters of the left, right, top and bottom edge of a plane's picture.

    Args:
        plane: the plane.
        grid: the grid of an axial stack.
    """
    across, down = grid.direction[:, plane.across], grid.direction[:, plane.down]
    down = -down if plane.upward else down
    return {
        "left": direction_letters(-across),
        "right": direction_letters(across),
        "top": direction_letters(-down),
        "bottom": direction_letters(down),
    }


def edge_letters(across: str, down: str) -> dict[str, str]:
    """Return the letters of the edges of a radiograph.

    Args:
        across: where in the body a row runs to, from left to right (DICOM's PatientOrientation).
        down: where a column runs to, from top to bottom.

    Example:
        >>> edge_letters("L", "F")
        {'left': 'R', 'right': 'L', 'top': 'H', 'bottom': 'F'}
    """
    opposite = str.maketrans("LRAPHF", "RLPAFH")
    return {
        "left": across.translate(opposite),
        "right": across,
        "top": down.translate(opposite),
        "bottom": down,
    }


def plane_tilt_degrees(plane: Plane, grid: VoxelGrid) -> float:
    """Return the angle in degrees between a plane of the array and the body plane of its name.

    Args:
        plane: the plane.
        grid: the grid of an axial stack.
    """
    normal = np.cross(grid.direction[:, plane.across], grid.direction[:, plane.down])
    return math.degrees(math.acos(min(abs(float(normal[plane.through])), 1.0)))
