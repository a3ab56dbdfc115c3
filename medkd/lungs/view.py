"""Whether the lungs are completely in a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medkd.errors import SeriesError
from medkd.lungs.air import NOT_IN_VIEW, PADDING_HU, find_air, within_body
from medkd.lungs.sampling import Samples, sample_coarsely

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.types import Scan

MOST_AT_END = 0.67
"""Most lung area on the first or last slice, as a share of the largest lung area of any slice.
Lung bases may be cut a little; a scan that ends within the lungs has a share near 1."""

MOST_AT_SIDE_CM2 = 30.0
"""Most lung area that may touch a side of the field of view; with more, the field is too small."""


def lungs_in_view(scan: Scan) -> list[str]:
    """Return the reasons why the lungs are not completely in the scan.

    Args:
        scan: HU on any grid.

    Returns:
        Reasons "lungs_not_in_view: ..."; empty if the lungs are complete, up to the tolerances
        `MOST_AT_END` and `MOST_AT_SIDE_CM2`.
    """
    samples = sample_coarsely(scan)
    try:
        air = find_air(scan.seriesuid, samples, within_body(samples.hu))
    except SeriesError as error:
        return [error.reasons[0]]
    return [f"{NOT_IN_VIEW}: {why}" for why in (*_ends(air, samples), *_sides(air, samples))]


def _ends(air: NDArray[np.bool_], samples: Samples) -> list[str]:
    """Return a reason for each end of the scan at which too much of the lungs is cut off."""
    cm2 = air.sum(axis=(0, 1)) * float(np.prod(samples.grid.spacing_mm[:2])) / 100
    return [
        f"the lungs are cut off at the {name} of the scan: {end:.0f} of at most {cm2.max():.0f} cm2"
        for name, end in (("bottom", cm2[0]), ("top", cm2[-1]))
        if end > MOST_AT_END * cm2.max()
    ]


def _sides(air: NDArray[np.bool_], samples: Samples) -> list[str]:
    """Return at most one reason: too much lung touches a side of the field of view or padding."""
    padded = np.pad(samples.hu < PADDING_HU, 1, constant_values=True)
    inner = tuple(slice(1, -1) for _ in range(3))
    reasons = []
    for axis in (0, 1):
        face_cm2 = float(np.prod(np.delete(samples.grid.spacing_mm, axis))) / 100
        for step in (-1, 1):
            beyond = np.roll(padded, step, axis=axis)[inner]
            cut_cm2 = float((air & beyond).sum()) * face_cm2
            if cut_cm2 > MOST_AT_SIDE_CM2:
                reasons.append(f"{cut_cm2:.0f} cm2 of lung touch a side of the field of view")
    return reasons[:1]
