"""The voxels of a NIfTI file as they are stored, with what SimpleITK would pass over.

ITK's NIfTI reader sets NaN to 0 and reads a truncated file without a word. So `volume.py` takes
the geometry from SimpleITK and the voxels from here, through nibabel, which does neither.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_UNKNOWN_OR_MM = (0, 2)
"""NIfTI's codes of spatial units: 0 not stated, 2 mm (1 is metre, 3 micron)."""


def nifti_reasons(path: Path) -> list[str]:
    """Say what a NIfTI header leaves open or states in a unit other than mm."""
    image = _load(path)
    header = image.header
    reasons = []
    if int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0:
        reasons.append(
            "it states no orientation (qform_code and sform_code are 0), so left and right are "
            "unknown"
        )
    unit = int(header["xyzt_units"]) % 8
    if unit not in _UNKNOWN_OR_MM:
        reasons.append(f"expected mm, got the unit code {unit}")
    return reasons


def read_nifti_voxels(path: Path) -> NDArray[Any] | str:
    """Return the voxels [i, j, k], scaled as the header says, or why they cannot be read."""
    try:
        voxels: NDArray[Any] = np.asarray(_load(path).dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        return f"its voxels are incomplete or damaged: {line}"
    return voxels


def _load(path: Path) -> Any:  # noqa: ANN401  # nibabel returns one of many image classes
    import nibabel

    # Without mmap: the scan must not change if the file does.
    return nibabel.load(path, mmap=False)
