"""Nodules of known size, kind and place into one real scan.

What is put in depends on the scan, its name and the settings alone. The scan that is passed in is
not changed. Slices may lie along any axis; inside, they lie along k.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.data.implant.draw import Kind, draw_kind
from medkd.data.implant.lung_map import LungMap, lung_voxels, map_lungs
from medkd.data.implant.paint import Patch, Place, draw_patch
from medkd.data.implant.places import PlaceFinder, place_finder
from medkd.data.implant.response import ScanResponse, measure_response
from medkd.data.implant.settings import ImplantSettings
from medkd.data.phantom.forms import Float64, Form, Keep, draw_form, true_sphere
from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.lungs import find_lungs
from medkd.types import Scan

Int16 = NDArray[np.int16]

VERSION = "1"
"""Raised whenever the same settings put other nodules into the same scan."""

_LOWEST_HU, _HIGHEST_HU = -1024, 3071
_APART_MM = 8.0
_TRIES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Implant:
    """One synthetic nodule.

    Args:
        center_mm: (3,) LPS mm, true centre of mass.
        diameter_mm: of the sphere of the same volume; what the pleura cuts off does not count.
        kind: what was drawn.
        contrast_hu: largest that was added to a voxel.
        changed_mm: no voxel farther from the centre was changed.
        patch: what was added where, slices along k.
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
        scan: with the nodules, on the grid of the original.
        original: as it was.
        implants: what was put in.
        response: measured in the original.
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
    progress: Callable[[int, int], None] | None = None,
) -> ImplantedScan:
    """Put nodules into a scan.

    Args:
        scan: a real chest CT, HU on any grid.
        settings: how many and of what kind.
        forms: outlines of 1 mm diameter to draw from; analytic ones where empty.
        progress: called with (nodules done, nodules in all).

    Raises:
        SeriesError: if no lungs are found, or if they have no room for as many nodules.

    Example:
        >>> from medkd.data.phantom import PhantomSettings, make_phantom
        >>> phantom = make_phantom(PhantomSettings(), 0)
        >>> made = implant_scan(phantom.scan, ImplantSettings(n=1))
        >>> len(made.implants), made.scan.voxels_hu.shape == phantom.scan.voxels_hu.shape
        (1, True)
    """
    axis = slice_axis(scan.grid)
    rng = np.random.Generator(np.random.PCG64(_seed_of(scan, settings)))
    site = ImplantSite.of(scan, axis, rng)
    altered = site.voxels_hu.copy(order="K")
    implants: list[Implant] = []
    for number in range(settings.n):
        made = site.implant(settings, forms=forms, rng=rng)
        if made is None:
            reason = f"{number} of {settings.n} nodules fit: ask for fewer, or for smaller ones"
            raise SeriesError(f"{scan.seriesuid}: no room for more nodules", [reason])
        add_patch(altered, made.patch)
        implants.append(made)
        if progress is not None:
            progress(number + 1, settings.n)
    voxels = np.moveaxis(altered, 2, axis)
    fresh = Scan(scan.seriesuid, voxels, scan.grid, scan.patient_id, scan.acquisition, scan.notes)
    return ImplantedScan(fresh, scan, tuple(implants), site.response)


@dataclass(frozen=True, slots=True, eq=False)
class ImplantSite:
    """One scan made ready: its lungs, its response, its free places. Slices lie along k.

    Args:
        voxels_hu: [i, j, k] of the original.
        grid: of these axes.
        response: of the scan.
        lungs: map of them.
        finder: of places; knows which are taken.
    """

    voxels_hu: Int16
    grid: VoxelGrid
    response: ScanResponse
    lungs: LungMap
    finder: PlaceFinder

    @classmethod
    def of(cls, scan: Scan, axis: int, rng: np.random.Generator) -> ImplantSite:
        """Measure a scan whose slices lie along `axis`."""
        turned = _turned(scan, axis)
        field = find_lungs(turned)
        start = np.array([s.start for s in field.box], dtype=np.int64)
        count = np.array([s.stop - s.start for s in field.box], dtype=np.int64)
        ones = np.ones(3, dtype=np.int64)
        response = measure_response(
            turned.voxels_hu[field.box].astype(np.float32),
            lung_voxels(field, turned.grid, start, shape=count, step=ones),
            spacing_mm=turned.grid.spacing_mm,
            thickness_mm=scan.acquisition.slice_thickness_mm,
            rng=rng,
        )
        lungs = map_lungs(turned.voxels_hu, turned.grid, field)
        return cls(turned.voxels_hu, turned.grid, response, lungs, place_finder(lungs))

    def implant(
        self, settings: ImplantSettings, *, forms: Sequence[Form], rng: np.random.Generator
    ) -> Implant | None:
        """Draw one nodule and a place for it; None where nothing fits."""
        for _ in range(_TRIES):
            kind = draw_kind(settings, rng)
            found = self.finder.find(kind.attachment, kind.diameter_mm / 2.0, rng)
            if found is not None:
                form = _form_of(kind, forms, rng)
                self.finder.take(found, form.reach_mm + _APART_MM)
                return self.put(form, kind, found, rng=rng)
        return None

    def put(
        self, form: Form, kind: Kind, place_map: NDArray[np.int64], *, rng: np.random.Generator
    ) -> Implant:
        """Work out a nodule at a voxel of the lungs' map."""
        jitter = rng.uniform(-0.5, 0.5, size=3) * self.lungs.step
        center_vox = self.lungs.to_scan_vox(place_map[None])[0] + jitter
        axes = self.grid.affine_lps_mm[:3, :3]
        keep = self._lung_side(center_vox) if kind.attachment == "pleura" else None
        patch = draw_patch(
            self.voxels_hu, form, kind.tissue,
            place=Place(center_vox, axes, keep), response=self.response, rng=rng,
        )  # fmt: skip
        sphere = true_sphere(form, keep, np.zeros(3), edge_mm=kind.tissue.edge_mm)
        center_mm = self.grid.voxel_to_world(center_vox) + sphere.center_mm
        return Implant(
            center_mm, sphere.diameter_mm, kind, int(patch.added_hu.max(initial=0)),
            _farthest_mm(patch, self.grid, center_mm), patch,
        )  # fmt: skip

    def _lung_side(self, center_vox: Float64) -> Keep:
        """Say of offsets in mm which lie on the lung's side of the pleura."""
        inverse = np.linalg.inv(self.grid.affine_lps_mm[:3, :3])

        def keep(offset_mm: Float64) -> Float64:
            places = center_vox + (offset_mm[:, None, :] * inverse).sum(axis=2)
            return np.asarray(np.clip(0.5 - self.lungs.depth_at(places), 0.0, 1.0))

        return keep


def add_patch(voxels_hu: Int16, patch: Patch) -> None:
    """Add a nodule to voxels in place, within what 12 bits hold."""
    part = voxels_hu[patch.box]
    changed = patch.added_hu != 0
    fresh = np.clip(part.astype(np.int32) + patch.added_hu, _LOWEST_HU, _HIGHEST_HU)
    part[changed] = fresh[changed].astype(np.int16)


def slice_axis(grid: VoxelGrid) -> int:
    """Return the axis along which slices lie: that of the widest spacing, k where in doubt."""
    spacing = grid.spacing_mm
    widest = int(spacing.argmax())
    return widest if spacing[widest] > 1.05 * spacing[2] else 2


def _turned(scan: Scan, axis: int) -> Scan:
    """View a scan with its slices along k."""
    order = [a for a in range(3) if a != axis] + [axis]
    affine = scan.grid.affine_lps_mm[:, [*order, 3]]
    voxels = scan.voxels_hu.transpose(order)
    i, j, k = voxels.shape
    return Scan(scan.seriesuid, voxels, VoxelGrid((i, j, k), affine), scan.patient_id,
                scan.acquisition)  # fmt: skip


def _form_of(kind: Kind, forms: Sequence[Form], rng: np.random.Generator) -> Form:
    if not forms:
        return draw_form(rng, kind.outline, kind.diameter_mm)
    return forms[int(rng.integers(len(forms)))].scaled(kind.diameter_mm)


def _farthest_mm(patch: Patch, grid: VoxelGrid, center_mm: Float64) -> float:
    """Distance of the farthest voxel that changed from the centre."""
    changed = np.argwhere(patch.added_hu != 0)
    if not len(changed):
        return 0.0
    start = np.array([s.start for s in patch.box])
    offset = grid.voxel_to_world(changed + start) - center_mm
    return float(np.sqrt((offset**2).sum(axis=1).max()))


def _seed_of(scan: Scan, settings: ImplantSettings) -> int:
    words = f"medkd implant {VERSION} {scan.seriesuid} {settings.model_dump_json()}"
    return int.from_bytes(hashlib.sha256(words.encode()).digest(), "big")
