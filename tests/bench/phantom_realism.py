"""Phantoms beside a real scan: pictures, and three distributions measured alike on both.

    MEDKD_DATA=... python -m tests.bench.phantom_realism OUT [--site a] [--size full] [--scans 2]

OUT gets axial, coronal and projection pictures, ten nodules of each kind, the histogram of the
lungs' HU, noise power spectra, the distribution of vessel widths, and `numbers.json`. The real
scan is `ct_dicom` (3 mm slices, B70f); phantoms are averaged to slices of 3 mm where vessels are
compared, since the thickness of slices decides which vessels are seen.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from medkd.io.scans import read_scan
from medkd.synthetic.phantom import PhantomScan, PhantomSettings, make_phantom
from tests.bench.realism_measures import (
    View,
    evened,
    lung_values,
    noise_spectrum,
    summary,
    vessel_widths,
    view_of,
)

LUNG_WINDOW = (-1250.0, 150.0)
BODY_WINDOW = (-160.0, 240.0)
KINDS = ("texture", "outline", "attachment")
A_KIND = 10
WANTED = 4 + 3 + 4
"""Textures, outlines and attachments."""
MOST_PARTS = 60
MARGIN_MM = 14.0


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--site", default="a")
    parser.add_argument("--size", default="full")
    parser.add_argument("--scans", type=int, default=2)
    parser.add_argument("--seed", type=int, default=9)
    chosen = parser.parse_args()
    mpl.use("Agg")
    chosen.out.mkdir(parents=True, exist_ok=True)
    real = view_of(read_scan(Path(os.environ["MEDKD_DATA"]) / "ct_dicom"), "real")
    settings = PhantomSettings(
        site=chosen.site, size=chosen.size, seed=chosen.seed, nodules_per_scan="8-8"
    )
    views = [real]
    for index in range(chosen.scans):
        scan = make_phantom(settings, index).scan
        views.append(view_of(scan, f"phantom {chosen.site}{index}"))
    draw_all(views, chosen.out)
    draw_nodules(chosen.out, seed=chosen.seed)


def draw_all(views: list[View], out: Path) -> None:
    """Draw what compares whole scans; the first view is the real one."""
    _axial(views, out / "axial.png")
    _coronal(views, out / "coronal.png")
    _projections(views, out / "mip.png")
    _curves(views, out / "curves.png")
    numbers = {view.name: summary(view) for view in views}
    (out / "numbers.json").write_text(json.dumps(numbers, indent=2) + "\n")


def _show(axis: object, plane: np.ndarray, window: tuple[float, float], aspect: float) -> None:
    """Draw a plane [across, down] in a window."""
    axis.imshow(plane.T, cmap="gray", vmin=window[0], vmax=window[1], aspect=aspect)
    axis.axis("off")


def _axial(views: list[View], path: Path) -> None:
    """Three heights of the lungs in a lung window, the middle one in a body window too."""
    figure = Figure(figsize=(16, 4 * len(views)))
    axes = figure.subplots(len(views), 4, squeeze=False)
    for row, view in zip(axes, views, strict=True):
        inside = np.flatnonzero(view.lung.any(axis=(0, 1)))
        for axis, share in zip(row, (0.75, 0.5, 0.25, 0.5), strict=True):
            k = int(inside[0] + share * (inside[-1] - inside[0]))
            window = BODY_WINDOW if axis is row[-1] else LUNG_WINDOW
            _show(axis, view.hu[:, :, k], window, 1.0)
        row[0].set_title(view.name)
    _save(figure, path)


def _coronal(views: list[View], path: Path) -> None:
    figure = Figure(figsize=(7 * len(views), 14))
    axes = figure.subplots(2, len(views), squeeze=False)
    for column, view in zip(axes.T, views, strict=True):
        inside = np.flatnonzero(view.lung.any(axis=(0, 2)))
        aspect = view.spacing_mm[2] / view.spacing_mm[0]
        for axis, share in zip(column, (0.4, 0.62), strict=True):
            j = int(inside[0] + share * (inside[-1] - inside[0]))
            _show(axis, view.hu[:, j, ::-1], LUNG_WINDOW, aspect)
        column[0].set_title(view.name)
    _save(figure, path)


def _projections(views: list[View], path: Path) -> None:
    """Largest HU in the lungs: of all of the lung to the front, and of 15 mm across."""
    figure = Figure(figsize=(7 * len(views), 14))
    axes = figure.subplots(2, len(views), squeeze=False)
    for column, view in zip(axes.T, views, strict=True):
        even, lung = evened(view)
        only = np.where(lung, even, np.float32(-1000.0))
        _show(column[0], only.max(axis=1)[:, ::-1], (-850.0, 150.0), 1.0)
        inside = np.flatnonzero(view.lung.any(axis=(0, 1)))
        middle, half = int(np.median(inside)), round(7.5 / view.spacing_mm[2])
        slab = view.hu[:, :, middle - half : middle + half + 1]
        _show(column[1], slab.max(axis=2), (-1000.0, 150.0), 1.0)
        column[0].set_title(view.name)
    _save(figure, path)


def _curves(views: list[View], path: Path) -> None:
    figure = Figure(figsize=(20, 6))
    lung, noise, vessels = figure.subplots(1, 3)
    for number, view in enumerate(views):
        style = {"color": "black", "lw": 2.5} if number == 0 else {"lw": 1.5}
        values = lung_values(view)
        share, edges = np.histogram(values, bins=np.arange(-1100, 200, 20), density=True)
        lung.semilogy(edges[:-1] + 10, np.maximum(share, 1e-6), label=view.name, **style)
        spectrum = noise_spectrum(view)
        noise.plot(spectrum.per_mm, spectrum.share, label=view.name, **style)
        widths = vessel_widths(view)
        vessels.step(widths.diameter_mm, widths.percent, where="mid", label=view.name, **style)
    lung.set(title="lung", xlabel="HU", ylabel="share")
    noise.set(title="noise power in soft tissue, area 1", xlabel="1/mm", xlim=(0, 1))
    vessels.set(title="vessels", xlabel="width in mm", ylabel="% of lung", yscale="log")
    for axis in (lung, noise, vessels):
        axis.legend()
        axis.grid(alpha=0.3)
    _save(figure, path)


def draw_nodules(out: Path, *, seed: int) -> None:
    """Draw ten nodules of each texture, outline and attachment, from parts of lungs."""
    found: dict[str, list[np.ndarray]] = {}
    for index in range(MOST_PARTS):
        site = "abc"[index % 3]
        phantom = make_phantom(
            PhantomSettings(site=site, size="region", seed=seed, nodules_per_scan="2-4"), index
        )
        for finding in phantom.findings:
            if not phantom.canvas.contains(finding.center_mm[None], margin_mm=MARGIN_MM)[0]:
                continue
            for name in _kinds(finding):
                found.setdefault(name, []).append(_patch(phantom, finding.center_mm))
        nodules = [len(patches) for name, patches in found.items() if "not a" not in name]
        if len(nodules) == WANTED and min(nodules) >= A_KIND:
            break
    figure = Figure(figsize=(1.6 * A_KIND, 1.7 * len(found)))
    axes = figure.subplots(len(found), A_KIND, squeeze=False)
    for row, (name, patches) in zip(axes, sorted(found.items()), strict=True):
        for axis in row:
            axis.axis("off")
        for axis, patch in zip(row, patches, strict=False):
            _show(axis, patch, LUNG_WINDOW, 1.0)
        row[0].set_title(name, fontsize=8)
    _save(figure, out / "nodules.png")


def _kinds(finding: object) -> list[str]:
    """Rows of the picture that a finding belongs to."""
    if finding.kind != "nodule":
        return [f"not a nodule: {finding.kind}"]
    return [f"{kind}: {getattr(finding, kind)}" for kind in KINDS]


def _patch(phantom: PhantomScan, center_mm: np.ndarray) -> np.ndarray:
    """The slice [40 mm, 40 mm] through a place, at .5 mm a pixel."""
    canvas = phantom.canvas
    offsets = np.arange(-20.0, 20.0, 0.5)
    across, down = np.meshgrid(offsets, offsets, indexing="ij")
    points = np.zeros((across.size, 3)) + center_mm
    points[:, 0] += across.ravel()
    points[:, 1] += down.ravel()
    values = canvas.sample(phantom.scan.voxels_hu.astype(np.float32), points)
    return values.reshape(across.shape)


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    main()
