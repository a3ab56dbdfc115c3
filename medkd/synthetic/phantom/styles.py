"""The scanner styles of three synthetic hospitals: ranges from which a scan's settings are drawn.

a: thin slices and a sharp lung kernel; b: thick slices, a soft kernel and high noise; c: a standard
kernel and overlapping slices. The ranges are based on two real scans: B70f at 3 mm with 75 HU of
noise in the heart, and a soft kernel at 5 mm with 5 HU. The noise is that of low-dose CT. The
pixels of `small` are three times as wide as those of a scanner, so its kernels are softer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medkd.synthetic.phantom.kernel import Kernel, SliceProfile

Size = Literal["small", "region", "full"]
Site = Literal["a", "b", "c"]
Range = tuple[float, float]

_SMALL_EXTENT_MM = (340.0, 260.0, 300.0)
_FIELD_OF_VIEW_MM = (360.0, 420.0)
_FULL_PIXELS = 512
_LEAST_SLICES, _COVERED_MM = 300, (360.0, 396.0)
_REGION_SHAPE = (112, 112, 64)
_WIDE_SHARE = 0.35
_CIRCLE_FROM_MM = 390.0
_SMALL_PIXEL_MM = (2.02, 2.18)


@dataclass(frozen=True, slots=True)
class KernelRange:
    """Ranges of the parameters of a `Kernel`: cutoff and aperture in 1/mm."""

    cutoff: Range
    rise: Range
    order: Range
    aperture: Range

    def draw(self, name: str, rng: np.random.Generator) -> Kernel:
        """Draw one kernel."""
        ranges = (self.cutoff, self.rise, self.order, self.aperture)
        return Kernel(name, *(float(rng.uniform(*ends)) for ends in ranges))


@dataclass(frozen=True, slots=True)
class Slices:
    """Ranges of slice spacing and thickness in mm; the thickness is at least the spacing."""

    spacing_mm: Range
    thickness_mm: Range

    def draw(self, rng: np.random.Generator) -> tuple[float, float]:
        """Draw spacing and thickness."""
        spacing = float(np.round(rng.uniform(*self.spacing_mm), 3))
        thickness = float(np.round(rng.uniform(*self.thickness_mm), 2))
        return spacing, max(thickness, spacing)


@dataclass(frozen=True, slots=True)
class Setting:
    """The ranges of a site for one pixel size; for `noise_hu` see `Protocol`."""

    kernel: KernelRange
    noise_hu: Range
    slices: Slices


@dataclass(frozen=True, slots=True)
class ScannerStyle:
    """The scanner style of a site.

    Args:
        kernel_name: name of the kernel in the header.
        fine: ranges for full scans and regions.
        wide: thinner or thicker slices, which some regions have.
        coarse: ranges for small scans.
        streaks: share of scans with streaks near bone.
        circles: share of full scans with a large field of view that are cropped to a circle.
    """

    kernel_name: str
    fine: Setting
    wide: Slices
    coarse: Setting
    streaks: float
    circles: float


STYLES: dict[Site, ScannerStyle] = {
    "a": ScannerStyle(
        "sharp",
        Setting(
            KernelRange((0.60, 0.76), (0.7, 1.1), (3.4, 3.8), (0.60, 0.85)),
            (36.0, 70.0),
            Slices((1.0, 1.25), (1.0, 1.5)),
        ),
        Slices((0.6, 1.0), (0.6, 1.25)),
        Setting(
            KernelRange((0.24, 0.27), (0.5, 0.8), (3.4, 3.8), (0.36, 0.42)),
            (14.0, 20.0),
            Slices((1.7, 1.8), (1.7, 1.9)),
        ),
        0.3,
        0.0,
    ),
    "b": ScannerStyle(
        "soft",
        Setting(
            KernelRange((0.30, 0.36), (0.0, 0.05), (1.45, 1.8), (0.9, 1.1)),
            (24.0, 42.0),
            Slices((1.1, 1.25), (2.0, 3.0)),
        ),
        Slices((1.5, 3.0), (2.5, 3.5)),
        Setting(
            KernelRange((0.13, 0.15), (0.0, 0.05), (1.6, 1.9), (0.36, 0.42)),
            (30.0, 42.0),
            Slices((2.85, 3.15), (4.3, 4.7)),
        ),
        0.4,
        0.5,
    ),
    "c": ScannerStyle(
        "standard",
        Setting(
            KernelRange((0.46, 0.54), (0.1, 0.3), (2.0, 2.4), (0.9, 1.1)),
            (14.0, 28.0),
            Slices((1.0, 1.25), (2.0, 2.5)),
        ),
        Slices((1.0, 2.0), (2.0, 2.5)),
        Setting(
            KernelRange((0.17, 0.20), (0.1, 0.3), (2.0, 2.4), (0.36, 0.42)),
            (10.0, 18.0),
            Slices((1.9, 2.1), (2.4, 3.0)),
        ),
        0.3,
        0.5,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Protocol:
    """The settings of one scan.

    Args:
        shape: number of voxels along (i, j, k).
        pixel_mm: side of a pixel.
        slice_spacing_mm: spacing of the slices.
        profile: thickness and profile of a slice.
        kernel: kernel in the slice.
        noise_hu: standard deviation where all rays cross 260 mm of water; the noise is stronger in
            larger patients and between the shoulders, and weaker in the lungs and outside.
        modulation: modulation of the tube current, see `artefacts.find_strength`.
        streaks: strength of streaks; 0 for none.
        circle: whether the image is cropped to the circle that touches its sides.
    """

    shape: tuple[int, int, int]
    pixel_mm: float
    slice_spacing_mm: float
    profile: SliceProfile
    kernel: Kernel
    noise_hu: float
    modulation: float
    streaks: float
    circle: bool = False


def draw_protocol(style: ScannerStyle, size: Size, rng: np.random.Generator) -> Protocol:
    """Draw one scan's settings.

    Args:
        style: style of the site.
        size: small: a whole chest with about 160x125 pixels of 2.1 mm. full: 512x512 pixels over
            360 to 420 mm, at least 300 slices over 360 to 400 mm. region: 112x112x64 voxels of a
            full scan; a third of the regions have thinner or thicker slices, .6 to 3 mm.
        rng: source of the draws.

    Example:
        >>> protocol = draw_protocol(STYLES["b"], "full", np.random.default_rng(0))
        >>> protocol.shape[:2], protocol.kernel.name
        ((512, 512), 'soft')
    """
    setting = style.coarse if size == "small" else style.fine
    wide = size == "region" and rng.random() < _WIDE_SHARE
    spacing, thickness = (style.wide if wide else setting.slices).draw(rng)
    field_of_view = rng.uniform(*_FIELD_OF_VIEW_MM)
    pixel = rng.uniform(*_SMALL_PIXEL_MM) if size == "small" else field_of_view / _FULL_PIXELS
    pixel = float(np.round(pixel, 4))
    return Protocol(
        shape=_shape(size, pixel, spacing, rng),
        pixel_mm=pixel,
        slice_spacing_mm=spacing,
        profile=SliceProfile(thickness, float(rng.uniform(0.3, 0.9))),
        kernel=setting.kernel.draw(style.kernel_name, rng),
        noise_hu=float(rng.uniform(*setting.noise_hu)),
        modulation=float(rng.uniform(0.35, 0.55)),
        streaks=float(rng.uniform(0.8, 2.0)) if rng.random() < style.streaks else 0.0,
        circle=size == "full"
        and bool(rng.random() < style.circles * (field_of_view > _CIRCLE_FROM_MM)),
    )


def _shape(
    size: Size, pixel_mm: float, spacing_mm: float, rng: np.random.Generator
) -> tuple[int, int, int]:
    """Return the shape of a scan of this size."""
    if size == "region":
        return _REGION_SHAPE
    if size == "full":
        slices = max(_LEAST_SLICES, int(np.ceil(_COVERED_MM[0] / spacing_mm)))
        most = max(slices, int(_COVERED_MM[1] / spacing_mm))
        slices += int(rng.integers(0, min(most - slices, 12) + 1))
        return _FULL_PIXELS, _FULL_PIXELS, slices
    spacing: NDArray[np.float64] = np.array([pixel_mm, pixel_mm, spacing_mm])
    i, j, k = np.round(np.asarray(_SMALL_EXTENT_MM) / spacing).astype(int).tolist()
    return i, j, k
