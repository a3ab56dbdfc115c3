"""Reader of CT volume files (.mhd, .mha, .nii, .nii.gz, .nrrd, .nhdr) into `Scan`.

`metaimage.py`, `nifti.py` and `nrrd.py` read headers, `volume_header.py` has their common rules,
and `voxel_data.py` counts, decompresses and checks the bytes. Voxels become HU int16 [i, j, k], an
(i, j, k) view of a slice-contiguous buffer; the grid is in LPS mm. A faulty file is refused with
all reasons, each "code: text" (`dicom/codes.py`). It is never repaired: no resampling, no removal
of a fourth dimension, no replacement of NaN, no assumed geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError, printable
from medkd.geometry import VoxelGrid
from medkd.io.axial import to_axial
from medkd.io.dicom.codes import CODES, Fault
from medkd.io.foreign import foreign_faults
from medkd.io.metaimage import read_metaimage, write_mhd
from medkd.io.nifti import read_nifti
from medkd.io.nrrd import read_nrrd
from medkd.io.volume_header import VolumeHeader, geometry_faults
from medkd.io.voxel_data import data_faults, read_voxels
from medkd.types import Scan

__all__ = ["VOLUME_SUFFIXES", "read_grid", "read_volume", "write_mhd"]

FORMATS: dict[str, Callable[[Path], VolumeHeader]] = {
    ".mhd": read_metaimage,
    ".mha": read_metaimage,
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".nrrd": read_nrrd,
    ".nhdr": read_nrrd,
}
"""Suffix to the reader of its header."""

VOLUME_SUFFIXES = tuple(FORMATS)

ROUNDED = "fractional HU were rounded to whole HU"
"""Note of a scan whose stored values are not whole numbers."""

HU_LIMITS = (-32768, 32767)


def volume_suffix(path: Path) -> str:
    """Return the format's suffix of a path in lower case; empty if it is not in `FORMATS`."""
    name = path.name.lower()
    return max((s for s in VOLUME_SUFFIXES if name.endswith(s)), key=len, default="")


def read_volume(
    path: Path,
    *,
    seriesuid: str | None = None,
    patient_id: str | None = None,
    allow: Collection[str] = (),
) -> Scan:
    """Read a CT volume from one file.

    Args:
        path: .mhd or .nhdr (with its voxel files beside it), .mha, .nii, .nii.gz or .nrrd, with
            voxels in HU.
        seriesuid: name of the series; default: the file's name without suffix.
        patient_id: pseudonym of the patient; default: the seriesuid, which makes every series a
            separate patient.
        allow: codes of faults to accept: spacing_not_stated, placement_not_stated, other_units;
            other codes have no effect here.

    Returns:
        The scan; its `notes` list accepted faults ("allowed: ..."), what else the header does not
        state, and whether fractional HU were rounded.

    Raises:
        SeriesError: with all reasons: a file that is missing, too short, too long, damaged or
            larger than memory; an incomplete or contradictory header; geometry that is missing,
            sheared or degenerate; not 3-D or several values per voxel; NaN or infinite values;
            HU outside int16.
    """
    with foreign_faults(path, prefix="unreadable: "):
        header = _checked_header(path, allow, with_data=True)
        if header.data is None:
            raise ValueError(f"{path.name}: a header without voxels and without a fault")
        stored = _scaled(read_voxels(header.data, path), header)
        if reasons := _value_reasons(stored):
            raise _refusal(path, reasons)
        whole = np.rint(stored) if stored.dtype.kind == "f" else stored
        rounded = whole is not stored and not np.array_equal(whole, stored)
        notes = (*header.notes, *([ROUNDED] if rounded else []))
        voxels = whole.astype(np.int16, order="K", copy=False)
    name = seriesuid or printable(path.name[: -len(volume_suffix(path))])
    scan = Scan(name, voxels, header.grid(), patient_id=patient_id or name, notes=notes)
    return to_axial(scan)


def read_grid(path: Path, *, allow: Collection[str] = ()) -> VoxelGrid:
    """Read the grid of a volume in its stored axis order, only from its header.

    Args:
        path: as for `read_volume`; separate voxel files need not exist.
        allow: as for `read_volume`.

    Raises:
        SeriesError: with all faults of the header.
    """
    with foreign_faults(path, prefix="unreadable: "):
        return _checked_header(path, allow, with_data=False).grid()


def _checked_header(path: Path, allow: Collection[str], *, with_data: bool) -> VolumeHeader:
    """Read a header; refuse its faults and, if `with_data`, voxel files of a wrong size."""
    read_header = FORMATS.get(volume_suffix(path))
    if read_header is None:
        raise _refusal(path, [f"unreadable: expected one of {', '.join(VOLUME_SUFFIXES)}"])
    if not path.is_file():
        raise _refusal(path, ["unreadable: there is no such file"])
    header = read_header(path)
    faults: list[Fault] = [*header.faults, *geometry_faults(header)]
    if with_data and header.data is not None:
        faults += data_faults(header.data)
    unique = dict.fromkeys(faults)
    accepted = [f for f in unique if f.allowable and f.code in allow and CODES[f.code].allowable]
    if refused := [str(fault) for fault in unique if fault not in accepted]:
        raise _refusal(path, refused)
    return replace(header, notes=(*(f"allowed: {fault}" for fault in accepted), *header.notes))


def _scaled(stored: NDArray[Any], header: VolumeHeader) -> NDArray[Any]:
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    scaled: NDArray[np.float64] = stored * np.float64(header.slope)
    scaled += header.intercept
    return scaled


def _value_reasons(stored: NDArray[Any]) -> list[str]:
    """Return why stored values [i, j, k] of any type are not finite HU within int16."""
    reasons = []
    finite = stored
    if stored.dtype.kind == "f":
        bad = ~np.isfinite(stored)
        if bad.any():
            first = tuple(int(n) for n in np.argwhere(bad)[0])
            reasons.append(
                f"hu_range: {int(bad.sum())} voxels are NaN or infinite, one at (i, j, k) = {first}"
            )
            finite = stored[~bad]
    if finite.size and stored.dtype != np.int16:
        low, high = finite.min(), finite.max()
        if low < HU_LIMITS[0] or high > HU_LIMITS[1]:
            reasons.append(f"hu_range: expected HU within {HU_LIMITS}, got {low} to {high}")
    return reasons


def _refusal(path: Path, reasons: Iterable[str]) -> SeriesError:
    return SeriesError(f"{path}: cannot be read as a CT volume", reasons)
