"""CT volumes in files (.mhd, .mha, .nii, .nii.gz, .nrrd, .nhdr) into `Scan`.

`metaimage.py`, `nifti.py` and `nrrd.py` read headers, `volume_header.py` holds the rules that they
share, and `voxel_data.py` counts, inflates and checks the bytes. Voxels become HU int16 [i, j, k],
an (i, j, k) view of a slice-contiguous buffer; the grid is in LPS mm. A file is refused with every
reason that can be found, each "code: text" (`dicom/codes.py`), never repaired: no resampling, no
squeezing of a fourth dimension, no filling of NaN, no geometry that the header does not state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError, printable
from medkd.geometry import VoxelGrid
from medkd.io.axial import to_axial
from medkd.io.dicom.codes import Fault
from medkd.io.foreign import foreign_faults
from medkd.io.metaimage import read_metaimage, write_mhd
from medkd.io.nifti import read_nifti
from medkd.io.nrrd import read_nrrd
from medkd.io.volume_header import VolumeHeader, geometry_faults, judge
from medkd.io.voxel_data import VoxelData, data_faults, read_voxels
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
"""Suffix to the reader of the header."""

VOLUME_SUFFIXES = tuple(FORMATS)

ROUNDED = "fractional HU were rounded to whole HU"
"""Note on a scan whose stored values are no whole numbers."""

HU_LIMITS = (-32768, 32767)


class _Checked(NamedTuple):
    """A header that can be read, where its voxels are, and what a reader must know."""

    header: VolumeHeader
    data: VoxelData
    notes: tuple[str, ...]


def volume_suffix(path: Path) -> str:
    """Return the suffix that says the format, lower case; empty if it is none of ours."""
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
        path: .mhd or .nhdr (with the files of its voxels beside it), .mha, .nii, .nii.gz or .nrrd,
            voxels in HU.
        seriesuid: name of the series; the file's name without suffix where not given.
        patient_id: pseudonym of the patient; the seriesuid where not given, so that every
            series counts as a patient of its own.
        allow: codes of faults to accept: spacing_not_stated, placement_not_stated, other_units;
            other codes accept nothing here.

    Returns:
        The scan; `notes` say which faults were accepted ("allowed: ..."), what else the header
        leaves open, and if fractional HU were rounded.

    Raises:
        SeriesError: with every reason: a file that is missing, too short, too long, damaged or
            larger than memory, a header that is incomplete or contradicts itself, geometry that
            is not stated, sheared or degenerate, not 3-D or several values a voxel, NaN or
            infinite values, HU outside int16.
    """
    with foreign_faults(path, prefix="unreadable: "):
        header, data, notes = _checked(path, allow, with_data=True)
        stored = _scaled(read_voxels(data, path), header)
        if reasons := _value_reasons(stored):
            raise _refusal(path, reasons)
        whole = np.rint(stored) if stored.dtype.kind == "f" else stored
        if whole is not stored and not np.array_equal(whole, stored):
            notes = (*notes, ROUNDED)
        voxels = whole.astype(np.int16, order="K", copy=False)
    name = seriesuid or printable(path.name[: -len(volume_suffix(path))])
    scan = Scan(name, voxels, header.grid(), patient_id=patient_id or name, notes=notes)
    return to_axial(scan)


def read_grid(path: Path, *, allow: Collection[str] = ()) -> VoxelGrid:
    """Read where a volume's voxels lie as its file stores them, from its header alone.

    Args:
        path: as for `read_volume`; the files of an .mhd's voxels need not be there.
        allow: as for `read_volume`.

    Raises:
        SeriesError: with every reason that the header gives.
    """
    with foreign_faults(path, prefix="unreadable: "):
        return _checked(path, allow, with_data=False)[0].grid()


def _checked(path: Path, allow: Collection[str], *, with_data: bool) -> _Checked:
    """Read a header, and refuse what is wrong with it and with the bytes that it promises."""
    read_header = FORMATS.get(volume_suffix(path))
    if read_header is None:
        raise _refusal(path, [f"unreadable: expected one of {', '.join(VOLUME_SUFFIXES)}"])
    if not path.is_file():
        raise _refusal(path, ["unreadable: there is no such file"])
    header = read_header(path)
    faults: list[Fault] = [*header.faults, *geometry_faults(header)]
    if with_data and header.data is not None:
        faults += data_faults(header.data)
    judged = judge(faults, allow)
    if judged.refused:
        raise _refusal(path, judged.refused)
    if header.data is None:
        raise ValueError(f"{path.name}: a header without voxels and without a fault")
    return _Checked(header, header.data, (*judged.notes, *header.notes))


def _scaled(stored: NDArray[Any], header: VolumeHeader) -> NDArray[Any]:
    if (header.slope, header.intercept) == (1.0, 0.0):
        return stored
    scaled: NDArray[np.float64] = stored * np.float64(header.slope)
    scaled += header.intercept
    return scaled


def _value_reasons(stored: NDArray[Any]) -> list[str]:
    """Say why stored values are not HU that fit int16; stored is [i, j, k] of any type."""
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
