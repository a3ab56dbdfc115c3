"""How far *real* nodules are told from real structure, by the discriminator of the implants.

A nodule is no vessel, so the bar of the implants has to be read beside this: the 102 nodules of
LIDC-IDRI in `nodule_cubes` (51 mm cubes of 1 mm voxels) against as many untouched blob-like places
of the same cubes that are as thick in the slice. Implants and the places of their scans are
measured a second time after they were resampled to 1 mm, as the cubes were, and as few at a time:
trees that learn from few tell less.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy import ndimage

from tests.bench.implant_discriminator import (
    Partners,
    Place,
    border_features,
    depth_of,
    find_real_places,
    thinned,
)

DIAMETERS_MM = (4.0, 14.0)
"""Of the nodules that are compared: those of the implants."""
SPACING_MM = np.ones(3)
AT_1_MM = "at 1 mm"
_WINDOW_HU = (-1000.0, 400.0)
"""That the cubes' values span: lung and soft tissue lie at -850 and 50 HU with it."""
_CLOSE_MM = 6.0
_FROM_NODULE_MM = 6.0
_EDGE = 8
_PLACES = 25


def at_1_mm(voxels_hu: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Resample a scan linearly; index times spacing is the index in it."""
    shape = tuple(np.floor((np.array(voxels_hu.shape) - 1) * spacing_mm).astype(int) + 1)
    return ndimage.affine_transform(
        voxels_hu.astype(np.float32), 1.0 / spacing_mm, output_shape=shape, order=1
    )


def reference_rows(root: Path, seeds: tuple[int, ...]) -> list[dict]:
    """Features of real nodules and of their partners; a seed draws order and partners."""
    cubes = np.load(root / "nodule_cubes" / "cubes.npz")
    with (root / "nodule_cubes" / "index.csv").open() as text:
        patients = [row["lidc_patient"] for row in csv.DictReader(text)]
    low, high = _WINDOW_HU
    volumes = [
        (image / 65535.0 * (high - low) + low).astype(np.float32) for image in cubes["images"]
    ]
    nodules, places = [], []
    for number, (volume, mask) in enumerate(zip(volumes, cubes["masks"] > 0, strict=True)):
        center = np.array(ndimage.center_of_mass(mask))
        diameter = 2.0 * float(3.0 * mask.sum() / (4.0 * np.pi)) ** (1 / 3)
        places += [(number, place) for place in _places_of(volume, mask)]
        if DIAMETERS_MM[0] <= diameter <= DIAMETERS_MM[1]:
            own = _row("real nodule", volume, center, diameter, patients[number])
            nodules.append((own, depth_of(volume, center, SPACING_MM)))
    depths = [depth_of(volumes[n], place, SPACING_MM) for n, place in places]
    rows = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        partners = Partners(depths, rng)
        for chosen in rng.permutation(len(nodules)):
            own, depth = nodules[chosen]
            n, place = places[partners.take(depth)]
            other = _row(f"real {AT_1_MM}", volumes[n], place, own["diameter_mm"], patients[n])
            rows += [{**own, "seed": seed}, {**other, "seed": seed}]
    return rows


def _row(
    kind: str, volume_hu: np.ndarray, center: np.ndarray, diameter_mm: float, patient: str
) -> dict:
    place = Place(tuple(center), diameter_mm / 2, patient)
    return {
        "kind": kind, "region": patient, "diameter_mm": diameter_mm,
        "features": border_features(volume_hu, place, SPACING_MM),
    }  # fmt: skip


def _places_of(volume_hu: np.ndarray, nodule: np.ndarray) -> list[np.ndarray]:
    """Blob-like places of a cube away from its nodule, its chest wall and its faces."""
    air = np.pad(ndimage.gaussian_filter(volume_hu, 1.0) < -500, 7, mode="edge")
    closed = ndimage.distance_transform_edt(~air) <= _CLOSE_MM
    lung = (ndimage.distance_transform_edt(closed) > _CLOSE_MM)[7:-7, 7:-7, 7:-7]
    near = ndimage.distance_transform_edt(~nodule) < _FROM_NODULE_MM
    low, high = _EDGE, np.array(volume_hu.shape) - _EDGE
    found = [place for place, _, _ in find_real_places(volume_hu, lung, SPACING_MM)]
    open_ones = [
        place for place in found
        if (place >= low).all() and (place < high).all() and not near[tuple(place.astype(int))]
    ]  # fmt: skip
    return thinned(open_ones, SPACING_MM, most=_PLACES)
