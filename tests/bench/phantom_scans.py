"""What detectors find on whole synthetic scans, beside a blob finder with a random forest.

    python -m tests.bench.phantom_scans OUT [--models NAME,...] [--scans N]

prints JSON. The scans are those of `phantom_difficulty`, whose seed serves for nothing else. OUT
keeps one JSON per scan, so a stopped measurement continues. A scan takes about a minute of one
core.

The forest (scikit-learn's defaults, 300 trees) learns from the blob finder's 120 best marks of a
scan whether they are on a nodule: from their response and width, and from the mean and the standard
deviation of HU in shells around them. Five-fold cross-validation by scan: no mark is scored by
trees that saw its scan.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold

from medkd.detect import detect_nodules
from medkd.evaluate.froc import evaluate_froc
from medkd.jsonio import write_json
from medkd.models.package import LoadedModel, load_model
from medkd.synthetic.phantom import PhantomScan, generator_stamp, make_phantom
from medkd.synthetic.phantom.finder import mark_scan
from medkd.types import Candidate, FrocResult, Nodule, Reference
from tests.bench.phantom_difficulty.measure import MARKS_KEPT, PHANTOMS

MODELS = ("ct-nodule-source", "ct-nodule-small")
FOREST = "blob finder and forest"
SHELLS_MM = (0.0, 2.0, 4.0, 6.0, 9.0, 13.0, 18.0)
SIZES_MM = {"below 6 mm": (0.0, 6.0), "6 to 10 mm": (6.0, 10.0), "10 mm and above": (10.0, 1e9)}
BOOTSTRAP = 1000

Chosen = Callable[[dict[str, Any]], bool]
"""Says whether a nodule counts."""


def measure(number: int, models: dict[str, LoadedModel]) -> dict[str, Any]:
    """Make a scan; return its findings and the marks of all methods."""
    phantom = make_phantom(PHANTOMS, number)
    kinds = [f for f in phantom.findings if f.kind == "nodule"]
    blobs = mark_scan(phantom.scan.voxels_hu, phantom.canvas, phantom.lung)
    places = phantom.canvas.to_lps(blobs.marks_mm[:MARKS_KEPT])
    return {
        "seriesuid": phantom.scan.seriesuid,
        "nodules": [
            {**asdict(nodule), "texture": kind.texture, "attachment": kind.attachment}
            for nodule, kind in zip(phantom.nodules, kinds, strict=True)
        ],
        "excluded": [asdict(finding) for finding in phantom.excluded],
        "marks": {
            name: [(*m.center_mm, m.score) for m in detect_nodules(phantom.scan, model).candidates]
            for name, model in models.items()
        },
        "blobs": [
            {"center_mm": place.round(3).tolist(), "features": features}
            for place, features in zip(places, blob_features(phantom, places), strict=True)
        ],
        "blob_response": blobs.blobs.response[:MARKS_KEPT].round(6).tolist(),
        "blob_sigma_mm": blobs.blobs.sigma_mm[:MARKS_KEPT].round(3).tolist(),
    }


def blob_features(phantom: PhantomScan, places_mm: NDArray[np.float64]) -> list[list[float]]:
    """Return mean and standard deviation of HU in shells around each place."""
    reach = int(SHELLS_MM[-1])
    axis = np.arange(-reach, reach + 1)
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    shell = np.digitize(np.linalg.norm(offsets, axis=1), SHELLS_MM) - 1
    grid = phantom.scan.grid
    found = []
    for place in places_mm:
        voxels = grid.world_to_voxel(place + offsets).T
        hu = ndimage.map_coordinates(
            phantom.scan.voxels_hu, voxels, output=np.float32, order=1, mode="nearest"
        )
        parts = [hu[shell == number] for number in range(len(SHELLS_MM) - 1)]
        found.append([round(float(f(p)), 1) for p in parts for f in (np.mean, np.std)])
    return found


def forest_marks(rows: Sequence[dict[str, Any]]) -> list[Candidate]:
    """Score the blob finder's marks by forests that saw no mark of the same scan."""
    features, labels, scans, places = [], [], [], []
    for row in rows:
        nodules = [(np.array(n["center_mm"]), n["diameter_mm"] / 2) for n in row["nodules"]]
        for n, blob in enumerate(row["blobs"]):
            own = [row["blob_response"][n], row["blob_sigma_mm"][n]]
            features.append([*own, *blob["features"]])
            center = np.array(blob["center_mm"])
            labels.append(any(np.linalg.norm(center - c) < radius for c, radius in nodules))
            scans.append(row["seriesuid"])
            places.append(blob["center_mm"])
    score = np.zeros(len(labels))
    for train, test in GroupKFold(5).split(features, labels, scans):
        forest = RandomForestClassifier(300, random_state=0, n_jobs=-1)
        forest.fit(np.array(features)[train], np.array(labels)[train])
        score[test] = forest.predict_proba(np.array(features)[test])[:, 1]
    return [
        Candidate(uid, (x, y, z), float(value))
        for uid, (x, y, z), value in zip(scans, places, score, strict=True)
    ]


def marks_of(rows: Sequence[dict[str, Any]], name: str) -> list[Candidate]:
    """Return the marks of a model in all scans."""
    return [
        Candidate(row["seriesuid"], (x, y, z), score)
        for row in rows
        for x, y, z, score in row["marks"][name]
    ]


def scored(rows: Sequence[dict[str, Any]], marks: Sequence[Candidate]) -> dict[str, Any]:
    """Return CPM and sensitivities, for all nodules and by size, texture and attachment.

    For one kind of nodules, the others are excluded findings: marks on them are ignored.
    """
    kinds: dict[str, Chosen] = {
        name: partial(has_size, limits=limits) for name, limits in SIZES_MM.items()
    }
    for key in ("texture", "attachment"):
        for value in sorted({n[key] for row in rows for n in row["nodules"]}):
            kinds[f"{key}: {value}"] = partial(has_value, key=key, value=value)
    by = {name: numbers(froc(rows, marks, chosen)) for name, chosen in kinds.items()}
    return {**numbers(froc(rows, marks)), "by": by}


def has_size(nodule: dict[str, Any], limits: tuple[float, float]) -> bool:
    return bool(limits[0] <= nodule["diameter_mm"] < limits[1])


def has_value(nodule: dict[str, Any], key: str, value: str) -> bool:
    return bool(nodule[key] == value)


def froc(
    rows: Sequence[dict[str, Any]], marks: Sequence[Candidate], chosen: Chosen = lambda _: True
) -> FrocResult:
    """Score marks by LUNA16's rules; nodules that are not chosen count as excluded."""
    nodules, excluded = [], []
    for row in rows:
        for found in (*row["nodules"], *row["excluded"]):
            x, y, z = found["center_mm"]
            nodule = Nodule(row["seriesuid"], (x, y, z), found["diameter_mm"], found["counts_as"])
            if nodule.counts_as == "included" and chosen(found):
                nodules.append(nodule)
            else:
                excluded.append(replace(nodule, counts_as="excluded"))
    uids = tuple(row["seriesuid"] for row in rows)
    reference = Reference(tuple(nodules), tuple(excluded), uids)
    return evaluate_froc(marks, reference, track="phantoms", bootstrap=BOOTSTRAP, seed=0)


def numbers(result: FrocResult) -> dict[str, Any]:
    interval = result.interval
    return {
        "nodules": result.nodules,
        "cpm": round(result.cpm_interpolated, 4),
        "interval_95": interval and [round(interval.low, 4), round(interval.high, 4)],
        "sensitivity_at": {rate: round(value, 4) for rate, value in result.sensitivity_at.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--scans", type=int, default=40)
    given = parser.parse_args()
    models = {name: load_model(name) for name in given.models.split(",")}
    shas = "".join(model.info.weights_sha256[:6] for model in models.values())
    rows = []
    for number in range(given.scans):
        path = given.out / f"scan-{generator_stamp()[-6:]}-{shas}-{number:03d}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, measure(number, models))
        rows.append(json.loads(path.read_text(encoding="utf-8")))
        sys.stderr.write(f"{number + 1}/{given.scans}\n")
    result = {
        "generator": generator_stamp(),
        "scans": len(rows),
        "weights_sha256": {name: model.info.weights_sha256 for name, model in models.items()},
        "methods": {
            **{name: scored(rows, marks_of(rows, name)) for name in models},
            FOREST: scored(rows, forest_marks(rows)),
        },
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
