"""One scan of the measurement: made, searched, judged, and dropped; only its row stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from medkd.data.crop import crop_patch
from medkd.models.imported import import_weights
from medkd.models.luna_classifier import HIGH_HU, LOW_HU, LunaClassifierSettings
from medkd.models.package import LoadedModel
from medkd.synthetic.phantom import PhantomScan, PhantomSettings, make_phantom
from medkd.synthetic.phantom.finder import mark_scan
from medkd.types import Candidate, Nodule, Point, Scan
from tests.bench.phantom_difficulty.surroundings import read_surroundings

PHANTOMS = PhantomSettings(site="mixed", size="full", nodules_per_scan="5-8", seed=51312)
"""Scans that serve for nothing else; seeds 51301 to 51310 served earlier generators."""

MARKS_KEPT = 120
"""Of each scan: LUNA16 scores 100, and asks for the 101st score."""
LEAST_DIAMETER_MM = 4.0
"""Smaller nodules are not judged."""
FALSE_MARKS_KEPT = 40
APART_MM = 5.0
"""How far beyond the rim of every finding a false mark lies."""

CLASSIFIER = "weights/luna_nodule_classifier.state"
CLASSIFIER_SHA256 = "0f2af10e3bb0f5159cb6ea0df97a2d9f4ac824e28d18a3f18746f39de5bb0727"


@dataclass(frozen=True, slots=True)
class Place:
    """A nodule, or a false mark of the blob finder.

    Args:
        center_mm: LPS.
        is_nodule: False at a false mark.
        masked_mm: radius that is hidden before the surroundings are read; at a false mark that of
            one of the same scan's nodules, drawn.
        diameter_mm: of a nodule.
        texture: of a nodule.
        attachment: of a nodule.
        blob_score: of a false mark.
        classifier_logit: high means nodule; None: the classifier is not there.
        surroundings: features; None where there are too few voxels.
    """

    center_mm: Point
    is_nodule: bool
    masked_mm: float
    diameter_mm: float = 0.0
    texture: str = ""
    attachment: str = ""
    blob_score: float = 0.0
    classifier_logit: float | None = None
    surroundings: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanRow:
    """Everything measured on one scan."""

    seriesuid: str
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    marks: tuple[Candidate, ...]
    places: tuple[Place, ...]
    seconds: float


def measure_scan(number: int) -> ScanRow:
    """Make and measure the scan of this number."""
    started = time.perf_counter()
    phantom = make_phantom(PHANTOMS, number)
    marks = blob_marks(phantom)
    places = list(judged_places(phantom, marks, np.random.default_rng(number)))
    logits = classifier_logits(phantom.scan, [place.center_mm for place in places])
    return ScanRow(
        phantom.scan.seriesuid,
        phantom.nodules,
        phantom.excluded,
        marks,
        tuple(
            replace(
                place,
                classifier_logit=logit,
                surroundings=read_surroundings(
                    phantom.scan, np.asarray(place.center_mm), radius_mm=place.masked_mm
                ),
            )
            for place, logit in zip(places, logits, strict=True)
        ),
        round(time.perf_counter() - started, 1),
    )


def blob_marks(phantom: PhantomScan) -> tuple[Candidate, ...]:
    """Return the blob finder's best marks inside the true lung."""
    scan = phantom.scan
    seen = mark_scan(scan.voxels_hu, phantom.canvas, phantom.lung)
    places = phantom.canvas.to_lps(seen.marks_mm[:MARKS_KEPT]).round(3).tolist()
    return tuple(
        Candidate(scan.seriesuid, (x, y, z), round(float(response), 6))
        for (x, y, z), response in zip(places, seen.blobs.response, strict=False)
    )


def judged_places(
    phantom: PhantomScan, marks: Sequence[Candidate], rng: np.random.Generator
) -> Iterator[Place]:
    """Yield every nodule that is large enough, and the blob finder's best false marks."""
    painted = [finding for finding in phantom.findings if finding.kind == "nodule"]
    radii: list[float] = []
    for nodule, finding in zip(phantom.nodules, painted, strict=True):
        if nodule.diameter_mm >= LEAST_DIAMETER_MM:
            radii.append(nodule.diameter_mm / 2.0)
            yield Place(
                nodule.center_mm, True, radii[-1], nodule.diameter_mm,
                finding.texture, finding.attachment,
            )  # fmt: skip
    centers = np.asarray([mark.center_mm for mark in marks]).reshape(-1, 3)
    far = far_from_findings(centers, (*phantom.nodules, *phantom.excluded))
    for row in np.flatnonzero(far)[:FALSE_MARKS_KEPT].tolist():
        masked = float(rng.choice(radii)) if radii else LEAST_DIAMETER_MM / 2.0
        yield Place(marks[row].center_mm, False, masked, blob_score=marks[row].score)


def far_from_findings(
    center_mm: NDArray[np.float64], findings: Sequence[Nodule]
) -> NDArray[np.bool_]:
    """Say which places [N, 3] lie farther than `APART_MM` from the rim of every finding."""
    far = np.ones(len(center_mm), dtype=np.bool_)
    for finding in findings:
        distance = np.linalg.norm(center_mm - np.asarray(finding.center_mm), axis=1)
        far &= distance > finding.diameter_mm / 2.0 + APART_MM
    return far


def classifier_logits(scan: Scan, places_mm: Sequence[Point]) -> list[float | None]:
    """Let the classifier of real nodules score places in the scan's own voxels."""
    path = Path(os.environ.get("MEDKD_DATA", "")) / CLASSIFIER
    if not path.is_file():
        return [None] * len(places_mm)
    network, shape = _loaded(path).network, LunaClassifierSettings().patch_shape
    volume = torch.from_numpy(np.asarray(scan.voxels_hu))[None]
    logits: list[float | None] = []
    with torch.inference_mode():
        for place in places_mm:
            patch = crop_patch(
                volume, scan.grid, center_mm=place, patch_shape=shape, pad_value=LOW_HU
            )
            view = (patch.float().clamp(LOW_HU, HIGH_HU) - LOW_HU) / (HIGH_HU - LOW_HU)
            logits.append(round(float(network(view[None])[0, 0]), 5))
    return logits


@lru_cache(maxsize=1)
def _loaded(path: Path) -> LoadedModel:
    return import_weights(path, LunaClassifierSettings(), sha256=CLASSIFIER_SHA256)
