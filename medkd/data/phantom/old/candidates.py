"""Candidate places of a phantom: true ones near nodules, and negatives that look like them."""

from __future__ import annotations

import numpy as np

from medkd.data.phantom.old.chest import Chest
from medkd.data.phantom.old.draw import Canvas, Float64
from medkd.data.phantom.old.findings import Finding

_BRANCHINGS = 22
_VESSELS = 16
_RIBS = 10
_RANDOM = 24
_BESIDE = 3
_GAP_MM = 4.0


def draw_candidates(
    canvas: Canvas, chest: Chest, findings: list[Finding], rng: np.random.Generator
) -> list[tuple[Float64, int]]:
    """Draw the candidates of one scan.

    Args:
        canvas: its voxels.
        chest: its anatomy.
        findings: all that was painted.
        rng: source of jitter and choice.

    Returns:
        Places in chest mm with their class: 1 = within a nodule, 0 = none; negatives keep away
        from nodules and from irrelevant findings, though some stand close to a nodule: with
        them a classifier learns where a nodule is, not only that there is one.
    """
    nodules = [f for f in findings if f.kind == "nodule"]
    places: list[tuple[Float64, int]] = []
    for nodule in nodules:
        places.extend((_near(nodule, rng), 1) for _ in range(int(rng.integers(1, 4))))
    apart = [f for f in findings if f.kind not in {"bump", "knot"}]
    mimics = [f.center_mm for f in findings if f.kind in {"bump", "knot"}]
    beside = [_beside(nodule, rng) for nodule in nodules for _ in range(_BESIDE)]
    hard = [np.asarray(beside).reshape(-1, 3),
            _jitter(np.asarray(mimics).reshape(-1, 3), rng), _on_vessels(canvas, chest, rng),
            _at_ribs(canvas, chest, rng), _anywhere(canvas, chest, rng)]  # fmt: skip
    negatives = (place for place in np.concatenate(hard) if _is_scanned(place, canvas))
    return places + [(place, 0) for place in negatives if _is_apart(place, apart)]


def _is_scanned(place_mm: Float64, canvas: Canvas) -> bool:
    """Beside a nodule at the end of the lung the volume may end too."""
    index = (place_mm - canvas.first_mm) / canvas.spacing_mm
    return bool(((index >= 0) & (index <= np.asarray(canvas.shape) - 1)).all())


def _is_apart(place_mm: Float64, findings: list[Finding]) -> bool:
    return all(
        np.linalg.norm(place_mm - f.center_mm) > f.diameter_mm / 2 + _GAP_MM for f in findings
    )


def _near(nodule: Finding, rng: np.random.Generator) -> Float64:
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    reach = min(0.5 * nodule.diameter_mm / 2.0, 2.5)
    return np.asarray(nodule.center_mm + direction * reach * rng.random() ** (1 / 3))


def _beside(nodule: Finding, rng: np.random.Generator) -> Float64:
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    apart = nodule.diameter_mm / 2.0 + _GAP_MM + rng.uniform(0.2, 9.0)
    return np.asarray(nodule.center_mm + direction * apart)


def _jitter(places: Float64, rng: np.random.Generator) -> Float64:
    return np.asarray(places + rng.normal(0.0, 0.6, size=places.shape))


def _on_vessels(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Float64:
    """Branch points and places along branches of 1.5 to 8 mm diameter, inside the lung."""
    ends, middles = [], []
    for tree in chest.trees:
        wide = (tree.radius_mm > 0.75) & (tree.radius_mm < 4.0)
        ends.append(tree.end_mm[wide & (tree.ends > 1)])
        middles.append(tree.middles_mm()[wide])
    picked = [
        _pick(_inside(canvas, chest, np.concatenate(group), depth_mm=1.0), count, rng)
        for group, count in ((ends, _BRANCHINGS), (middles, _VESSELS))
    ]
    return _jitter(np.concatenate(picked), rng)


def _at_ribs(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Float64:
    """Places on the pleura beside a rib."""
    inward = chest.ribs_mm * np.array([0.93, 0.91, 1.0])
    depth = canvas.sample(chest.lung_mm, inward)
    return _jitter(_pick(inward[np.abs(depth) < 4.0], _RIBS, rng), rng)


def _anywhere(canvas: Canvas, chest: Chest, rng: np.random.Generator) -> Float64:
    extent = np.asarray(canvas.shape) * canvas.spacing_mm
    points = canvas.first_mm + rng.random((40 * _RANDOM, 3)) * extent
    return _inside(canvas, chest, points, depth_mm=2.0)[:_RANDOM]


def _inside(canvas: Canvas, chest: Chest, points: Float64, *, depth_mm: float) -> Float64:
    return np.asarray(points[canvas.sample(chest.lung_mm, points) < -depth_mm])


def _pick(places: Float64, count: int, rng: np.random.Generator) -> Float64:
    return np.asarray(places[rng.permutation(len(places))[:count]])
