"""Small pictures of places in scans, one axial slice with a ring, and of whole images.

A picture contains neither text nor metadata.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medkd.evaluate.matching import UNKNOWN_DIAMETER_MM
from medkd.io.pictures import PIXEL_MM, axial_picture
from medkd.types import Point, Scan

RingColor = Literal["missed", "mark"]

COLORS: dict[RingColor, tuple[int, int, int]] = {"missed": (255, 90, 90), "mark": (255, 214, 10)}
THUMBNAIL_PX = 256
_ENLARGED = 2
_GAP_PX = 6.0
"""The ring is this far outside the radius, which keeps the edge of the nodule visible."""


def draw_crop(
    scan: Scan, center_mm: Point, diameter_mm: float | None, *, color: RingColor
) -> bytes | None:
    """Draw the axial slice nearest to a place in the lung window, with a ring around the place.

    Args:
        scan: HU on a grid whose k runs along the body.
        center_mm: LPS mm.
        diameter_mm: of the nodule or mark; None: not known, a ring of 10 mm is drawn.
        color: colour of the ring.

    Returns:
        A PNG of 64 x 64 mm; None if the place is outside the scan.
    """
    if not scan.grid.contains_world(center_mm):
        return None
    grey = Image.fromarray(axial_picture(scan, center_mm))
    side = _ENLARGED * grey.width
    picture = grey.resize((side, side), Image.Resampling.BILINEAR).convert("RGB")
    middle = (side - 1) / 2
    radius = (diameter_mm or UNKNOWN_DIAMETER_MM) / 2 * _ENLARGED / PIXEL_MM + _GAP_PX
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    ImageDraw.Draw(picture).ellipse(box, outline=COLORS[color], width=2)
    return _as_png(picture)


def draw_thumbnail(pixels: NDArray[np.float32]) -> bytes:
    """Draw a whole image.

    Args:
        pixels: [row, col] in 0..1, or [row, col, slice], of which the middle slice is drawn.

    Returns:
        A grey PNG of at most 256 pixels a side; a smaller image keeps its size.
    """
    plane = pixels if pixels.ndim == 2 else pixels[:, :, pixels.shape[2] // 2]
    grey = Image.fromarray(np.round(np.clip(plane, 0.0, 1.0) * 255).astype(np.uint8))
    grey.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return _as_png(grey)


def _as_png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()
