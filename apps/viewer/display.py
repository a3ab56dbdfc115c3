"""Pixel computations of the viewer, without Streamlit: HU windows, axial slices, marks in mm.

An axial stack is indexed [column, row, slice]. Columns run to the patient's left, rows to the
back, slices to the head. A slice therefore shows the patient from the feet, with the right side
on the left, as is usual in radiology. There is no resampling across slices and no MPR.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medkd.geometry import Float64, VoxelGrid
from medkd.types import Point

PICTURE_PX = 760
"""Longer side of an image on the screen."""

_LEAST_RADIUS_PX = 3.0
_NEAREST_FROM_PX = 8.0
_OBLIQUE = 0.25
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
_MARGIN_PX = 22


@dataclass(frozen=True, slots=True)
class Window:
    """A display window: its centre, and its width from black to white, in HU."""

    center_hu: float
    width_hu: float


WINDOWS = {
    "lung": Window(-600.0, 1500.0),
    "mediastinum": Window(40.0, 400.0),
    "bone": Window(500.0, 2000.0),
}


@dataclass(frozen=True, slots=True)
class Ring:
    """A circle to draw: a sphere in LPS mm with its label and colour (R, G, B)."""

    center_mm: Point
    diameter_mm: float
    label: str
    color: tuple[int, int, int]
    selected: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class AxialStack:
    """A scan as axial slices, HU [column, row, slice]: axes are reordered, voxels not resampled."""

    voxels_hu: NDArray[np.int16]
    grid: VoxelGrid

    @property
    def slices(self) -> int:
        """Number of axial slices."""
        return self.grid.shape[2]

    def nearest_slice(self, point_mm: Point) -> int:
        """Return the slice nearest to a point in LPS mm, kept inside the stack."""
        number = round(float(self.grid.world_to_voxel(point_mm)[2]))
        return min(max(number, 0), self.slices - 1)

    def slice_z_mm(self, number: int) -> float:
        """Return the LPS z of a slice's middle, in mm."""
        columns, rows, _ = self.grid.shape
        return float(self.grid.voxel_to_world(((columns - 1) / 2, (rows - 1) / 2, number))[2])


def build_axial_stack(voxels_hu: NDArray[np.int16], grid: VoxelGrid) -> AxialStack:
    """Permute and flip the axes of a scan to get axial slices; voxels are not copied.

    Args:
        voxels_hu: [i, j, k] HU.
        grid: grid of the voxels; an oblique axis is assigned to the nearest body axis.
    """
    direction = grid.direction
    axis_up = int(np.argmax(np.abs(direction[2])))
    others = [axis for axis in range(3) if axis != axis_up]
    axis_left = max(others, key=lambda axis: abs(direction[0, axis]))
    order = (axis_left, 3 - axis_up - axis_left, axis_up)
    affine = np.eye(4)
    affine[:3, 3] = grid.origin_mm
    turned = np.transpose(voxels_hu, order)
    for world, axis in enumerate(order):
        step = grid.affine_lps_mm[:3, axis]
        if direction[world, axis] < 0:
            affine[:3, 3] += step * (grid.shape[axis] - 1)
            step = -step
            turned = np.flip(turned, world)
        affine[:3, world] = step
    shape = (grid.shape[order[0]], grid.shape[order[1]], grid.shape[order[2]])
    return AxialStack(turned, VoxelGrid(shape, affine))


def apply_window(values_hu: NDArray[np.int16], window: Window) -> NDArray[np.uint8]:
    """Map HU linearly to grey values: lower edge of the window to 0, upper edge to 255; clip.

    Args:
        values_hu: HU of any shape.
        window: centre and width in HU.
    """
    low = window.center_hu - window.width_hu / 2.0
    grey = (values_hu.astype(np.float32) - low) * (255.0 / window.width_hu)
    return np.asarray(np.clip(np.round(grey), 0, 255).astype(np.uint8))


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


def section_radius_mm(diameter_mm: float, distance_mm: float, slice_spacing_mm: float) -> float:
    """Return the radius in mm of the circle in which a sphere cuts a slice; 0 if it does not.

    Args:
        diameter_mm: diameter of the sphere.
        distance_mm: distance from the sphere's centre to the middle of the slice.
        slice_spacing_mm: slice spacing. If the distance is at most half of it, the sphere has its
            full size, because otherwise a sphere between two slices would not be shown at all.
    """
    radius = diameter_mm / 2.0
    if abs(distance_mm) <= slice_spacing_mm / 2.0:
        return radius
    return float(np.sqrt(max(radius**2 - distance_mm**2, 0.0)))


def draw_slice(
    stack: AxialStack, number: int, *, window: Window, rings: Sequence[Ring] = ()
) -> bytes:
    """Draw an axial slice without distortion, with orientation letters and rings.

    Args:
        stack: the scan as axial slices.
        number: index of the slice; 0 is the lowest.
        window: display window.
        rings: spheres, highest score first; each is drawn if it cuts the slice.

    Returns:
        A PNG.
    """
    grey = apply_window(stack.voxels_hu[:, :, number].T, window)
    columns_mm, rows_mm, slices_mm = (float(mm) for mm in stack.grid.spacing_mm)
    picture, scale = _enlarge(grey, (rows_mm, columns_mm))
    draw = ImageDraw.Draw(picture)
    # The selected ring is drawn last, and before it the ring with the highest score.
    below = [ring for ring in reversed(rings) if not ring.selected]
    for ring in [*below, *(ring for ring in rings if ring.selected)]:
        column, row, level = (float(v) for v in stack.grid.world_to_voxel(ring.center_mm))
        radius_mm = section_radius_mm(ring.diameter_mm, (level - number) * slices_mm, slices_mm)
        if radius_mm > 0:
            middle = ((column + 0.5) * columns_mm * scale, (row + 0.5) * rows_mm * scale)
            _draw_ring(draw, ring, middle=middle, radius_px=radius_mm * scale)
    _draw_letters(draw, picture.size, stack.grid.direction)
    return _png(picture)


def draw_image(
    pixels: NDArray[np.float32], *, spacing_mm: tuple[float, float] | None = None
) -> bytes:
    """Draw a radiograph.

    Args:
        pixels: [row, col] in 0..1.
        spacing_mm: (row, column) distance of pixel centres; None: pixels are square.

    Returns:
        A PNG.
    """
    grey = np.clip(np.round(pixels * 255.0), 0, 255).astype(np.uint8)
    return _png(_enlarge(grey, spacing_mm or (1.0, 1.0))[0])


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI.

    An image in the page itself reaches only this reader. Streamlit's media files can be loaded by
    any browser, and Streamlit can confuse two files above 1 MiB.
    """
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _enlarge(grey: NDArray[np.uint8], spacing_mm: tuple[float, float]) -> tuple[Image.Image, float]:
    """Scale to the screen without distortion; large pixels stay visible as squares."""
    rows, columns = grey.shape
    height_mm, width_mm = rows * spacing_mm[0], columns * spacing_mm[1]
    scale = PICTURE_PX / max(height_mm, width_mm)
    coarse = scale * min(spacing_mm) > _NEAREST_FROM_PX
    size = (max(round(width_mm * scale), 1), max(round(height_mm * scale), 1))
    how = Image.Resampling.NEAREST if coarse else Image.Resampling.BICUBIC
    return Image.fromarray(grey).resize(size, how).convert("RGB"), scale


def _draw_ring(
    draw: ImageDraw.ImageDraw, ring: Ring, *, middle: tuple[float, float], radius_px: float
) -> None:
    radius = max(radius_px, _LEAST_RADIUS_PX)
    x, y = middle[0] - 0.5, middle[1] - 0.5
    width = 3 if ring.selected else 2
    # The line is drawn outside the radius, which keeps the edge of the nodule visible.
    outer = radius + width
    draw.ellipse((x - outer, y - outer, x + outer, y + outer), outline=ring.color, width=width)
    place = (x + outer * 0.75 + 3, y - outer * 0.75 - 3)
    _draw_text(draw, place, ring.label, color=ring.color, anchor="ls")


def _draw_letters(draw: ImageDraw.ImageDraw, size: tuple[int, int], direction: Float64) -> None:
    width, height = size
    left_right, front_back = direction[:, 0], direction[:, 1]
    white, edge = (255, 255, 255), _MARGIN_PX // 2
    middle_x, middle_y = width / 2, height / 2
    for place, vector, anchor in (
        ((edge, middle_y), -left_right, "lm"),
        ((width - edge, middle_y), left_right, "rm"),
        ((middle_x, edge), -front_back, "mt"),
        ((middle_x, height - edge), front_back, "mb"),
    ):
        _draw_text(draw, place, direction_letters(vector), color=white, anchor=anchor)


def _draw_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    *,
    color: tuple[int, int, int],
    anchor: str,
) -> None:
    font = ImageFont.load_default(18)
    draw.text(
        place, text, fill=color, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0)
    )


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=3)
    return stream.getvalue()
