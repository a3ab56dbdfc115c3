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

from medkd.errors import SeriesError
from medkd.synthetic.implant.brood import Implant
from medkd.synthetic.implant.rehearse import REHEARSED, rehearse
from medkd.synthetic.implant.response import ScanResponse
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.implant.site import ImplantSite, add_patch, slice_axis
from medkd.synthetic.phantom.forms import Form
from medkd.types import Scan

Int16 = NDArray[np.int16]

VERSION = "5"
"""Raised whenever the same settings put other nodules into the same scan."""

Progress = Callable[[str, int, int], None]
"""Called with (what, done, in all)."""


def _silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, eq=False)
class ImplantedScan:
    """A scan with synthetic nodules.

    Args:
        scan: with the nodules, on the grid of the original.
        original: as it was.
        implants: what was put in.
        response: with which nodules were drawn, fitted to the original.
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
    """Put nodules into a scan.

    Args:
        scan: a real chest CT, HU on any grid.
        settings: how many and of what kind.
        forms: outlines of 1 mm diameter to draw from; analytic ones where empty.
        progress: told how far it is.

    Raises:
        SeriesError: if no lungs are found, or if they have no room for as many nodules.

    Example:
        >>> from medkd.synthetic.phantom import PhantomSettings, make_phantom
        >>> phantom = make_phantom(PhantomSettings(), 0)
        >>> made = implant_scan(phantom.scan, ImplantSettings(n=1))
        >>> len(made.implants), made.scan.voxels_hu.shape == phantom.scan.voxels_hu.shape
        (1, True)
    """
    told = progress if progress is not None else _silent
    axis = slice_axis(scan.grid)
    rng = np.random.Generator(np.random.PCG64(_seed_of(scan, settings)))
    site = rehearse(
        ImplantSite.of(scan, axis, rng), settings, forms=forms,
        progress=lambda done: told("rehearsing kinds", done, REHEARSED),
    )  # fmt: skip
    told("rehearsing kinds", REHEARSED, REHEARSED)
    altered = site.voxels_hu.copy(order="K")
    implants: list[Implant] = []
    for number in range(settings.n):
        made = site.implant(settings, forms=forms, rng=rng)
        if made is None:
            reason = f"{number} of {settings.n} nodules fit: ask for fewer, or for smaller ones"
            raise SeriesError(f"{scan.seriesuid}: no room for more nodules", [reason])
        add_patch(altered, made.patch)
        implants.append(made)
        told("putting in nodules", number + 1, settings.n)
    voxels = np.moveaxis(altered, 2, axis)
    fresh = Scan(scan.seriesuid, voxels, scan.grid, scan.patient_id, scan.acquisition, scan.notes)
    return ImplantedScan(fresh, scan, tuple(implants), site.response)


def _seed_of(scan: Scan, settings: ImplantSettings) -> int:
    words = f"medkd implant {VERSION} {scan.seriesuid} {settings.model_dump_json()}"
    return int.from_bytes(hashlib.sha256(words.encode()).digest(), "big")
