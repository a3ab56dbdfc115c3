"""Where a nodule is, in the words of a radiologist's report; without any identifier."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medkd.errors import SeriesError
from medkd.lungs import LungField, find_lungs
from medkd.types import Point, Scan

OUTSIDE = "outside the lungs"


def lungs_of(scan: Scan) -> LungField | None:
    """Return the lungs of a scan; None if none are found."""
    try:
        return find_lungs(scan)
    except SeriesError:
        return None


def lung_words(lungs: LungField, centers_mm: Sequence[Point]) -> tuple[str, ...]:
    """Return for each point (LPS mm) its lung and the third of the height of that lung.

    Example of a text: "right lung, lower third". A point outside the lungs gets `OUTSIDE`.
    """
    inside = lungs.contains(centers_mm)
    places = lungs.lung_places(centers_mm)
    return tuple(
        f"{place.side} lung, {place.third} third" if is_inside else OUTSIDE
        for place, is_inside in zip(places, inside, strict=True)
    )


def size_words(diameter_mm: float) -> str:
    """Return a diameter as text; halves of a tenth are rounded upwards, as in the viewer.

    Example:
        >>> size_words(7.25)
        '7.3 mm'
    """
    return f"{math.floor(diameter_mm * 10 + 0.5) / 10:.1f} mm"


def short_place(words: str) -> str:
    """Shorten a text of `lung_words` for a list.

    Example:
        >>> short_place("right lung, lower third")
        'right lower'
    """
    return words.replace(" lung,", "").removesuffix(" third").replace(OUTSIDE, "outside")


def report_line(lung: str, number: int, *, image: str, diameter_mm: float | None) -> str:
    """Return one line on a nodule for a PACS or a report.

    Args:
        lung: a text of `lung_words`; empty: not known.
        number: of its axial slice, from 1; 0: outside the scan.
        image: its DICOM image (`slice_images.py`); empty: not known.
        diameter_mm: None: not known.

    Example:
        >>> report_line("right lung, lower third", 214, image="image 107", diameter_mm=7.31)
        'right lung, lower third, slice 214 (image 107), 7.3 mm'
    """
    place = f"slice {number}" if number else "outside the scan"
    size = size_words(diameter_mm) if diameter_mm else ""
    return ", ".join(filter(None, [lung, f"{place} ({image})" if image else place, size]))
