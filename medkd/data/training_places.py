"""Propose training candidates in scans that have no list of candidates, only reference nodules.

Candidates are positions that look like nodules (`blobs`), random positions in the lungs, and
positions beside each nodule. The last two teach a classifier normal lung and the exact position of
a nodule. Marks that readers rejected are proposed too. Positions inside a reference nodule, and its
centre, are positive. Positions far from all nodules and excluded findings are negative. All others
are dropped. Nothing is learned, and random positions are seeded by the case, so a scan always has
the same candidates. This is not a detector: it may miss nodules, whose centres are added anyway. In
a patch around a nodule (`Case.extent`) no lungs can be found, so its positions are those of the
whole patch.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from medkd.data.blobs import block_means, find_blobs
from medkd.data.cases import Case, OnProgress, process_cases
from medkd.data.prepared import PreparedScans
from medkd.data.sampling import derive_seed
from medkd.files import write_text
from medkd.lungs import LungField, field_of_patch
from medkd.provenance import sha256_of_text
from medkd.settings import Settings
from medkd.types import LabelledCandidate, Nodule, Point, Scan

FINDER_VERSION = 4
"""Increase it when the proposed positions change."""

UNKNOWN_RADIUS_MM = 5.0
"""Assumed radius of an excluded finding of unknown diameter."""

_LEAST_RESPONSE = 0.06


class ProposalSettings(Settings):
    """Candidates proposed in CT scans that have no list of candidates."""

    blobs: int = Field(60, ge=1, description="Most nodule-like positions per scan.")
    anywhere: int = Field(40, ge=0, description="Random positions in the lungs per scan.")
    beside: int = Field(4, ge=0, description="Positions beside each nodule.")
    gap_mm: float = Field(
        4.0,
        ge=0,
        description="Least distance of a negative to the surface of a nodule or excluded finding.",
    )
    apart_mm: float = Field(6.0, ge=0, description="Least distance of two blobs.")


def propose_in_scan(
    scan: Scan,
    lungs: LungField,
    findings: Sequence[Nodule],
    settings: ProposalSettings,
    *,
    rejected: Sequence[Point] = (),
) -> list[LabelledCandidate]:
    """Propose and label the candidates of one scan.

    Args:
        scan: HU on any grid; its seriesuid seeds the random positions.
        lungs: the lungs of the scan.
        findings: all nodules and excluded findings of the scan.
        settings: numbers and distances of the candidates.
        rejected: marks that readers rejected, LPS mm.

    Returns:
        The same as `label_points`.

    Example:
        >>> from medkd.lungs import find_lungs
        >>> from medkd.synthetic.phantom import PhantomSettings, make_phantom
        >>> phantom = make_phantom(PhantomSettings(site="b"), 0)
        >>> lungs = find_lungs(phantom.scan)
        >>> settings = ProposalSettings(blobs=20)
        >>> found = propose_in_scan(phantom.scan, lungs, phantom.nodules, settings)
        >>> len(phantom.nodules) <= sum(candidate.label for candidate in found) < len(found)
        True
    """
    random = np.random.default_rng(derive_seed(0, "places", scan.seriesuid))
    nodules = [finding for finding in findings if finding.counts_as == "included"]
    points = [
        *find_blob_points(scan, lungs, settings),
        *_draw_anywhere(lungs, settings.anywhere, random),
        *_draw_beside(nodules, settings, random),
        *rejected,
    ]
    inside = [point for point in points if scan.grid.contains_world(point)]
    return label_points(scan.seriesuid, inside, findings, gap_mm=settings.gap_mm)


def find_blob_points(scan: Scan, lungs: LungField, settings: ProposalSettings) -> list[Point]:
    """Find bright compact blobs in the lungs.

    Args:
        scan: HU on any grid.
        lungs: the lungs of the scan.
        settings: number of blobs and distance between them.

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


def label_points(
    seriesuid: str, points: Iterable[Point], findings: Sequence[Nodule], *, gap_mm: float
) -> list[LabelledCandidate]:
    """Label positions as candidates, and add the centres of the nodules.

    Args:
        seriesuid: the scan.
        points: proposed positions, LPS mm.
        findings: all nodules and excluded findings of the scan.
        gap_mm: least distance of a negative to the surface of a finding, mm.

    Returns:
        Centres of included nodules (1), positions inside them (1), and positions more than
        `gap_mm` from all findings (0). All other positions are dropped.
    """
    nodules = [finding for finding in findings if finding.counts_as == "included"]
    found = [LabelledCandidate(seriesuid, nodule.center_mm, 1) for nodule in nodules]
    for point in points:
        if any(_distance_mm(point, nodule) < 0 for nodule in nodules):
            found.append(LabelledCandidate(seriesuid, point, 1))
        elif all(_distance_mm(point, finding) > gap_mm for finding in findings):
            found.append(LabelledCandidate(seriesuid, point, 0))
    return found


def propose_candidates(
    cases: Sequence[Case],
    findings: Iterable[Nodule],
    settings: ProposalSettings,
    *,
    scans: PreparedScans,
    folder: Path,
    rejected: Iterable[LabelledCandidate] = (),
    progress: OnProgress | None = None,
) -> list[LabelledCandidate]:
    """Propose and label the candidates of many scans; saved candidates are read back.

    Args:
        cases: the scans.
        findings: their nodules and excluded findings.
        settings: numbers and distances of the candidates.
        scans: the prepared scans.
        folder: folder of the saved candidates, one file per scan.
        rejected: marks that readers rejected.
        progress: called with (scans done, total).

    Raises:
        SeriesError: lists every scan that cannot be read, and every whole scan that has no lungs.
    """
    of_scan: dict[str, list[Nodule]] = defaultdict(list)
    for finding in findings:
        of_scan[finding.seriesuid].append(finding)
    denied: dict[str, list[Point]] = defaultdict(list)
    for mark in rejected:
        denied[mark.seriesuid].append(mark.center_mm)

    def propose(case: Case) -> list[LabelledCandidate]:
        mine = of_scan.get(case.case_id, [])
        rows = [(f.center_mm, f.diameter_mm, f.counts_as) for f in mine]
        words = [FINDER_VERSION, case.case_id, scans.key(case), settings.model_dump(), rows]
        words += [denied[case.case_id]] if case.case_id in denied else []
        kept = folder / f"{sha256_of_text(json.dumps(words))[:32]}.json"
        if not kept.is_file():
            prepared = scans.load(case)
            scan = prepared.as_scan()
            is_patch = case.extent == "patch"
            lungs = field_of_patch(scan) if is_patch else prepared.found_lungs()
            no = denied.get(case.case_id, [])
            found = propose_in_scan(scan, lungs, mine, settings, rejected=no)
            write_text(kept, json.dumps([(*one.center_mm, one.label) for one in found]))
        return [
            LabelledCandidate(case.case_id, (x, y, z), label)
            for x, y, z, label in json.loads(kept.read_text(encoding="utf-8"))
        ]

    headline = "scans in which no training candidates can be found"
    found = process_cases(propose, cases, headline=headline, progress=progress)
    return [candidate for of_case in found for candidate in of_case]


def _draw_anywhere(lungs: LungField, count: int, random: np.random.Generator) -> list[Point]:
    """Draw positions in the lungs, including their boundary."""
    inside = np.argwhere(lungs.mask)
    drawn = inside[random.integers(len(inside), size=count)] + random.uniform(-0.5, 0.5, (count, 3))
    return _points(lungs.grid.voxel_to_world(drawn))


def _draw_beside(
    nodules: Sequence[Nodule], settings: ProposalSettings, random: np.random.Generator
) -> list[Point]:
    """Draw positions slightly farther from each nodule than the least distance of a negative."""
    points: list[Point] = []
    for nodule in nodules:
        direction = random.normal(size=(settings.beside, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        surface = max(nodule.diameter_mm, 0.0) / 2 + settings.gap_mm
        reach = surface + random.uniform(0.2, 9.0, settings.beside)
        points += _points(np.asarray(nodule.center_mm) + direction * reach[:, None])
    return points


def _points(points_mm: NDArray[np.float64]) -> list[Point]:
    return [(x, y, z) for x, y, z in points_mm.round(3).tolist()]


def _distance_mm(point: Point, finding: Nodule) -> float:
    """Return the distance of a point from the surface of a finding; negative inside."""
    known = finding.diameter_mm > 0
    radius = finding.diameter_mm / 2 if known else UNKNOWN_RADIUS_MM
    return float(np.linalg.norm(np.subtract(point, finding.center_mm))) - radius


def _interior(
    scan: Scan,
    lungs: LungField,
    shape: tuple[int, ...],
    to_scan_vox: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """Return which blocks are in the lungs, without their boundary; the axes are parallel."""
    mask = ndimage.binary_erosion(lungs.mask)
    corners = to_scan_vox(np.array([np.zeros(3), np.asarray(shape) - 1.0]))
    low, high = lungs.grid.world_to_voxel(scan.grid.voxel_to_world(corners))
    axes = [
        np.clip(np.rint(np.linspace(low[n], high[n], shape[n])), 0, mask.shape[n] - 1)
        for n in range(3)
    ]
    inside = mask[np.ix_(*(axis.astype(int) for axis in axes))]
    return inside if inside.any() else np.ones(shape, dtype=np.bool_)
