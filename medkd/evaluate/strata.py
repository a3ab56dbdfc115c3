"""Groups of nodules by diameter, in which sensitivity is reported."""

from __future__ import annotations

SIZES = ("below 6 mm", "6 to 10 mm", "above 10 mm")


def size_class(diameter_mm: float) -> str:
    """Return the one of `SIZES` that a diameter belongs to.

    Example:
        >>> size_class(5.99), size_class(6.0), size_class(10.0), size_class(10.01)
        ('below 6 mm', '6 to 10 mm', '6 to 10 mm', 'above 10 mm')
    """
    return SIZES[0] if diameter_mm < 6.0 else SIZES[1] if diameter_mm <= 10.0 else SIZES[2]
