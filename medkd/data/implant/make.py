"""Nodules of known size, kind and place into one real scan.

What is put in depends on the scan, its name and the settings alone. The scan that is passed in is
not changed. Slices may lie along any axis; inside, they lie along k.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medkd.data.implant.draw import Kind, draw_kind, draw_outline, draw_tags, retouched
from medkd.data.implant.likeness import (
    RealStructure,
    describe,
    draw_most_real,
    edge_steepness,
    find_structure,
)
from medkd.data.implant.lung_map import LungMap, lung_voxels, map_lungs
from medkd.data.implant.paint import Patch, Place, draw_patch
from medkd.data.implant.places import PlaceFinder, place_finder
from medkd.data.implant.response import ScanResponse, measure_response
from medkd.data.implant.settings import ImplantSettings
from medkd.data.phantom.forms import Float64, Form, Keep, true_sphere
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
_CHOICES = 16
"""Nodules that are drawn for each that is put in; fewer where they are large."""
_ALL_CHOICES_MM = 9.0
_MODELS_EACH, _MOST_MODELS = 30, 180
_STRONGEST = 80
_MORE_OVERSHOOT = (0.0, 0.15, 0.3)
"""More shows as a dark ring."""
_TRIALS = 12


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
    site = ImplantSite.of(scan, axis, rng).sharpened(settings)
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
        structure: real blob-like places.
        made: descriptions of nodules that were drawn so far.
        real: descriptions of real structure drawn so far.
    """

    voxels_hu: Int16
    grid: VoxelGrid
    response: ScanResponse
    lungs: LungMap
    finder: PlaceFinder
    structure: RealStructure
    made: list[Float64] = field(default_factory=list, repr=False)
    real: list[Float64] = field(default_factory=list, repr=False)

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
        return cls(turned.voxels_hu, turned.grid, response, lungs, place_finder(lungs),
                   find_structure(lungs))  # fmt: skip

    def sharpened(self, settings: ImplantSettings) -> ImplantSite:
        """Return the site with the response under which nodules are as steep as real structure.

        The pleura leans within a slice and is rounded; where slices are thick, the vessels that
        stand out most show the scanner's sharpness better.
        """
        if not len(self.structure.radius_mm) or not self.response.profiles:
            return self
        real = edge_steepness(
            np.array(
                [
                    describe(self.voxels_hu, center, radius, spacing_mm=self.grid.spacing_mm)
                    for center, radius in zip(
                        self.structure.center_vox[:_STRONGEST],
                        self.structure.radius_mm[:_STRONGEST], strict=True,
                    )
                ]
            )
        )  # fmt: skip
        trial = ImplantSettings(n=1, sizes=settings.sizes, textures=("solid",))
        best, least = self.response, np.inf
        for more in _MORE_OVERSHOOT:
            response = replace(self.response, overshoot=self.response.overshoot + more)
            site = replace(self, response=response)
            rng = np.random.Generator(np.random.PCG64(0))
            made = [
                implant
                for _ in range(_TRIALS)
                for implant in site._drawn(draw_kind(trial, rng), (), rng, choices=1)[1]
            ]
            off = abs(edge_steepness(site._described(made)) / real - 1.0) if made else np.inf
            if off < least:
                best, least = response, off
        return replace(self, response=best)

    def implant(
        self, settings: ImplantSettings, *, forms: Sequence[Form], rng: np.random.Generator
    ) -> Implant | None:
        """Draw one nodule and a place for it; None where nothing fits."""
        for _ in range(_TRIES):
            kind = draw_kind(settings, rng, structure_hu=self.structure.density_hu)
            places, made = self._drawn(kind, forms, rng, choices=_CHOICES)
            if not made:
                continue
            chosen = self._most_real(made, rng)
            self.finder.take(places[chosen], made[chosen].changed_mm + _APART_MM)
            return made[chosen]
        return None

    def _drawn(
        self, kind: Kind, forms: Sequence[Form], rng: np.random.Generator, *, choices: int
    ) -> tuple[NDArray[np.int64], list[Implant]]:
        """Draw some nodules of a kind at different places; fewer where they are large."""
        fewer = min(_ALL_CHOICES_MM / kind.diameter_mm, 1.0) ** 2
        count = max(int(choices * fewer), min(choices, 3))
        places = self.finder.find(kind.attachment, kind.diameter_mm / 2.0, rng, count=count)
        made = []
        for place in places:
            made.append(self.put(_form_of(kind, forms, rng), kind, place, rng=rng))
            kind = retouched(kind, rng, self.structure.density_hu)
        return places, made

    def _described(self, made: Sequence[Implant]) -> Float64:
        """Describe the borders of nodules [N, features]."""
        return np.array(
            [
                describe(
                    self.voxels_hu, self.grid.world_to_voxel(implant.center_mm),
                    implant.diameter_mm / 2.0, spacing_mm=self.grid.spacing_mm,
                    changes=(implant.patch.box, implant.patch.added_hu),
                )
                for implant in made
            ]
        )  # fmt: skip

    def _most_real(self, made: Sequence[Implant], rng: np.random.Generator) -> int:
        """Choose a nodule whose border is like that of real structure."""
        radius = float(np.mean([implant.diameter_mm for implant in made])) / 2.0
        models = self.structure.like(
            radius, rng, count=min(_MODELS_EACH, _MOST_MODELS - len(self.real))
        )
        self.made.extend(self._described(made))
        self.real.extend(
            describe(self.voxels_hu, model, radius, spacing_mm=self.grid.spacing_mm)
            for model in models
        )
        if len(made) == 1 or len(self.real) < 2:
            return 0
        return draw_most_real(np.array(self.made), np.array(self.real), rng, choices=len(made))

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
            place=Place(center_vox, axes, keep, draw_tags(rng, kind)),
            response=self.response, rng=rng,
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
        return draw_outline(rng, kind.outline, kind.diameter_mm)
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
