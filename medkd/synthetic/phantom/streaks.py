"""Streaks and dark bands near dense bone: beam hardening, on a coarse lattice.

Rays through much bone lose their soft part, so the measured attenuation falls short by a term of
second order in the bone crossed; scanners correct for water, not for this (Joseph and Spital,
J. Comput. Assist. Tomogr. 2 (1978) 100). The part of it that is proportional to the bone crossed
only makes bone less dense and is left out. Reconstructed by filtered back-projection the rest is a
dark band between bones and bright ones beside it. Dense contrast medium does the same.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medkd.synthetic.phantom.rays import Lattice, Views, as_slices

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_ANGLES = 60
_BONE_HU = (150.0, 1000.0)
_PER_MM = 0.012
"""How fast the shortfall grows: mm of water lost per mm2 of dense bone crossed."""


def find_streaks(lattice: Lattice, body_hu: Float32, *, strength: float) -> Float32:
    """Return what streaks add to a scan.

    Args:
        lattice: of the body.
        body_hu: [i, j, k] HU.
        strength: 0 (none) to about 2; at 1 the bands between shoulders are some 20 HU dark.

    Returns:
        [k, j, i] HU, of mean about zero over each slice.
    """
    bone = np.clip((body_hu.astype(np.float64) - _BONE_HU[0]) / _BONE_HU[1], 0.0, 1.5)
    views = Views(lattice, _ANGLES)
    paths = np.stack([views.project(bone, number) for number in range(_ANGLES)])
    squared = paths**2
    linear = (squared * paths).sum(axis=(0, 1)) / np.maximum(squared.sum(axis=(0, 1)), 1e-9)
    short = (squared - linear * paths) * (_PER_MM * strength)
    total = np.zeros(lattice.shape)
    for number in range(_ANGLES):
        total += views.spread(_ramped(-short[number], float(lattice.step_mm[0])), number)
    return as_slices(total * (1000.0 * np.pi / _ANGLES))


def _ramped(rays: Float64, step_mm: float) -> Float64:
    """Filter rays [S, k] with |f|, rolled off by a cosine: the one for back-projection."""
    size = scipy.fft.next_fast_len(2 * len(rays), real=True)
    frequency = scipy.fft.rfftfreq(size, step_mm)
    ramp = frequency * np.cos(np.pi * frequency * step_mm) ** 2
    spectrum = scipy.fft.rfft(rays, size, axis=0) * ramp[:, None]
    return np.asarray(scipy.fft.irfft(spectrum, size, axis=0)[: len(rays)])
