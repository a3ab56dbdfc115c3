"""One real scan made ready for nodules, and a nodule worked out for a place in it.

Slices lie along k here, wherever they lie in the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medkd.geometry import VoxelGrid
from medkd.lungs import find_lungs
from medkd.synthetic.implant.brood import (
    Brood,
    Implant,
    brood_size,
    fresh_seeds,
    with_one_part_anew,
)
from medkd.synthetic.implant.draw import Kind, draw_kind, draw_outline, draw_tags, retouched
from medkd.synthetic.implant.likeness import (
    Likeness,
    RealStructure,
    describe,
    drawn_by,
    find_structure,
)
from medkd.synthetic.implant.lung_map import LungMap, lung_voxels, map_lungs
from medkd.synthetic.implant.paint import Patch, Place, draw_patch
from medkd.synthetic.implant.places import PlaceFinder, place_finder
from medkd.synthetic.implant.response import ScanResponse, Stray, measure_response
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.phantom.forms import Float64, Form, Keep, true_sphere
from medkd.types import Scan

Int16 = NDArray[np.int16]

_LOWEST_HU, _HIGHEST_HU = -1024, 3071
_APART_MM = 8.0
_TRIES = 4
_ALIKE = 0.01
"""Largest relative difference of spacings that are equal."""
_NONE = Stray()


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
        likeness: knows nodules from real structure, one for each generation; none before a
            rehearsal, or where there is too little structure to learn from.
        stray: how far nodules stray from the response.
    """

    voxels_hu: Int16
    grid: VoxelGrid
    response: ScanResponse
    lungs: LungMap
    finder: PlaceFinder
    structure: RealStructure
    likeness: tuple[Likeness, ...] = ()
    stray: Stray = _NONE

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
        structure = find_structure(turned.voxels_hu, lungs, turned.grid.spacing_mm)
        return cls(turned.voxels_hu, turned.grid, response, lungs, place_finder(lungs), structure)

    def implant(
        self, settings: ImplantSettings, *, forms: Sequence[Form], rng: np.random.Generator
    ) -> Implant | None:
        """Draw a place and one nodule for it; None where nothing fits.

        All that it is chosen from stand at the same place: by their odds of being real, nodules
        would gather where vessels do.
        """
        for _ in range(_TRIES):
            kind = draw_kind(settings, rng, structure_hu=self.structure.density_hu)
            place = self.places(kind, rng, count=1)
            if not len(place):
                continue
            made = self._likest(kind, place[0], forms, rng)
            self.finder.take(place[0], made.changed_mm + _APART_MM)
            return made
        return None

    def _likest(
        self, kind: Kind, place: NDArray[np.int64], forms: Sequence[Form], rng: np.random.Generator
    ) -> Implant:
        """Breed nodules of a kind for a place, and draw one by its odds of being real."""
        if not self.likeness:
            return self.brood(kind, place, fresh_seeds(1, rng), forms).made[0]
        seeds = fresh_seeds(brood_size(kind.diameter_mm), rng)
        brood = self.brood(kind, place, seeds, forms)
        for likeness in self.likeness[:-1]:
            brood = self.bred(brood, likeness.odds(brood.described), forms, rng)
        odds = self.likeness[-1].odds(brood.described)
        return brood.kept(drawn_by(odds, 1, rng)).made[0]

    def places(self, kind: Kind, rng: np.random.Generator, *, count: int) -> NDArray[np.int64]:
        """Find up to `count` free places [N, 3] for a kind, on the lungs' map."""
        return self.finder.find(kind.attachment, kind.diameter_mm / 2.0, rng, count=count)

    def brood(
        self, kind: Kind, place: NDArray[np.int64], seeds: NDArray[np.int64], forms: Sequence[Form]
    ) -> Brood:
        """Work out nodules of a kind for a voxel of the lungs' map from their seeds [N, parts]."""
        made = tuple(self.put(kind, place, own, forms) for own in seeds)
        return Brood(kind, place, seeds, made, self.described(made))

    def bred(
        self, brood: Brood, odds: Float64, forms: Sequence[Form], rng: np.random.Generator
    ) -> Brood:
        """Return the next generation: half of a brood by its log odds [N], and their children."""
        parents = brood.parents(odds, rng)
        seeds = with_one_part_anew(parents.seeds[: len(brood.made) // 2], rng)
        return parents.joined(self.brood(brood.kind, brood.place, seeds, forms))

    def described(self, made: Sequence[Implant]) -> Float64:
        """Describe the borders of nodules [N, features]."""
        return np.array(
            [
                describe(
                    self.voxels_hu, self.grid.world_to_voxel(implant.center_mm),
                    implant.diameter_mm / 2.0, spacing_mm=self.grid.spacing_mm,
                    patch=implant.patch,
                )
                for implant in made
            ]
        )  # fmt: skip

    def put(
        self,
        kind: Kind,
        place_map: NDArray[np.int64],
        seeds: NDArray[np.int64],
        forms: Sequence[Form],
    ) -> Implant:
        """Work out a nodule of a kind at a voxel of the lungs' map; each part has its own seed."""
        outline, substance, tags, blur, grain = (
            np.random.Generator(np.random.PCG64(int(seed))) for seed in seeds
        )
        kind = retouched(kind, substance, self.structure.density_hu)
        form = _form_of(kind, forms, outline)
        jitter = grain.uniform(-0.5, 0.5, size=3) * self.lungs.step
        center_vox = self.lungs.to_scan_vox(place_map[None])[0] + jitter
        axes = self.grid.affine_lps_mm[:3, :3]
        keep = self._lung_side(center_vox) if kind.attachment == "pleura" else None
        response = self.response.strayed(blur, self.stray)
        patch = draw_patch(
            self.voxels_hu, form, kind.tissue,
            place=Place(center_vox, axes, keep, draw_tags(tags, kind)),
            response=response, rng=grain,
        )  # fmt: skip
        sphere = true_sphere(form, keep, np.zeros(3), edge_mm=kind.tissue.edge_mm)
        center_mm = self.grid.voxel_to_world(center_vox) + sphere.center_mm
        return Implant(
            center_mm, sphere.diameter_mm, kind, int(patch.added_hu.max(initial=0)),
            _farthest_mm(patch, self.grid, center_mm), patch, response,
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
    """Return the axis of the slices: that beside two of equal spacing, k where in doubt."""
    i, j, k = np.log(grid.spacing_mm).tolist()
    unlike = [abs(j - k), abs(i - k), abs(i - j)]
    return 2 if unlike[2] < _ALIKE else int(np.argmin(unlike))


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
