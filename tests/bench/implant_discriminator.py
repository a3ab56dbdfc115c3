"""A discriminator that tries to tell implants from real structure by their border.

Boosted trees (fixed settings) on gradient, noise and radial-profile features of the shells around
a border of given centre and diameter. Real structure: blob-like places that a blob finder marks in
the untouched scan. Folds never share a scan or a region of the lungs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

Float = NDArray[np.floating]

SIGMAS_MM = np.array([1.2, 1.5, 2.0, 2.6, 3.4, 4.4, 5.7])
"""Of the blob finder that marks real places."""
APART_MM = 3.0
"""Real places that are nearer are one."""


@dataclass(frozen=True)
class Place:
    """Where to look: index (i, j, k) and radius in mm; `region` groups places."""

    index: tuple[float, float, float]
    radius_mm: float
    region: str


def find_real_places(
    volume_hu: Float, lung: NDArray[np.bool_], spacing_mm: Float
) -> list[tuple[Float, float, float]]:
    """Mark blobs (scale-normalised Laplacian of Gaussian): index, radius in mm, response."""
    clipped = np.clip(volume_hu, -1000, 200).astype(np.float32)
    inner = np.where(lung, clipped, np.float32(np.median(clipped[lung])))
    step = max(round(1.1 / spacing_mm[0]), 1)
    coarse = inner[::step, ::step]
    fine = np.asarray([step, step, 1]) * spacing_mm
    stack = np.stack([_log_mm(coarse, s, fine) for s in SIGMAS_MM])
    peaks = (stack == ndimage.maximum_filter(stack, size=3)) & (stack > 60)
    found = []
    for n, i, j, k in np.argwhere(peaks):
        if lung[i * step, j * step, k]:
            place = np.array([i * step, j * step, k], dtype=float)
            found.append((place, float(np.sqrt(3) * SIGMAS_MM[n]), float(stack[n, i, j, k])))
    return sorted(found, key=lambda f: -f[2])


def thinned(places: list[Float], spacing_mm: Float, *, most: int) -> list[Float]:
    """Keep the first `most` of places [index] that lie apart from those kept before."""
    kept: list[Float] = []
    for place in places:
        apart = min((np.linalg.norm((place - p) * spacing_mm) for p in kept), default=np.inf)
        if apart > APART_MM:
            kept.append(place)
        if len(kept) == most:
            break
    return kept


def _log_mm(image: Float, sigma_mm: float, spacing_mm: Float) -> Float:
    total = np.zeros_like(image)
    for axis in range(3):
        order = [0, 0, 0]
        order[axis] = 2
        total += ndimage.gaussian_filter(image, sigma_mm / spacing_mm, order=order) / (
            spacing_mm[axis] ** 2
        )
    return -(sigma_mm**2) * total


BORDER_MM = np.array([-3.0, -2.0, -1.25, -0.7, -0.3, 0.3, 0.7, 1.25, 2.0, 3.0, 4.0])


def depth_of(volume_hu: Float, index: Float, spacing_mm: Float) -> float:
    """Return the greatest depth in mm of the structure in the slice at a place; 0 without one.

    The structure is what is connected above half height, within 9 mm.
    """
    i, j, k = np.rint(index).astype(int)
    reach = int(np.ceil(13.0 / spacing_mm[0]))
    low = np.maximum([i - reach, j - reach], 0)
    image = volume_hu[low[0] : i + reach + 1, low[1] : j + reach + 1, k].astype(np.float64)
    smooth = ndimage.gaussian_filter(image, 0.5 / spacing_mm[:2])
    x = (np.arange(image.shape[0]) + low[0] - index[0]) * spacing_mm[0]
    y = (np.arange(image.shape[1]) + low[1] - index[1]) * spacing_mm[1]
    away = np.hypot(x[:, None], y[None, :])
    core, around = smooth[away < 1.2].max(), np.percentile(smooth[away < 12], 15)
    labels, _ = ndimage.label((smooth > 0.5 * (core + around)) & (away < 9.0))
    seed = np.where(away < 1.2, smooth, -9999)
    label = labels[np.unravel_index(seed.argmax(), seed.shape)]
    if not label:
        return 0.0
    inside = labels == label
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing_mm[:2])
    return float(depth.max())


class Partners:
    """Real places, each of which is taken once as the partner of a nodule that is as thick."""

    def __init__(self, depths_mm: list[float], rng: np.random.Generator) -> None:
        self._depths = np.log(np.maximum(depths_mm, 0.5))
        self._used, self._rng = np.zeros(len(depths_mm), dtype=bool), rng

    def take(self, depth_mm: float) -> int:
        """Take one of the places whose depth differs least; up to about 10 % counts as equal."""
        unlike = np.abs(self._depths - np.log(max(depth_mm, 0.5)))
        cost = np.maximum(unlike, 0.1) + 0.1 * self._rng.random(len(unlike))
        chosen = int(np.where(self._used, np.inf, cost).argmin())
        self._used[chosen] = True
        return chosen


def _samples(image: Float, flat: Float, radius: float, spacing_mm: Float) -> dict[str, Float]:
    """Values of one slice by the distance from the structure's outline; empty if it has none."""
    mask = flat < 1.4 * radius
    smooth = ndimage.gaussian_filter(image, 0.5 / spacing_mm[:2])
    core = np.percentile(smooth[flat < max(0.35 * radius, 1.0)], 75)
    around = np.percentile(smooth[flat < 1.4 * radius + 4], 15)
    dense = smooth > (core + around) / 2
    labels, _ = ndimage.label(dense & mask)
    seed = np.where(flat < max(0.5 * radius, 1.0), smooth, -9999)
    label = labels[np.unravel_index(seed.argmax(), seed.shape)]
    if core - around < 120 or not label:
        return {}
    region = labels == label
    signed = ndimage.distance_transform_edt(~region, sampling=spacing_mm[:2])
    signed -= ndimage.distance_transform_edt(region, sampling=spacing_mm[:2])
    # no border where the mask cut through, or where something else dense is next to it
    cut = region & (ndimage.distance_transform_edt(mask, sampling=spacing_mm[:2]) < 1.0)
    use = (signed > -3) & (signed < 4)
    for odd in (cut, dense & ~region):
        if odd.any():
            use &= ndimage.distance_transform_edt(~odd, sampling=spacing_mm[:2]) > 2.0
    if use.sum() < 12:
        return {}
    gi, gj = np.gradient(image, *spacing_mm[:2].tolist())
    ni, nj = np.gradient(ndimage.gaussian_filter(signed, 1.0))
    along = (gi * ni + gj * nj) / np.maximum(np.hypot(ni, nj), 1e-6)
    rough = image - ndimage.median_filter(image, 3)
    return {
        "at": signed[use], "hu": image[use], "grad": np.hypot(gi, gj)[use], "normal": along[use],
        "rough": rough[use], "lap": ndimage.laplace(image)[use],
    }  # fmt: skip


def border_features(volume_hu: Float, place: Place, spacing_mm: Float) -> dict[str, float]:
    """Features of the border that the image itself shows at a place, whatever its shape.

    The structure at the place is cut out at half height within a mask of the place's radius (the
    same for implants and real structure); shells follow its own outline, in the slice.
    """
    centre, radius = np.asarray(place.index), place.radius_mm
    reach = np.ceil((1.4 * radius + 5.0) / spacing_mm[:2]).astype(int)
    depth = max(round(0.5 * radius / spacing_mm[2]), 0)
    middle = np.rint(centre).astype(int)
    low = np.maximum(middle - np.array([*reach, depth + 1]), 0)
    high = np.minimum(middle + np.array([*(reach + 1), depth + 2]), volume_hu.shape)
    patch = volume_hu[low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.float64)
    own = [(np.arange(low[a], high[a]) - centre[a]) * spacing_mm[a] for a in range(3)]
    flat = np.sqrt(own[0][:, None] ** 2 + own[1][None, :] ** 2)
    found = [
        _samples(patch[:, :, k], flat, radius, spacing_mm)
        for k in range(patch.shape[2])
        if abs(own[2][k]) <= (depth + 0.51) * spacing_mm[2]
    ]
    parts = [part for part in found if part]
    if not parts:
        return {}
    s = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    inner, outer = s["hu"][s["at"] < -0.6], s["hu"][s["at"] > 1.2]
    top = np.median(inner) if len(inner) > 3 else s["hu"].max()
    bottom = np.median(outer) if len(outer) > 3 else s["hu"].min()
    contrast = max(top - bottom, 50.0)
    out = {"contrast": contrast, "top": top, "bottom": bottom}
    for n, (a, b) in enumerate(pairwise(BORDER_MM)):
        here = (s["at"] >= a) & (s["at"] < b)
        if here.sum() < 4:
            continue
        hu = s["hu"][here]
        out |= {
            f"hu_{n}": hu.mean(), f"rel_{n}": (hu.mean() - bottom) / contrast, f"sd_{n}": hu.std(),
            f"grad_{n}": s["grad"][here].mean(), f"gradrel_{n}": s["grad"][here].mean() / contrast,
            f"gradp90_{n}": np.percentile(s["grad"][here], 90) / contrast,
            f"normal_{n}": s["normal"][here].mean() / contrast,
            f"normalsd_{n}": s["normal"][here].std() / contrast,
            f"rough_{n}": s["rough"][here].std(), f"lap_{n}": s["lap"][here].std(),
        }  # fmt: skip
    return {k: float(v) for k, v in out.items()}


def table(rows: list[dict[str, float]]) -> Float:
    """Features [rows, names] of places; NaN where a place lacks one."""
    names = sorted({name for row in rows for name in row})
    return np.array([[row.get(name, np.nan) for name in names] for row in rows])


def grouped_auc(
    x: Float, label: NDArray[np.int64], group: NDArray[np.str_], *, folds: int = 5, seed: int = 0
) -> tuple[float, Float]:
    """AUC of out-of-fold scores; whole groups are left out together."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(group))
    fold_of = {name: n % folds for n, name in enumerate(names)}
    fold = np.array([fold_of[g] for g in group])
    scores = np.zeros(len(x))
    for n in range(folds):
        model = HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.08, max_leaf_nodes=15, min_samples_leaf=8,
            l2_regularization=1.0, random_state=0,
        )  # fmt: skip
        model.fit(x[fold != n], label[fold != n])
        scores[fold == n] = model.predict_proba(x[fold == n])[:, 1]
    return float(roc_auc_score(label, scores)), scores
