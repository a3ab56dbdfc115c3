"""Thumbnails of the marks of a scan: small axial pictures in the lung window.

They are kept beside the results, one JSON file per scan with JPEG pictures as base64 text, so that
the page of results can be written again without the scans. The name of a file is the key of its
input, and a picture contains neither text nor metadata.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medkd.errors import CheckpointError
from medkd.jsonio import read_json, write_json
from medkd.types import Candidate, Point, Scan

SHOWN = 10
"""The marks of a scan that have a thumbnail: those with the highest scores."""
SIDE_PX = 128
PIXEL_MM = 0.5

_LUNG_WINDOW_HU = (-1350.0, 150.0)
_OUTSIDE_HU = -2000
_QUALITY = 75


def draw_thumbnails(scan: Scan, marks: Sequence[Candidate]) -> list[str]:
    """Draw the first `SHOWN` marks of a scan, each in the middle of its picture.

    Returns:
        JPEG files of `SIDE_PX` x `SIDE_PX` pixels of `PIXEL_MM` as base64 text.
    """
    return [_as_text(axial_picture(scan, mark.center_mm)) for mark in marks[:SHOWN]]


def axial_picture(scan: Scan, center_mm: Point) -> NDArray[np.uint8]:
    """Draw the stored slice nearest to a point, the point in the middle.

    Args:
        scan: HU on a grid whose k runs along the body, as all readers return it.
        center_mm: LPS mm.

    Returns:
        [row, column] grey values; columns run to the left of the patient, rows to the back.
    """
    center = scan.grid.world_to_voxel(np.asarray(center_mm, dtype=np.float64))
    k = int(np.clip(np.rint(center[2]), 0, scan.grid.shape[2] - 1))
    # The axis of the slice that runs mostly to the left gives the columns.
    cosines = scan.grid.direction[:2, :2]
    across = int(abs(cosines[0, 1]) > abs(cosines[0, 0]))
    down = 1 - across
    steps_mm = (np.arange(SIDE_PX) - (SIDE_PX - 1) / 2) * PIXEL_MM
    places = np.empty((2, SIDE_PX, SIDE_PX))
    for axis, world, shape in ((across, 0, (1, -1)), (down, 1, (-1, 1))):
        sign = -1.0 if cosines[world, axis] < 0 else 1.0
        line = center[axis] + sign * steps_mm / scan.grid.spacing_mm[axis]
        places[axis] = line.reshape(shape)
    hu = ndimage.map_coordinates(
        scan.voxels_hu[:, :, k], places, output=np.float32, order=1, cval=_OUTSIDE_HU
    )
    low, high = _LUNG_WINDOW_HU
    return np.asarray(np.clip((hu - low) / (high - low), 0, 1) * 255, dtype=np.uint8)


def write_thumbnails(folder: Path, key: str, pictures: Sequence[str]) -> None:
    """Write the thumbnails of a scan.

    Args:
        folder: created if it is missing.
        key: key of its input.
        pictures: of `draw_thumbnails`.
    """
    write_json(_file(folder, key), list(pictures))


def read_thumbnails(folder: Path, key: str) -> list[str]:
    """Read the thumbnails of a scan; empty if there are none or the file is not whole."""
    try:
        return read_json(_file(folder, key), list[str])
    except CheckpointError:
        return []


def _file(folder: Path, key: str) -> Path:
    return folder / f"{key[:24]}.json"


def _as_text(picture: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_QUALITY, optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")
