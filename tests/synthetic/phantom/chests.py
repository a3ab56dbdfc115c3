"""A toy chest without anatomy that is fast to draw: two lungs with a few vessels and a fissure."""

from __future__ import annotations

from functools import cache

import numpy as np

from medkd.data.blobs import find_blobs
from medkd.synthetic.phantom.anatomy import Rendered
from medkd.synthetic.phantom.canvas import Canvas, Float32
from medkd.synthetic.phantom.finder import MarkedScan
from medkd.synthetic.phantom.findings import Finding
from medkd.synthetic.phantom.places import Chooser, Survey, build_survey
from medkd.synthetic.phantom.population import draw_nodules, draw_rest
from medkd.synthetic.phantom.tubes import Tubes

BLOOD_HU = 60.0
_PAINTED: dict[object, Float32] = {}


def axis_mm(canvas: Canvas, axis: int) -> Float32:
    """Return the chest mm of the voxel centres along an axis, to broadcast over [i, j, k]."""
    wide = [1, 1, 1]
    wide[axis] = -1
    return canvas.line_mm(axis).reshape(wide).astype(np.float32)


def canvas_of(spacing: tuple[float, float, float], extent_mm: float = 110.0) -> Canvas:
    width = np.asarray(spacing)
    i, j, k = (int(n) for n in np.round(extent_mm / width))
    first = -(np.array([i, j, k]) - 1) / 2.0 * width
    return Canvas((i, j, k), width, first, np.array([5.0, -8.0, 90.0]))


def lung_of(canvas: Canvas) -> Float32:
    """Return the signed distance to a ball of 45 mm radius."""
    x, y, z = (axis_mm(canvas, axis) for axis in range(3))
    return np.asarray(np.sqrt(x * x + y * y + z * z) - np.float32(45.0), dtype=np.float32)


def branches() -> Tubes:
    rng = np.random.default_rng(7)
    start = rng.uniform(-24.0, 24.0, size=(30, 3))
    along = rng.normal(size=(30, 3))
    end = start + 14.0 * along / np.linalg.norm(along, axis=1, keepdims=True)
    radius = rng.uniform(0.8, 3.2, size=30)
    return Tubes(start, end, radius, radius)


def vessels_of(canvas: Canvas) -> Float32:
    cover = np.zeros(canvas.shape)
    tree = branches()
    for start, end, radius in zip(tree.start_mm, tree.end_mm, tree.start_radius_mm, strict=True):
        low = canvas.index_vox(np.minimum(start, end)[None] - radius - 2.0)[0].astype(int)
        high = canvas.index_vox(np.maximum(start, end)[None] + radius + 2.0)[0].astype(int) + 1
        box = tuple(slice(max(a, 0), b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
        part = canvas.part(box)
        points = np.stack(np.meshgrid(*(part.line_mm(a) for a in range(3)), indexing="ij"), -1)
        along = end - start
        share = np.clip(((points - start) * along).sum(axis=-1) / (along * along).sum(), 0.0, 1.0)
        away = np.linalg.norm(points - start - share[..., None] * along, axis=-1)
        painted = np.clip(0.5 - (away - radius) / canvas.edge_mm, 0.0, 1.0)
        cover[box] = np.maximum(cover[box], painted)
    return np.asarray(cover * (lung_of(canvas) < 0.0), dtype=np.float32)


def chest_hu(canvas: Canvas) -> Float32:
    """Paint the chest; the result is cached per canvas."""
    spacing = canvas.spacing_mm.tolist()
    key = (canvas.shape, tuple(spacing), tuple(canvas.first_mm.tolist()))
    if key not in _PAINTED:
        _PAINTED[key] = _painted(canvas)
    return _PAINTED[key].copy()


def _painted(canvas: Canvas) -> Float32:
    inside = np.clip(0.5 - lung_of(canvas) / canvas.edge_mm, 0.0, 1.0)
    hu = 40.0 - inside * (900.0 - vessels_of(canvas) * (860.0 + BLOOD_HU))
    return np.asarray(hu, dtype=np.float32)


@cache
def survey() -> Survey:
    canvas = canvas_of((2.0, 2.0, 2.0))
    fissure = np.broadcast_to(axis_mm(canvas, 2) - np.float32(4.0), canvas.shape)
    return build_survey(
        canvas,
        Rendered(chest_hu(canvas), lung_of(canvas), vessels_of(canvas)),
        fissure_mm=np.ascontiguousarray(fissure),
        branches=branches(),
        blood_hu=BLOOD_HU,
    )


def marked_scan_of(chest: Survey) -> MarkedScan:
    """Return a scan without noise, with the marks of the finder."""
    found = find_blobs(chest.hu, chest.canvas.spacing_mm, chest.searched_mm < 0.0)
    return MarkedScan(chest.canvas, chest.hu, found)


def chooser_of(rng: np.random.Generator, *, box: np.ndarray | None = None) -> Chooser:
    return Chooser(survey(), marked_scan_of(survey()), box, rng)


def findings_of(
    rng: np.random.Generator,
    *,
    nodules: int,
    diameters_mm: tuple[float, float],
    box: np.ndarray | None = None,
) -> list[Finding]:
    """Return all findings of the toy chest, nodules first."""
    rest = draw_rest(survey(), box_mm=box, rng=rng)
    painted = survey().with_painted(rest)
    chooser = Chooser(painted, marked_scan_of(painted), box, rng)
    found = draw_nodules(chooser, rest, nodules=nodules, rng=rng, diameters_mm=diameters_mm)
    return [*found, *rest]
