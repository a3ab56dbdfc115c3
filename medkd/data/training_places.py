"""Places to train on in scans of which only the nodules are known.

The blob finder of `blobs` gives places that look like nodules; with them come places anywhere in
the lungs and some beside each nodule, without which a classifier learns neither what plain lung
is nor where a nodule is. What lies inside a reference nodule is
positive, as is its centre; what lies apart from every nodule and excluded finding is negative;
the rest is neither. Nothing is learned, and draws are seeded by the case, so that the same scan
always gives the same places. It finds what trains a classifier and is no detector: a nodule that
it misses is there all the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from medkd.data.blobs import block_means, find_blobs
from medkd.data.cases import Case
from medkd.data.prepared import PreparedScans
from medkd.data.sampling import derive_seed
from medkd.errors import SeriesError
from medkd.files import write_text
from medkd.lungs import LungField
from medkd.provenance import sha256_of_text
from medkd.settings import Settings
from medkd.types import LabelledCandidate, Nodule, Point, Scan

FINDER_VERSION = 4
"""Raised when the finder gives other places."""

UNKNOWN_RADIUS_MM = 5.0
"""Of an excluded finding whose diameter is not known."""

_LEAST_RESPONSE = 0.06

Progress = Callable[[int, int], None]


class ProposalSettings(Settings):
    """Where CT without a list of candidates gets its negative samples from."""

    blobs: int = Field(60, ge=1, description="Most places a scan that the blob finder gives.")
    anywhere: int = Field(40, ge=0, description="Places a scan anywhere in the lungs.")
    beside: int = Field(4, ge=0, description="Places beside each nodule.")
    gap_mm: float = Field(
        4.0,
        ge=0,
        description="Least distance of a negative to the surface of a nodule or excluded finding.",
    )
    apart_mm: float = Field(6.0, ge=0, description="Least distance of two blobs.")


def find_places(
    scan: Scan, lungs: LungField, findings: Sequence[Nodule], settings: ProposalSettings
) -> list[LabelledCandidate]:
    """Find the places of a scan to train on, and say what each is.

    Args:
        scan: HU on any grid; its seriesuid seeds what is drawn.
        lungs: of the scan.
        findings: all its nodules and excluded findings.
        settings: how many.

    Returns:
        As `label_places`.

    Example:
        >>> from medkd.lungs import find_lungs
        >>> from medkd.synthetic.phantom import PhantomSettings, make_phantom
        >>> phantom = make_phantom(PhantomSettings(site="b"), 0)
        >>> lungs = find_lungs(phantom.scan)
        >>> found = find_places(phantom.scan, lungs, phantom.nodules, ProposalSettings(blobs=20))
        >>> len(phantom.nodules) <= sum(place.label for place in found) < len(found)
        True
    """
    random = np.random.default_rng(derive_seed(0, "places", scan.seriesuid))
    nodules = [finding for finding in findings if finding.counts_as == "included"]
    places = [
        *find_bright_places(scan, lungs, settings),
        *_drawn_anywhere(lungs, settings.anywhere, random),
        *_drawn_beside(nodules, settings, random),
    ]
    scanned = [place for place in places if scan.grid.contains_world(place)]
    return label_places(scan.seriesuid, scanned, findings, gap_mm=settings.gap_mm)


def find_bright_places(scan: Scan, lungs: LungField, settings: ProposalSettings) -> list[Point]:
    """Find bright compact places in the lungs.

    Args:
        scan: HU on any grid.
        lungs: of the scan.
        settings: how many, how far apart.

    Returns:
        LPS mm, the most blob-like first.
    """
    image, count = block_means(scan.voxels_hu[lungs.box], scan.grid.spacing_mm)
    corner = np.asarray([part.start for part in lungs.box])

    def to_scan_vox(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(corner + blocks * count + (count - 1) / 2)

    blobs = find_blobs(
        image,
        scan.grid.spacing_mm * count,
        _interior(scan, lungs, image.shape, to_scan_vox),
        most=settings.blobs,
        least_response=_LEAST_RESPONSE,
        apart_mm=settings.apart_mm,
    )
    return _points(scan.grid.voxel_to_world(to_scan_vox(blobs.places_vox)))


def label_places(
    seriesuid: str, places: Iterable[Point], findings: Sequence[Nodule], *, gap_mm: float
) -> list[LabelledCandidate]:
    """Say what each place is to a classifier, and add the centres of the nodules.

    Args:
        seriesuid: of the scan.
        places: of the finder.
        findings: all nodules and excluded findings of the scan.
        gap_mm: as `ProposalSettings.gap_mm`.

    Returns:
        Centres of included nodules (1), places inside them (1), and places away from all
        findings (0); what is inside or near an excluded finding, or beside a nodule, is left out.
    """
    nodules = [finding for finding in findings if finding.counts_as == "included"]
    found = [LabelledCandidate(seriesuid, nodule.center_mm, 1) for nodule in nodules]
    for place in places:
        if any(_depth_mm(place, nodule) < 0 for nodule in nodules):
            found.append(LabelledCandidate(seriesuid, place, 1))
        elif all(_depth_mm(place, finding) > gap_mm for finding in findings):
            found.append(LabelledCandidate(seriesuid, place, 0))
    return found


def propose_candidates(
    cases: Sequence[Case],
    findings: Iterable[Nodule],
    settings: ProposalSettings,
    *,
    scans: PreparedScans,
    folder: Path,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[LabelledCandidate]:
    """Find and label the places of many scans; what a scan gave is kept and not sought again.

    Args:
        cases: scans.
        findings: their nodules and excluded findings.
        settings: of the finder.
        scans: the prepared scans, in which places are sought.
        folder: where places are kept, one file a scan.
        workers: threads.
        progress: called with (scans done, scans in all).

    Raises:
        SeriesError: naming every scan that cannot be read or has no lungs.
    """
    of_scan: dict[str, list[Nodule]] = defaultdict(list)
    for finding in findings:
        of_scan[finding.seriesuid].append(finding)
    candidates: list[LabelledCandidate] = []
    reasons: list[str] = []
    find = partial(_kept_places, settings=settings, scans=scans, folder=folder)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        found = pool.map(find, cases, [of_scan[case.case_id] for case in cases])
        for number, (case, places) in enumerate(zip(cases, found, strict=True), start=1):
            if isinstance(places, SeriesError):
                reasons += [f"{case.case_id}: {r}" for r in places.reasons or (places.headline,)]
            else:
                candidates += places
            if progress is not None:
                progress(number, len(cases))
    if reasons:
        raise SeriesError("scans in which no places to train on can be found", reasons)
    return candidates


def _kept_places(
    case: Case,
    findings: Sequence[Nodule],
    *,
    settings: ProposalSettings,
    scans: PreparedScans,
    folder: Path,
) -> list[LabelledCandidate] | SeriesError:
    """Return the places of a scan, from its file if there is one; a refusal as a value."""
    rows = [(f.center_mm, f.diameter_mm, f.counts_as) for f in findings]
    try:
        words = [FINDER_VERSION, case.case_id, scans.key(case), settings.model_dump(), rows]
        kept = folder / f"{sha256_of_text(json.dumps(words))[:32]}.json"
        if not kept.is_file():
            prepared = scans.load(case)
            lungs = prepared.found_lungs()
            found = find_places(prepared.as_scan(), lungs, findings, settings)
            write_text(kept, json.dumps([(*place.center_mm, place.label) for place in found]))
    except SeriesError as refusal:
        return refusal
    return [
        LabelledCandidate(case.case_id, (x, y, z), label)
        for x, y, z, label in json.loads(kept.read_text(encoding="utf-8"))
    ]


def _drawn_anywhere(lungs: LungField, count: int, random: np.random.Generator) -> list[Point]:
    """Draw places in the lungs, their rim included."""
    inside = np.argwhere(lungs.mask)
    drawn = inside[random.integers(len(inside), size=count)] + random.uniform(-0.5, 0.5, (count, 3))
    return _points(lungs.grid.voxel_to_world(drawn))


def _drawn_beside(
    nodules: Sequence[Nodule], settings: ProposalSettings, random: np.random.Generator
) -> list[Point]:
    """Draw places that lie a little farther from each nodule than a negative must."""
    places: list[Point] = []
    for nodule in nodules:
        direction = random.normal(size=(settings.beside, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        surface = max(nodule.diameter_mm, 0.0) / 2 + settings.gap_mm
        reach = surface + random.uniform(0.2, 9.0, settings.beside)
        places += _points(np.asarray(nodule.center_mm) + direction * reach[:, None])
    return places


def _points(places_mm: NDArray[np.float64]) -> list[Point]:
    return [(x, y, z) for x, y, z in places_mm.round(3).tolist()]


def _depth_mm(place: Point, finding: Nodule) -> float:
    """Distance from a finding's surface, negative inside."""
    known = finding.diameter_mm > 0
    radius = finding.diameter_mm / 2 if known else UNKNOWN_RADIUS_MM
    return float(np.linalg.norm(np.subtract(place, finding.center_mm))) - radius


def _interior(
    scan: Scan,
    lungs: LungField,
    shape: tuple[int, ...],
    to_scan_vox: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """Mark the blocks of `shape` in the lungs without their rim; axes of both are parallel."""
    mask = ndimage.binary_erosion(lungs.mask)
    corners = to_scan_vox(np.array([np.zeros(3), np.asarray(shape) - 1.0]))
    low, high = lungs.grid.world_to_voxel(scan.grid.voxel_to_world(corners))
    axes = [
        np.clip(np.rint(np.linspace(low[n], high[n], shape[n])), 0, mask.shape[n] - 1)
        for n in range(3)
    ]
    inside = mask[np.ix_(*(axis.astype(int) for axis in axes))]
    return inside if inside.any() else np.ones(shape, dtype=np.bool_)
