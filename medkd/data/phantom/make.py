"""Chest CT phantoms with known nodules: which ones to make, and one scan of a set.

Synthetic from end to end: what is measured on them says how well a method finds these nodules in
these chests, and nothing of a clinical performance. The i-th scan depends only on site, seed, i,
size and the wanted number of nodules: not on the number of scans or workers. Site a has thin
slices, a sharp kernel and low noise; site b thick slices, a soft kernel and high noise.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from medkd.data.phantom.canvas import Canvas, Float64
from medkd.data.phantom.difficulty import GENERATOR_VERSION
from medkd.data.phantom.old.candidates import draw_candidates
from medkd.data.phantom.old.chest import build_chest
from medkd.data.phantom.old.findings import Finding, Painter
from medkd.data.phantom.old.patient import draw_patient
from medkd.data.phantom.old.scanner import STYLES, draw_canvas, scan_volume
from medkd.errors import SettingsError
from medkd.io.phantom_mark import GENERATOR
from medkd.settings import Settings
from medkd.types import Acquisition, LabelledCandidate, Nodule, Point, Scan

Site = Literal["a", "b", "c"]
Size = Literal["small", "region", "full"]

SITES: tuple[Site, ...] = ("a", "b", "c")
_EXCLUDED = frozenset({"small nodule", "scar", "plaque"})
_TURN = 0.12
"""Largest component of a turned patient's quaternion, next to 1: about 14 degrees an axis."""


class PhantomSettings(Settings):
    """Which phantoms to make."""

    site: Literal["a", "b", "c", "mixed"] = Field(
        "a",
        description="a: thin slices, sharp kernel, low noise; b: thick, soft, noisy; c: standard "
        "kernel, overlapping slices; mixed: one after the other.",
    )
    scans: int = Field(10, ge=1, le=10_000, description="Number of scans.")
    seed: int = Field(0, ge=0, description="Same seed, same bytes.")
    nodules_per_scan: str = Field("1-4", description='Fewest and most nodules a scan, "A-B".')
    size: Size = Field(
        "small",
        description="small: a whole chest, 2 mm voxels; region: a part of the lungs as a real "
        "scanner's voxels; full: a whole chest, 512 x 512 x 300 voxels and more.",
    )
    oblique: bool = Field(
        False, description="The same patients, but turned against the scanner's axes."
    )

    @field_validator("nodules_per_scan")
    @classmethod
    def _is_range(cls, text: str) -> str:
        found = re.fullmatch(r"(\d{1,2})-(\d{1,2})", text)
        if not found or int(found[1]) > int(found[2]):
            raise ValueError(f'expected "A-B" with A <= B, for example "1-4", got {text!r}')
        return text

    @property
    def nodule_range(self) -> tuple[int, int]:
        """Fewest and most nodules a scan."""
        low, high = self.nodules_per_scan.split("-")
        return int(low), int(high)

    def site_of(self, index: int) -> Site:
        """Return which scanner makes the scan number `index`."""
        return SITES[index % len(SITES)] if self.site == "mixed" else self.site


@dataclass(frozen=True, slots=True, eq=False)
class PhantomScan:
    """One phantom: the scan, its reference standard, its candidates, and what was painted.

    `findings` are in chest mm; `canvas` turns them into LPS mm. `lung` [i, j, k] marks the true
    lungs with all that lies in them.
    """

    scan: Scan
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    candidates: tuple[LabelledCandidate, ...]
    findings: tuple[Finding, ...]
    canvas: Canvas
    lung: NDArray[np.bool_]


def make_phantom(settings: PhantomSettings, index: int) -> PhantomScan:
    """Make the scan number `index` of a set.

    Args:
        settings: `scans` does not matter here.
        index: 0 or more.

    Example:
        >>> phantom = make_phantom(PhantomSettings(site="b", seed=1), 0)
        >>> str(phantom.scan.voxels_hu.dtype), phantom.scan.seriesuid[:5]
        ('int16', '2.25.')
    """
    site = settings.site_of(index)
    if site == "c" or settings.size != "small":
        raise SettingsError("this phantom cannot be made yet", [f"site {site}, {settings.size}"])
    streams = _streams(settings, index)
    style = STYLES[site]
    drawn = draw_canvas(style, streams[0])
    patient = draw_patient(streams[1])
    chest = build_chest(drawn, patient, streams[2])
    low, high = settings.nodule_range
    painter = Painter(drawn, patient, chest, streams[3])
    findings = painter.paint_all(int(streams[3].integers(low, high + 1)))
    voxels = scan_volume(chest.volume_hu, drawn, style, streams[4])
    seriesuid = series_uid(settings, index)
    candidates = draw_candidates(drawn, chest, findings, streams[5])
    acquisition = Acquisition(
        slice_thickness_mm=style.slice_thickness_mm, kernel=style.kernel, manufacturer=GENERATOR
    )
    turn = draw_turn(streams[6]) if settings.oblique else np.eye(3)
    canvas = Canvas(drawn.shape, drawn.spacing_mm, drawn.first_mm, drawn.offset_mm, turn)
    return PhantomScan(
        Scan(seriesuid, voxels, canvas.grid, seriesuid, acquisition),
        _spheres(canvas, seriesuid, findings, kinds=frozenset({"nodule"}), counts_as="included"),
        _spheres(canvas, seriesuid, findings, kinds=_EXCLUDED, counts_as="excluded"),
        tuple(
            LabelledCandidate(seriesuid, to_lps(canvas, place), label)
            for place, label in candidates
        ),
        tuple(findings),
        canvas,
        chest.lung_mm < 0,
    )


def series_uid(settings: PhantomSettings, index: int) -> str:
    """Return a fictive UID under the root 2.25 (UUID-derived, DICOM PS3.5 B.2)."""
    words = _identity(settings, index) + (" oblique" if settings.oblique else "")
    digest = hashlib.sha256(words.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def draw_turn(rng: np.random.Generator) -> Float64:
    """Draw how a patient lies turned, as the rotation [3, 3] of a unit quaternion.

    Made of sums, products and quotients alone, so that it is the same on any machine.
    """
    x, y, z = rng.uniform(-_TURN, _TURN, 3).tolist()
    norm = 1.0 + x * x + y * y + z * z
    rows = [
        [1.0 + x * x - y * y - z * z, 2.0 * (x * y - z), 2.0 * (x * z + y)],
        [2.0 * (x * y + z), 1.0 - x * x + y * y - z * z, 2.0 * (y * z - x)],
        [2.0 * (x * z - y), 2.0 * (y * z + x), 1.0 - x * x - y * y + z * z],
    ]
    return np.asarray(np.asarray(rows) / norm)


def to_lps(canvas: Canvas, place_mm: Float64) -> Point:
    """Return a place in chest mm [3] as LPS mm, as the tables state it."""
    x, y, z = np.round(canvas.to_lps(place_mm[None])[0], 4).tolist()
    return x, y, z


def _identity(settings: PhantomSettings, index: int) -> str:
    words = (GENERATOR_VERSION, settings.size, settings.site, settings.seed,
             settings.nodules_per_scan, index)  # fmt: skip
    return f"{GENERATOR} " + " ".join(map(str, words))


def _streams(settings: PhantomSettings, index: int) -> list[np.random.Generator]:
    """Separate generators, so that a change in one part leaves the draws of the others."""
    digest = hashlib.sha256(_identity(settings, index).encode()).digest()
    root = np.random.SeedSequence(int.from_bytes(digest, "big"))
    return [np.random.Generator(np.random.PCG64(child)) for child in root.spawn(7)]


def _spheres(
    canvas: Canvas,
    seriesuid: str,
    findings: list[Finding],
    *,
    kinds: frozenset[str],
    counts_as: Literal["included", "excluded"],
) -> tuple[Nodule, ...]:
    return tuple(
        Nodule(seriesuid, to_lps(canvas, f.center_mm), round(f.diameter_mm, 4), counts_as)
        for f in findings
        if f.kind in kinds
    )
