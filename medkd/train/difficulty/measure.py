"""One scan of the bench: made, searched, judged, and dropped; only its row stays."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medkd.config.difficulty_settings import BlobSettings, DifficultySettings
from medkd.jsonio import write_json
from medkd.synthetic.phantom import PhantomScan, make_phantom
from medkd.synthetic.phantom.blob_log import prune_peaks
from medkd.train.difficulty.judge import judge_file, score_places
from medkd.train.difficulty.places import (
    LungPeaks,
    as_point,
    far_from_findings,
    find_lung_peaks,
    placed_nodules,
    sigmas_of,
)
from medkd.train.difficulty.rows import MarksAt, Place, ScanRow
from medkd.train.difficulty.surroundings import read_surroundings
from medkd.types import Candidate

Float64 = NDArray[np.float64]
Part = Literal["tuning", "test"]

MARKS_KEPT = 120
"""Of each scan: LUNA16 scores 100, and asks for the 101st score."""


@dataclass(frozen=True, slots=True)
class ScanTask:
    """What a worker is told.

    Args:
        settings: of the bench.
        part: which scans.
        number: which of them.
        thresholds: the blob finder's, tried one by one.
        judged: the threshold whose false marks are judged; None: nothing is judged.
        path: where the row goes.
    """

    settings: DifficultySettings
    part: Part
    number: int
    thresholds: tuple[float, ...]
    judged: float | None
    path: Path


def measure_scan(task: ScanTask) -> Path:
    """Measure one scan and store its row, whole or not at all; return where."""
    started = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(what: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[what], started = round(now - started, 2), now

    settings = task.settings
    phantom = make_phantom(settings.phantoms(task.part), task.number)
    lap("made")
    found = find_lung_peaks(phantom, settings.blobs)
    marks = tuple(_marks_at(phantom, found, settings.blobs, threshold=t) for t in task.thresholds)
    lap("blobs")
    places: tuple[Place, ...] = ()
    if task.judged is not None:
        false = marks[task.thresholds.index(task.judged)].marks
        places = judged_places(phantom, false, settings=settings, number=task.number)
        lap("judged")
    scan = phantom.scan
    row = ScanRow(
        number=task.number,
        seriesuid=scan.seriesuid,
        kernel=scan.acquisition.kernel or "",
        shape=scan.grid.shape,
        spacing_mm=tuple(np.round(scan.grid.spacing_mm, 4).tolist()),
        nodules=phantom.nodules,
        excluded=phantom.excluded,
        marks=marks,
        places=places,
        seconds=seconds,
        peak_mib=_peak_mib(),
    )
    write_json(task.path, row)
    return task.path


def judged_places(
    phantom: PhantomScan,
    marks: tuple[Candidate, ...],
    *,
    settings: DifficultySettings,
    number: int,
) -> tuple[Place, ...]:
    """Judge every nodule that is large enough, and the blob finder's best false marks."""
    bare = list(_bare_places(phantom, marks, settings=settings, number=number))
    scores: Float64 | None = None
    weights = judge_file(settings.judge)
    if settings.judge is not None and weights is not None:
        centers = [place.center_mm for place in bare]
        scores = score_places(phantom.scan, centers, weights, sha256=settings.judge.sha256)
    return tuple(
        Place(
            place.center_mm, place.is_nodule, place.diameter_mm, place.masked_mm,
            place.texture, place.outline, place.attachment, place.blob_score,
            None if scores is None else round(float(scores[row]), 5),
            _without_nan(
                read_surroundings(
                    phantom.scan, np.asarray(place.center_mm),
                    radius_mm=place.masked_mm, settings=settings.surroundings,
                )
            ),
        )
        for row, place in enumerate(bare)
    )  # fmt: skip


def _bare_places(
    phantom: PhantomScan,
    marks: tuple[Candidate, ...],
    *,
    settings: DifficultySettings,
    number: int,
) -> Iterator[Place]:
    radii: list[float] = []
    for placed in placed_nodules(phantom):
        nodule = placed.nodule
        if nodule.diameter_mm < settings.least_diameter_mm:
            continue
        radii.append(nodule.diameter_mm / 2.0)
        yield Place(
            nodule.center_mm, True, nodule.diameter_mm, radii[-1],
            placed.texture, placed.outline, placed.attachment,
        )  # fmt: skip
    centers = np.asarray([mark.center_mm for mark in marks]).reshape(-1, 3)
    findings = (*phantom.nodules, *phantom.excluded)
    far = far_from_findings(centers, findings, apart_mm=settings.apart_mm)
    rng = np.random.default_rng([settings.seed, number])
    false = [mark for mark, is_far in zip(marks, far, strict=True) if is_far]
    for mark in false[: settings.false_marks_kept]:
        # The mask of a false mark is as large as one of the scan's nodules: it tells nothing.
        masked = float(rng.choice(radii)) if radii else settings.least_diameter_mm / 2.0
        yield Place(mark.center_mm, False, None, masked, blob_score=mark.score)


def _marks_at(
    phantom: PhantomScan, found: LungPeaks, blobs: BlobSettings, *, threshold: float
) -> MarksAt:
    rows = prune_peaks(found.peaks, sigmas_of(blobs), threshold=threshold, overlap=blobs.overlap)
    return MarksAt(
        threshold,
        tuple(
            Candidate(
                phantom.scan.seriesuid,
                as_point(found.center_mm[row]),
                round(float(found.peaks.response[row]), 6),
            )
            for row in rows[:MARKS_KEPT]
        ),
    )


def _without_nan(values: Float64) -> tuple[float | None, ...]:
    return tuple(round(v, 5) if np.isfinite(v) else None for v in values.tolist())


def _peak_mib() -> int:
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, kibibytes on Linux
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
