"""The display window that a DICOM header suggests (PS3.3 C.11.2.1.2).

It is read from one file of a series: reading it from every slice would take longer and would add
notes on an attribute that changes no voxel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pydicom

from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.tags import texts_of
from medkd.io.file_ref import FileRef
from medkd.types import DisplayWindow

_FAR = 32768.0
"""Windows beyond the range of int16 are unusable."""

_LEAST_WIDTH = 1.0
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_NAMES = ("WindowCenter", "WindowWidth")


def read_window(ref: FileRef) -> DisplayWindow | None:
    """Read the window of a DICOM file; None if it has none that is usable.

    Args:
        ref: a single-frame or an enhanced multi-frame image; of the latter the first frame counts.
    """
    try:
        with quiet_dicom(), ref.open() as stream:
            header = pydicom.dcmread(
                stream, stop_before_pixels=True, force=True, specific_tags=[*_NAMES, *_GROUPS]
            )
            windows = (window_of(item) for item in _items(header))
            return next((window for window in windows if window is not None), None)
    except Exception:  # noqa: BLE001  # pydicom can raise any exception; a window is no reason to
        return None  # refuse a scan


def window_of(header: Any) -> DisplayWindow | None:  # noqa: ANN401  # pydicom's Dataset
    """Return the first usable window of a header, or of a frame's item; None if there is none."""
    centers, widths = (_numbers(header, name) for name in _NAMES)
    return next(
        (
            DisplayWindow(center, width)
            for center, width in zip(centers, widths, strict=False)
            if abs(center) < _FAR and _LEAST_WIDTH <= width < 2 * _FAR
        ),
        None,
    )


def _items(header: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the header, and the items on the window of its shared and first frame's groups."""
    yield header
    for name in _GROUPS:
        for group in list(header.get(name) or [])[:1]:
            yield from list(group.get("FrameVOILUTSequence") or [])[:1]


def _numbers(header: Any, name: str) -> list[float]:  # noqa: ANN401
    """Return the numbers of an attribute; NaN for a text that is none, so that pairs match."""
    return [_number(text) for text in texts_of(header, name)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
