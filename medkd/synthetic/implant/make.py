"""Adds synthetic nodules of known size, kind and place to one real scan.

The nodules depend only on the scan (voxels, grid, series UID), the settings and the outlines to
draw from. The original scan is not changed. Its slices may be stacked along any array axis;
internally they are stacked along k.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.synthetic.implant.draw import Kind, draw_kind, draw_outline, draw_tags
from medkd.synthetic.implant.measured import MeasuredScan, measure_scan, slice_axis
from medkd.synthetic.implant.paint import Patch, Place, draw_patch
from medkd.synthetic.implant.response import ScanResponse
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.phantom.canvas import Float64
from medkd.synthetic.phantom.forms import Form, Keep, true_sphere
from medkd.types import Scan

Int16 = NDArray[np.int16]

VERSION = "6"
"""Must be raised whenever the same settings produce other nodules in the same scan."""

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""

_LOWEST_HU, _HIGHEST_HU = -1024, 3071
_APART_MM = 8.0
_TRIES = 4
"""Number of kinds that are drawn before a scan counts as full."""


@dataclass(frozen=True, slots=True, eq=False)
class Implant:
    """One synthetic nodule.

    Args:
        center_mm: (3,) LPS mm, true centre of mass of its outline.
        diameter_mm: diameter of the sphere of the same volume, without the part beyond the pleura.
        kind: drawn properties.
        contrast_hu: greatest value that was added to a voxel.
        changed_mm: distance of the farthest changed voxel from the centre.
        patch: values that were added to voxels, with slices along k.
    """

    center_mm: Float64
    diameter_mm: float
    kind: Kind
    contrast_hu: int
    changed_mm: float
    patch: Patch


@dataclass(frozen=True, slots=True, eq=False)
class ImplantedScan:
    """A scan with synthetic nodules.

    Args:
        scan: scan with the nodules, on the grid of the original.
        original: scan without them.
        implants: the nodules.
        response: response by which the nodules were blurred.
    """

    scan: Scan
    original: Scan
    implants: tuple[Implant, ...]
    response: ScanResponse


def implant_scan(
    scan: Scan,
    settings: ImplantSettings,
    *,
    forms: Sequence[Form] = (),
    progress: Progress | None = None,
) -> ImplantedScan:
    """Add nodules to a copy of a scan.

    Args:
        scan: a real chest CT, HU on any grid.
        settings: number, sizes and kinds of nodules.
        forms: outlines of 1 mm diameter to draw from; if empty, outlines are analytic.
        progress: called after each nodule.

    Raises:
        SeriesError: if no lungs are found, or if they have no room for so many nodules.

    Example:
        >>> from medkd.synthetic.phantom import PhantomSettings, make_phantom
        >>> phantom = make_phantom(PhantomSettings(), 0)
        >>> made = implant_scan(phantom.scan, ImplantSettings(n=1))
        >>> len(made.implants), made.scan.voxels_hu.shape == phantom.scan.voxels_hu.shape
        (1, True)
    """
    rng = np.random.Generator(np.random.PCG64(_seed_of(scan, settings)))
    measured = measure_scan(scan, rng)
    altered = measured.voxels_hu.copy(order="K")
    implants: list[Implant] = []
    for number in range(settings.n):
        made = draw_implant(measured, settings, forms=forms, rng=rng)
        if made is None:
            reason = f"{number} of {settings.n} nodules fit: ask for fewer, or for smaller ones"
            raise SeriesError(f"{scan.seriesuid}: no room for more nodules", [reason])
        add_patch(altered, made.patch)
        implants.append(made)
        if progress is not None:
            progress("adding nodules", number + 1, settings.n)
    voxels = np.moveaxis(altered, 2, slice_axis(scan.grid))
    fresh = Scan(scan.seriesuid, voxels, scan.grid, scan.patient_id, scan.acquisition, scan.notes)
    return ImplantedScan(fresh, scan, tuple(implants), measured.response)


def draw_implant(
    measured: MeasuredScan,
    settings: ImplantSettings,
    *,
    forms: Sequence[Form],
    rng: np.random.Generator,
) -> Implant | None:
    """Draw a nodule and a place for it, and mark the place as taken; None if nothing fits.

    Args:
        measured: the scan; its voxels are not changed.
        settings: sizes and kinds to draw from.
        forms: outlines of 1 mm diameter to draw from; if empty, outlines are analytic.
        rng: source of the draws.
    """
    for _ in range(_TRIES):
        kind = draw_kind(settings, rng, vessel_hu=measured.vessel_hu)
        places = measured.finder.find(kind.attachment, kind.diameter_mm / 2.0, rng)
        if len(places):
            made = _implant_at(measured, kind, places[0], forms=forms, rng=rng)
            measured.finder.take(places[0], made.changed_mm + _APART_MM)
            return made
    return None


def add_patch(voxels_hu: Int16, patch: Patch) -> None:
    """Add a nodule to voxels in place; the sum is clipped to the range of 12 bits."""
    part = voxels_hu[patch.box]
    changed = patch.added_hu != 0
    fresh = np.clip(part.astype(np.int32) + patch.added_hu, _LOWEST_HU, _HIGHEST_HU)
    part[changed] = fresh[changed].astype(np.int16)


def _implant_at(
    measured: MeasuredScan,
    kind: Kind,
    place_map: NDArray[np.int64],
    *,
    forms: Sequence[Form],
    rng: np.random.Generator,
) -> Implant:
    """Compute a nodule of a kind at a voxel (3,) of the lung map."""
    lungs = measured.finder.lungs
    form = _form_of(kind, forms, rng)
    jitter = rng.uniform(-0.5, 0.5, size=3) * lungs.step
    center_vox = lungs.to_scan_vox(place_map[None])[0] + jitter
    keep = _lung_side(measured, center_vox) if kind.attachment == "pleura" else None
    axes = measured.grid.affine_lps_mm[:3, :3]
    place = Place(center_vox, axes, keep, draw_tags(rng, kind))
    patch = draw_patch(
        measured.voxels_hu, form, kind.tissue, place=place, response=measured.response, rng=rng
    )
    sphere = true_sphere(form, keep, np.zeros(3), edge_mm=kind.tissue.edge_mm)
    center_mm = measured.grid.voxel_to_world(center_vox) + sphere.center_mm
    return Implant(
        center_mm, sphere.diameter_mm, kind, int(patch.added_hu.max(initial=0)),
        _farthest_mm(patch, measured.grid, center_mm), patch,
    )  # fmt: skip


def _lung_side(measured: MeasuredScan, center_vox: Float64) -> Keep:
    """Return a function for the share of offsets [N, 3] in mm on the lung side of the pleura."""
    inverse = np.linalg.inv(measured.grid.affine_lps_mm[:3, :3])

    def keep(offset_mm: Float64) -> Float64:
        places = center_vox + (offset_mm[:, None, :] * inverse).sum(axis=2)
        return np.asarray(np.clip(0.5 - measured.finder.lungs.depth_at(places), 0.0, 1.0))

    return keep


def _form_of(kind: Kind, forms: Sequence[Form], rng: np.random.Generator) -> Form:
    if not forms:
        return draw_outline(rng, kind.outline, kind.diameter_mm)
    return forms[int(rng.integers(len(forms)))].scaled(kind.diameter_mm)


def _farthest_mm(patch: Patch, grid: VoxelGrid, center_mm: Float64) -> float:
    """Return the distance of the farthest changed voxel from the centre."""
    changed = np.argwhere(patch.added_hu != 0)
    if not len(changed):
        return 0.0
    start = np.array([s.start for s in patch.box])
    offset = grid.voxel_to_world(changed + start) - center_mm
    return float(np.sqrt((offset**2).sum(axis=1).max()))


def _seed_of(scan: Scan, settings: ImplantSettings) -> int:
    words = f"medkd implant {VERSION} {scan.seriesuid} {settings.model_dump_json()}"
    return int.from_bytes(hashlib.sha256(words.encode()).digest(), "big")
