"""Tiny scans of the example run with their nodules, marks, results and FROC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medkd.jsonio import write_json
from medkd.runs import ARMS, Prediction, RunFolder
from medkd.types import (
    CPM_RATES,
    Candidate,
    CaseResult,
    Estimate,
    FrocResult,
    Interval,
    PointScores,
)

SHAPE = (64, 64, 32)
SPACING_MM = (5.0, 5.0, 8.0)
ORIGIN_MM = (-160.0, -150.0, -200.0)
THRESHOLD = 0.5
MISS = {"teacher": 0.05, "control": 0.4, "student": 0.15}
"""Share of nodules that an arm's whole-scan run leaves unmarked."""


@dataclass(frozen=True, slots=True)
class ExampleScan:
    """A scan with its nodules (LPS mm, diameter) and labelled candidates."""

    seriesuid: str
    patient_id: str
    nodules: tuple[tuple[tuple[float, float, float], float], ...]
    candidates: tuple[tuple[tuple[float, float, float], int], ...]


def draw_scan(rng: np.random.Generator, number: int) -> ExampleScan:
    nodules = tuple((_place(rng), round(float(rng.uniform(12, 26)), 2)) for _ in range(number % 4))
    true = [(_near(rng, center, diameter / 6), 1) for center, diameter in nodules]
    false = [(_place(rng), 0) for _ in range(10)]
    return ExampleScan(f"example-{number:02d}", f"patient-{number:02d}", nodules, (*true, *false))


def _place(rng: np.random.Generator) -> tuple[float, float, float]:
    """A place inside one of the two lungs."""
    side = rng.choice([-70.0, 70.0])
    x, y, z = rng.uniform(-25, 25), rng.uniform(-40, 40), rng.uniform(-70, 70)
    return round(float(side + x), 2), round(float(8 + y), 2), round(float(-76 + z), 2)


def _near(rng: np.random.Generator, center, spread_mm: float) -> tuple[float, float, float]:
    x, y, z = (round(float(c + rng.uniform(-spread_mm, spread_mm)), 2) for c in center)
    return x, y, z


def write_scan_files(
    run: RunFolder,
    scans: Sequence[ExampleScan],
    tested: Sequence[ExampleScan],
    predictions: Mapping[tuple[str, str], Sequence[Prediction]],
) -> dict[str, tuple[FrocResult, ...]]:
    """Write volumes, reference, marks and results; return each arm's FROC on both tracks."""
    for scan in scans:
        _write_volume(run, scan)
    _write_reference(run, tested)
    found = {}
    for number, arm in enumerate(ARMS):
        rng = np.random.default_rng([5, number])
        marks = [mark for scan in tested for mark in _marks(scan, rng, miss=MISS[arm])]
        _write_marks(run, arm, marks)
        for scan in tested:
            own = tuple(mark for mark in marks if mark.seriesuid == scan.seriesuid)
            result = CaseResult(scan.seriesuid, own, "analysed", seconds=1.5)
            write_json(run.result(arm, scan.seriesuid), result)
        given = [
            Candidate(row.seriesuid, row.center_mm, row.probabilities[0])
            for row in predictions[arm, "test"]
            if row.center_mm is not None
        ]
        found[arm] = (_froc("candidates", given, tested), _froc("whole-scan", marks, tested))
    return found


def _marks(scan: ExampleScan, rng: np.random.Generator, *, miss: float) -> list[Candidate]:
    hits = [
        Candidate(scan.seriesuid, _near(rng, center, diameter / 6), _score(rng, 0.75), diameter)
        for center, diameter in scan.nodules
        if rng.random() > miss
    ]
    false = [Candidate(scan.seriesuid, _place(rng), _score(rng, 0.3), 14.0) for _ in range(6)]
    return sorted([*hits, *false], key=lambda mark: -mark.score)


def _score(rng: np.random.Generator, mean: float) -> float:
    return round(float(np.clip(rng.normal(mean, 0.18), 0.001, 0.999)), 6)


def _write_volume(run: RunFolder, scan: ExampleScan) -> None:
    """A body of soft tissue with two lungs and its nodules, as .mhd with .raw."""
    axes = [o + s * np.arange(n) for o, s, n in zip(ORIGIN_MM, SPACING_MM, SHAPE, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    hu = np.full(SHAPE, -1000.0)
    hu[((x / 150) ** 2 + ((y - 8) / 110) ** 2) < 1] = 40
    for side in (-70.0, 70.0):
        lung = ((x - side) / 48) ** 2 + ((y - 8) / 75) ** 2 + ((z + 76) / 115) ** 2
        hu[lung < 1] = -850
    for center, diameter in scan.nodules:
        apart = (x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2
        hu[apart < (diameter / 2) ** 2] = 20
    noise = np.random.default_rng(len(scan.candidates)).normal(0, 15, SHAPE)
    folder = run.path / "data"
    folder.mkdir(exist_ok=True)
    raw = (hu + noise).astype("<i2").tobytes(order="F")
    (folder / f"{scan.seriesuid}.raw").write_bytes(raw)
    header = {
        "ObjectType": "Image", "NDims": "3", "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": " ".join(map(str, ORIGIN_MM)),
        "ElementSpacing": " ".join(map(str, SPACING_MM)), "DimSize": " ".join(map(str, SHAPE)),
        "ElementType": "MET_SHORT", "ElementDataFile": f"{scan.seriesuid}.raw",
    }  # fmt: skip
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    (folder / f"{scan.seriesuid}.mhd").write_text(text, encoding="utf-8")


def _write_reference(run: RunFolder, tested: Sequence[ExampleScan]) -> None:
    run.reference.mkdir(exist_ok=True)
    head = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
    rows = [
        f"{scan.seriesuid},{x},{y},{z},{diameter}\n"
        for scan in tested
        for (x, y, z), diameter in scan.nodules
    ]
    files = {
        "annotations.csv": head + "".join(rows),
        "annotations_excluded.csv": head + f"{tested[0].seriesuid},70.0,8.0,-76.0,-1.0\n",
        "seriesuids.csv": "".join(f"{scan.seriesuid}\n" for scan in tested),
    }
    for name, text in files.items():
        (run.reference / name).write_text(text, encoding="utf-8")


def _write_marks(run: RunFolder, arm: str, marks: Sequence[Candidate]) -> None:
    rows = [",".join([m.seriesuid, *map(str, m.center_mm), str(m.score)]) for m in marks]
    lines = ["seriesuid,coordX,coordY,coordZ,probability", *rows]
    run.marks(arm).parent.mkdir(parents=True, exist_ok=True)
    run.marks(arm).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _froc(track: str, marks: Sequence[Candidate], tested: Sequence[ExampleScan]) -> FrocResult:
    """A plain FROC: best mark of each nodule against all marks on none; no ignore list."""
    spheres = [(scan.seriesuid, *nodule) for scan in tested for nodule in scan.nodules]
    best: dict[int, float] = {}
    false, double = [], 0
    for mark in sorted(marks, key=lambda mark: -mark.score):
        hit = [n for n, sphere in enumerate(spheres) if _inside(mark, sphere)]
        double += sum(n in best for n in hit)
        for n in hit:
            best.setdefault(n, mark.score)
        false += [] if hit else [mark.score]
    cuts = np.unique([mark.score for mark in marks])[::-1]
    rates = np.array([np.sum(np.array(false) >= cut) for cut in cuts]) / len(tested)
    found = np.array([sum(score >= cut for score in best.values()) for cut in cuts])
    sensitivity = found / len(spheres)
    at = {f"{r:g}": float(np.interp(r, [0, *rates], [0, *sensitivity])) for r in CPM_RATES}
    nearest = [float(sensitivity[np.argmin(np.abs(rates - r))]) for r in CPM_RATES]
    cpm = float(np.mean(list(at.values())))
    return FrocResult(
        track=track,
        scans=len(tested),
        nodules=len(spheres),
        candidates=len(marks),
        true_positives=len(best),
        false_positives=len(false),
        false_negatives=len(spheres) - len(best),
        ignored_excluded=0,
        ignored_double=double,
        cpm_interpolated=cpm,
        cpm_nearest=float(np.mean(nearest)),
        sensitivity_at=at,
        fp_per_scan=tuple(map(float, rates)),
        sensitivity=tuple(map(float, sensitivity)),
        thresholds=tuple(map(float, cuts)),
        interval=Interval(max(cpm - 0.12, 0.0), min(cpm + 0.1, 1.0)),
        sensitivity_intervals={
            rate: Interval(max(value - 0.15, 0.0), min(value + 0.12, 1.0))
            for rate, value in at.items()
        },
        at_operating_point=_at_threshold(best, false, len(spheres), len(tested)),
    )


def _inside(mark: Candidate, sphere) -> bool:
    seriesuid, center, diameter = sphere
    apart = sum((a - b) ** 2 for a, b in zip(mark.center_mm, center, strict=True))
    return mark.seriesuid == seriesuid and apart < (diameter / 2) ** 2


def _at_threshold(best, false, nodules: int, scans: int) -> PointScores:
    hits = sum(score >= THRESHOLD for score in best.values())
    wrong = sum(score >= THRESHOLD for score in false)
    return PointScores(
        threshold=THRESHOLD,
        true_positives=hits,
        false_positives=wrong,
        false_negatives=nodules - hits,
        true_negatives=None,
        sensitivity=Estimate(hits / nodules),
        precision=Estimate(hits / max(hits + wrong, 1)),
        f1=Estimate(2 * hits / (hits + wrong + nodules)),
        fp_per_scan=wrong / scans,
    )
