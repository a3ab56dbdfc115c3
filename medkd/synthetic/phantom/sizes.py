"""How large nodules are: LUNA16's diameters as a small table.

Quantiles (linear between order statistics) of the 1,186 diameters in LUNA16's `annotations.csv`,
which are means over the LIDC-IDRI readers that marked a nodule of at least 3 mm (Setio et al. 2017,
Medical Image Analysis 42, sec. 2). Between two quantiles every diameter is equally likely.
"""

from __future__ import annotations

import numpy as np

LEAST_DIAMETER_MM = 3.0
"""What is smaller is no nodule that must be found (LIDC-IDRI's bound)."""
MOST_DIAMETER_MM = 33.0

LUNA16_SHARES = (
    0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0,
)  # fmt: skip
LUNA16_DIAMETERS_MM = (
    3.25, 4.09, 4.40, 4.90, 5.32, 5.90, 6.43, 7.30, 8.72, 11.07, 15.48, 18.95, 21.85, 23.99, 32.27,
)  # fmt: skip


def draw_diameter(
    rng: np.random.Generator,
    *,
    low_mm: float = LEAST_DIAMETER_MM,
    high_mm: float = MOST_DIAMETER_MM,
) -> float:
    """Draw a diameter from LUNA16's distribution, cut to a range.

    Args:
        rng: source of the draw.
        low_mm: least diameter in mm.
        high_mm: largest diameter in mm.

    Returns:
        mm; where LUNA16 has no nodule of the range, any diameter of it.

    Raises:
        ValueError: if the range is empty.
    """
    if not 0 < low_mm <= high_mm:
        raise ValueError(f"diameters need 0 < low_mm <= high_mm, got {low_mm!r}, {high_mm!r}")
    first, last = np.interp([low_mm, high_mm], LUNA16_DIAMETERS_MM, LUNA16_SHARES).tolist()
    share = rng.random()
    if last <= first:
        return float(low_mm + share * (high_mm - low_mm))
    drawn = np.interp(first + share * (last - first), LUNA16_SHARES, LUNA16_DIAMETERS_MM)
    return float(min(max(float(drawn), low_mm), high_mm))
