"""A plain DICOM CT series, one folder, into `Scan`.

Plain: one series of single-frame CT images with parallel, evenly spaced slices, uncompressed or
in a transfer syntax that pydicom decodes with what is installed. Slices are ordered by where
they lie along the slice normal (never by file name or InstanceNumber), pixels are read straight
into their place, and the rescale is applied slice by slice (DICOM PS3.3 C.11.1). What is not
plain (tilted, gaps, doubled slices, several series) is refused with all reasons, not repaired.
No message names a patient. The checks of a series are in `dicom_checks.py`.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.dicom_checks import SliceHeader, SlicePlaces, header_reasons, place_slices
from medkd.types import Acquisition, Scan

_TAGS = [
    "TransferSyntaxUID", "SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer", "PatientID",
    "SliceThickness", "KVP", "ConvolutionKernel", "SeriesInstanceUID", "FrameOfReferenceUID",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip

_NATIVE = {"1.2.840.10008.1.2": 8, "1.2.840.10008.1.2.1": 12}
"""Uncompressed little-endian transfer syntaxes, and the bytes before the pixels' value."""

_UNREADABLE = (
    OSError, EOFError, ValueError, AttributeError, KeyError, RuntimeError, NotImplementedError,
)  # fmt: skip
"""What pydicom raises for files that are broken or need a decoder that is not installed."""

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_UNDEFINED_LENGTH = 0xFFFFFFFF
_HU_LOW, _HU_HIGH = -32768, 32767


def read_dicom_folder(
    path: Path, *, seriesuid: str | None = None, patient_id: str | None = None
) -> Scan:
    """Read the one CT series that a folder holds.

    Args:
        path: folder with the slices of one series, in files of any name; not searched below.
        seriesuid: name to give the series; its SeriesInstanceUID where not given.
        patient_id: pseudonym to give the patient; a hash of the PatientID where not given.

    Returns:
        The scan: axis i along a row, j along a column, k along the slice normal (ascending).
        `notes` count the files left out because they are not DICOM.

    Raises:
        SeriesError: with every reason why the folder is not one plain CT series.
    """
    if not path.is_dir():
        raise SeriesError(f"{path}: not a DICOM folder", ["there is no such folder"])
    headers, reasons, strangers = _read_headers(path)
    if not headers and not reasons:
        reasons = ["expected DICOM files, found none"]
    places = place_slices(headers)
    reasons += [*header_reasons(headers), *places.reasons]
    if reasons:
        raise _refusal(path, reasons)
    ordered = [headers[index] for index in places.order]
    voxels, pixel_reasons, fractional = _read_pixels(ordered)
    if pixel_reasons:
        raise _refusal(path, pixel_reasons)
    notes = [f"{strangers} files that are not DICOM were left out"] if strangers else []
    notes += ["fractional HU were rounded to whole HU"] if fractional else []
    first = ordered[0].dataset
    name = seriesuid or str(first.SeriesInstanceUID)
    return Scan(
        name,
        voxels,
        _grid_of(ordered, places),
        patient_id=patient_id or pseudonym_of(str(first.get("PatientID") or name)),
        acquisition=_acquisition_of(first),
        notes=tuple(notes),
    )


def pseudonym_of(patient_id: str) -> str:
    """Return the short hash that stands for a PatientID in public sets (`identity: keep`).

    It hides the name from screens and file names. It is no protection against somebody who
    tries all identifiers: hospital archives get keyed pseudonyms.
    """
    return "p" + hashlib.sha256(patient_id.encode("utf-8")).hexdigest()[:12]


def _read_headers(path: Path) -> tuple[list[SliceHeader], list[str], int]:
    """Read every file's header: headers, reasons, and how many files are not DICOM."""
    headers, reasons, strangers = [], [], 0
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    with warnings.catch_warnings():
        # pydicom warns of odd values by showing them; what matters is checked and worded here.
        warnings.simplefilter("ignore", UserWarning)
        for file in files:
            try:
                headers.append(_read_header(file))
            except InvalidDicomError:
                strangers += 1
            except _UNREADABLE as error:
                kind = type(error).__name__
                reasons.append(f"{file.name}: its DICOM header cannot be read ({kind})")
    return headers, reasons, strangers


def _read_header(file: Path) -> SliceHeader:
    """Read a header and note where an uncompressed file's pixels begin (None = decode)."""
    with file.open("rb") as stream:
        dataset: Any = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS)
        start = stream.tell()
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
        prefix = stream.read(12)
        stream.seek(0, io.SEEK_END)
        end = stream.tell()
    if syntax not in _NATIVE or prefix[:4] != _PIXEL_DATA:
        return SliceHeader(file, dataset, None, 0, has_pixels=start < end)
    offset = start + _NATIVE[syntax]
    stated = int.from_bytes(prefix[: _NATIVE[syntax]][-4:], "little")
    if stated == _UNDEFINED_LENGTH:
        return SliceHeader(file, dataset, None, 0, has_pixels=True)
    there = min(stated, end - offset)
    return SliceHeader(file, dataset, offset, there, has_pixels=there > 0)


@dataclass(slots=True)
class _Rescaled:
    """What became of one slice's values."""

    reasons: list[str]
    fractional: bool = False


def _read_pixels(
    ordered: list[SliceHeader],
) -> tuple[NDArray[np.int16], list[str], bool]:
    """Fill [k, j, i] slice by slice; return its (i, j, k) view, reasons, and if HU were rounded."""
    first = ordered[0].dataset
    shape = (len(ordered), int(first.Rows), int(first.Columns))
    slices = np.empty(shape, dtype=np.int16)
    reasons: list[str] = []
    fractional = False
    for place, header in zip(slices, ordered, strict=True):
        problem = _fill_slice(place, header)
        if problem:
            reasons.append(f"{header.path.name}: {problem}")
            continue
        rescaled = _rescale(place, header.dataset)
        reasons += [f"{header.path.name}: {reason}" for reason in rescaled.reasons]
        fractional = fractional or rescaled.fractional
    return slices.transpose(2, 1, 0), reasons, fractional


def _fill_slice(place: NDArray[np.int16], header: SliceHeader) -> str:
    """Put a slice's stored bits into `place`; return what went wrong, or an empty text."""
    if header.pixel_offset is not None:
        if header.pixel_bytes != place.nbytes:
            return f"expected {place.nbytes} bytes of pixels, got {header.pixel_bytes}"
        with header.path.open("rb") as stream:
            stream.seek(header.pixel_offset)
            stream.readinto(place.data.cast("B"))
        return ""
    try:
        decoded = np.asarray(pydicom.dcmread(header.path).pixel_array)
    except _UNREADABLE as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        return f"its pixels cannot be decoded ({line}); pip install 'pydicom[pixeldata]' may help"
    if decoded.shape != place.shape or decoded.dtype.itemsize != 2:
        return f"expected {place.shape} pixels of 16 bit, got {decoded.shape} {decoded.dtype}"
    np.copyto(place.view(decoded.dtype), decoded)
    return ""


def _rescale(place: NDArray[np.int16], dataset: Any) -> _Rescaled:  # noqa: ANN401  # untyped
    """Turn stored bits into HU in place: HU = stored * RescaleSlope + RescaleIntercept."""
    unused = 16 - int(dataset.BitsStored)
    signed = int(dataset.PixelRepresentation) == 1
    stored: NDArray[Any] = place if signed else place.view(np.uint16)
    if unused:  # Bits above BitsStored may hold old overlays (PS3.5 8.1.1): drop them.
        np.left_shift(stored, unused, out=stored)
        np.right_shift(stored, unused, out=stored)
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    low, high = sorted(slope * float(edge) + intercept for edge in (stored.min(), stored.max()))
    if low < _HU_LOW or high > _HU_HIGH:
        reason = f"expected HU within {(_HU_LOW, _HU_HIGH)}, got {low:g} to {high:g}"
        return _Rescaled([reason])
    if slope == 1 and intercept.is_integer() and abs(intercept) <= _HU_HIGH:
        # Sums that fit int16 come out right modulo 2^16, whatever the sign of the stored bits.
        np.add(place, np.int16(intercept), out=place)
        return _Rescaled([])
    exact = stored.astype(np.float64) * slope + intercept
    rounded = np.rint(exact)
    place[...] = rounded
    return _Rescaled([], fractional=bool(np.abs(exact - rounded).max() > 1e-6))


def _grid_of(ordered: list[SliceHeader], places: SlicePlaces) -> VoxelGrid:
    """Build the grid of slices in order: PixelSpacing is (between rows, between columns)."""
    first = ordered[0].dataset
    row_step, column_step = (float(value) for value in first.PixelSpacing)
    cosines = np.asarray([float(value) for value in first.ImageOrientationPatient])
    along_row, along_column = cosines[:3], cosines[3:]
    affine = np.eye(4)
    affine[:3, 0] = along_row * column_step
    affine[:3, 1] = along_column * row_step
    affine[:3, 2] = np.cross(along_row, along_column) * places.spacing_mm
    affine[:3, 3] = [float(value) for value in first.ImagePositionPatient]
    return VoxelGrid((int(first.Columns), int(first.Rows), len(ordered)), affine)


def _acquisition_of(dataset: Any) -> Acquisition:  # noqa: ANN401  # pydicom has no types here
    kernel = dataset.get("ConvolutionKernel")
    if kernel is not None and not isinstance(kernel, str):
        kernel = "/".join(str(part) for part in kernel)
    thickness, kvp = dataset.get("SliceThickness"), dataset.get("KVP")
    return Acquisition(
        modality=str(dataset.Modality),
        slice_thickness_mm=None if thickness in (None, "") else float(thickness),
        kernel=kernel or None,
        kvp=None if kvp in (None, "") else float(kvp),
        manufacturer=str(dataset.get("Manufacturer") or "") or None,
    )


def _refusal(path: Path, reasons: list[str]) -> SeriesError:
    return SeriesError(f"{path}: not one plain CT series", reasons)
