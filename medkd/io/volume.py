"""CT volumes in one file (.mhd, .mha, .nii, .nii.gz, .nrrd) into `Scan`.

Through SimpleITK, but for the voxels of NIfTI (`nifti.py` says why). Voxels become HU int16
[i, j, k], an (i, j, k) view of a slice-contiguous buffer; the grid is in LPS mm. A file is
refused with every reason that can be found, never repaired: no resampling, no squeezing of a
fourth dimension, no filling of NaN. Writing is in `metaimage.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # SimpleITK's own customary name

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.axial import to_axial
from medkd.io.metaimage import (
    data_reasons,
    header_reasons,
    read_metaimage_header,
    write_mhd,
)
from medkd.io.nifti import nifti_reasons, read_nifti_voxels
from medkd.types import Scan

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["VOLUME_SUFFIXES", "read_grid", "read_volume", "write_mhd"]

NIFTI_SUFFIXES = (".nii", ".nii.gz")
VOLUME_SUFFIXES = (".mhd", ".mha", *NIFTI_SUFFIXES, ".nrrd")

DIRECTION_TOLERANCE = 1e-3
"""How far direction cosines may be from orthonormal: rounding of a header, not a shear."""

HU_LIMITS = (-32768, 32767)


@dataclass(frozen=True, slots=True)
class _Stated:
    """Geometry as a header states it, unchecked."""

    sizes: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]


def volume_suffix(path: Path) -> str:
    """Return the suffix that says the format, lower case; empty if it is none of ours."""
    name = path.name.lower()
    return max((s for s in VOLUME_SUFFIXES if name.endswith(s)), key=len, default="")


def read_volume(path: Path, *, seriesuid: str | None = None, patient_id: str | None = None) -> Scan:
    """Read a CT volume from one file.

    Args:
        path: .mhd (with its .raw beside it), .mha, .nii, .nii.gz or .nrrd, voxels in HU.
        seriesuid: name of the series; the file's name without suffix where not given.
        patient_id: pseudonym of the patient; the seriesuid where not given, so that every
            series counts as a patient of its own.

    Returns:
        The scan; `notes` say so if fractional HU were rounded.

    Raises:
        SeriesError: with every reason: file or voxels' file missing, sizes that disagree,
            unknown element type, not 3-D or several values a voxel, sheared or degenerate
            direction, NaN or infinite values, HU outside int16.
    """
    grid = _grid_of(_read_header(path, with_data=True))
    stored = _read_stored(path)
    if stored.shape != grid.shape:
        raise _refusal(path, [f"expected 3 dimensions {grid.shape}, got {stored.shape}"])
    reasons = _value_reasons(stored)
    if reasons:
        raise _refusal(path, reasons)
    notes: tuple[str, ...] = ()
    if stored.dtype.kind == "f":
        rounded = np.rint(stored)
        if not np.array_equal(rounded, stored):
            notes = ("fractional HU were rounded to whole HU",)
        stored = rounded
    name = seriesuid or path.name[: -len(volume_suffix(path))]
    voxels = stored.astype(np.int16, order="K", copy=False)
    return to_axial(Scan(name, voxels, grid, patient_id=patient_id or name, notes=notes))


def read_grid(path: Path) -> VoxelGrid:
    """Read where a volume's voxels lie as its file stores them, from its header alone.

    Args:
        path: as for `read_volume`; an .mhd's .raw need not be there.

    Raises:
        SeriesError: with every reason that the header gives.
    """
    return _grid_of(_read_header(path, with_data=False))


def _read_stored(path: Path) -> NDArray[Any]:
    """Read voxels as stored, [i, j, k] of any type, whole or not at all."""
    if volume_suffix(path) in NIFTI_SUFFIXES:
        voxels = read_nifti_voxels(path)
        if isinstance(voxels, str):
            raise _refusal(path, [voxels])
        return voxels
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = f"its voxels are incomplete or damaged: {_shortened(error)}"
        raise _refusal(path, [reason]) from error
    slices: NDArray[Any] = sitk.GetArrayFromImage(image)
    return slices.transpose(2, 1, 0)


def _read_header(path: Path, *, with_data: bool) -> _Stated:
    """Read the geometry that SimpleITK will use, or refuse with all reasons."""
    suffix = volume_suffix(path)
    if not suffix:
        raise _refusal(path, [f"expected one of {', '.join(VOLUME_SUFFIXES)}"])
    if not path.is_file():
        raise _refusal(path, ["there is no such file"])
    if suffix in (".mhd", ".mha"):
        reasons = _metaimage_reasons(path, with_data=with_data)
        if reasons:
            raise _refusal(path, reasons)
    reader: Any = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _refusal(path, [f"its header cannot be read: {_shortened(error)}"]) from error
    stated = _Stated(
        reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
    )
    reasons = _geometry_reasons(stated)
    components = int(reader.GetNumberOfComponents())
    if components != 1:
        reasons.append(f"expected one value a voxel, got {components}")
    if suffix in NIFTI_SUFFIXES:
        reasons += nifti_reasons(path)
    if reasons:
        raise _refusal(path, reasons)
    return stated


def _metaimage_reasons(path: Path, *, with_data: bool) -> list[str]:
    header = read_metaimage_header(path)
    reasons = header_reasons(header)
    axes = int((header.numbers("ndims") or (3.0,))[0])
    if axes == 3 and (len(header.numbers("dimsize")) == 3):
        stated = _Stated(
            tuple(int(size) for size in header.numbers("dimsize")),
            header.numbers("elementspacing") or header.numbers("elementsize") or (1.0,) * 3,
            header.numbers("offset") or (0.0,) * 3,
            header.numbers("transformmatrix") or tuple(np.eye(3).ravel()),
        )
        reasons += _geometry_reasons(stated)
    return reasons + (data_reasons(path, header) if with_data else [])


def _geometry_reasons(stated: _Stated) -> list[str]:
    """Say why a header's geometry is no grid of `VoxelGrid`."""
    if len(stated.sizes) != 3:
        return [f"expected 3 dimensions, got {len(stated.sizes)}: sizes {stated.sizes}"]
    reasons = []
    spacing = np.asarray(stated.spacing_mm)
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or spacing.min() <= 0:
        reasons.append(f"expected three positive spacings in mm, got {stated.spacing_mm}")
    origin = np.asarray(stated.origin_mm)
    if origin.shape != (3,) or not np.isfinite(origin).all():
        reasons.append(f"expected an origin of three finite mm, got {stated.origin_mm}")
    return reasons + _direction_reasons(np.asarray(stated.direction))


def _direction_reasons(direction: NDArray[np.float64]) -> list[str]:
    if direction.size != 9 or not np.isfinite(direction).all():
        return [f"expected nine finite direction cosines, got {direction.tolist()}"]
    cosines = direction.reshape(3, 3)
    if abs(np.linalg.det(cosines)) < DIRECTION_TOLERANCE:
        return [f"the direction is degenerate (two axes coincide): {cosines.tolist()}"]
    error = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    if error <= DIRECTION_TOLERANCE:
        return []
    return [
        f"the direction is sheared or not of unit length (off by {error:.2g}, at most "
        f"{DIRECTION_TOLERANCE:g} allowed): {cosines.tolist()}"
    ]


def _grid_of(stated: _Stated) -> VoxelGrid:
    i, j, k = stated.sizes
    return VoxelGrid.from_parts(
        (i, j, k),
        spacing_mm=stated.spacing_mm,
        origin_mm=stated.origin_mm,
        direction=np.asarray(stated.direction).reshape(3, 3),
    )


def _value_reasons(stored: NDArray[Any]) -> list[str]:
    """Say why stored values are not HU that fit int16; stored is [i, j, k] of any type."""
    reasons = []
    finite = stored
    if stored.dtype.kind == "f":
        bad = ~np.isfinite(stored)
        if bad.any():
            first = tuple(int(n) for n in np.argwhere(bad)[0])
            reasons.append(
                f"{int(bad.sum())} voxels are NaN or infinite, one at (i, j, k) = {first}"
            )
            finite = stored[~bad]
    if finite.size and stored.dtype != np.int16:
        low, high = finite.min(), finite.max()
        if low < HU_LIMITS[0] or high > HU_LIMITS[1]:
            reasons.append(f"expected HU within {HU_LIMITS}, got {low} to {high}")
    return reasons


def _refusal(path: Path, reasons: list[str]) -> SeriesError:
    return SeriesError(f"{path}: cannot be read as a CT volume", reasons)


def _shortened(error: Exception) -> str:
    """Keep what an ITK message says last: the lines before name source files and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Reason:")] or lines
    return told[-1].removeprefix("sitk::ERROR: ") if told else type(error).__name__
