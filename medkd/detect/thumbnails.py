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

from medkd.errors import CheckpointError
from medkd.io.pictures import axial_picture
from medkd.jsonio import read_json, write_json
from medkd.types import Candidate, Scan

SHOWN = 10
"""The marks of a scan that have a thumbnail: those with the highest scores."""

_QUALITY = 75


def draw_thumbnails(scan: Scan, marks: Sequence[Candidate]) -> list[str]:
    """Draw the first `SHOWN` marks of a scan, each in the middle of its picture.

    Returns:
        JPEG files of `SIDE_PX` x `SIDE_PX` pixels of `PIXEL_MM` as base64 text.
    """
    return [_as_text(axial_picture(scan, mark.center_mm)) for mark in marks[:SHOWN]]


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
