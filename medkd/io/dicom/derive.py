"""Write a modified copy of a DICOM CT series, marked as derived.

This is used for synthetic nodules in real scans. Every slice is a copy of the original data set
with new UIDs. The derivation is documented as PS3.3 requires: ImageType DERIVED, SECONDARY
(C.7.6.1.1.2) with `IMPLANT_TYPE`, source image and derivation description (C.12.4), the program as
contributing equipment (C.12.1.1.5). The copy keeps the patient and the frame of reference of the
original. It has a study and a series of its own, so a viewer never shows it as part of the real
study. Unchanged slices keep their stored pixels. Enhanced multi-frame CT is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from medkd.errors import SeriesError
from medkd.io.dicom.codes import name_slices
from medkd.io.dicom.pixels import PixelReader, padding_range, stored_values
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.tags import hashed_uid

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader

IMPLANT_TYPE = "MEDKD_IMPLANT"
"""Value of ImageType that marks a real scan with synthetic nodules."""

_ORIGINAL_ONLY = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "IconImageSequence",
    "DigitalSignaturesSequence", "MACParametersSequence", "InstanceCreatorUID",
)  # fmt: skip
"""Attributes that are removed because they hold for the original only."""

_TITLE = "SYNTHETIC NODULES "
_MAX_TITLE = 64


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a copy was derived, as stated in its headers.

    Args:
        description: DerivationDescription, at most 1024 characters.
        version: of the program.
        key: new UIDs are derived from the original UIDs and this key; they are reproducible.
    """

    description: str
    version: str
    key: str


def derived_uid(uid: str, key: str) -> str:
    """Derive the UID of a copy from the original UID and a key (PS3.5 B.2).

    Example:
        >>> derived_uid("1.2.3", "a") == derived_uid("1.2.3", "a") != derived_uid("1.2.3", "b")
        True
    """
    return hashed_uid(f"medkd derived {uid} {key}")


def write_derived_series(
    slices: Sequence[SliceHeader],
    added_hu: NDArray[np.int16],
    folder: Path,
    derivation: Derivation,
) -> list[Path]:
    """Write a copy of a series with HU added to its voxels.

    Args:
        slices: headers of single-frame CT images in order of k, as `gate.examine` orders them.
        added_hu: [i, j, k] HU to add; results are clipped to the range of the stored bits.
        folder: for the files 00001.dcm, 00002.dcm, ... in order of k; created if missing.
        derivation: the description for the headers.

    Returns:
        The files in order of k.

    Raises:
        SeriesError: if the series cannot be copied; with the reasons.
    """
    check_writable(slices)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    reader = PixelReader()
    with quiet_dicom():
        for k, header in enumerate(slices):
            with header.ref.open() as stream:
                dataset = pydicom.dcmread(stream, force=True)
            dataset.file_meta.TransferSyntaxUID = header.syntax  # the file may have no file meta
            plane = added_hu[:, :, k].T
            if plane.any():
                _alter_pixels(dataset, header, plane, reader)
            _mark(dataset, header, derivation)
            path = folder / f"{k + 1:05d}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            paths.append(path)
    return paths


def check_writable(slices: Sequence[SliceHeader]) -> None:
    """Check that a derived copy of a series can be written.

    Args:
        slices: as for `write_derived_series`.

    Raises:
        SeriesError: if it cannot; with all reasons.
    """
    # The study and series UIDs of a copy are hashes of the original's, which may be invalid.
    lacking = {
        "SOPInstanceUID": [h for h in slices if not h.has_uid("SOPInstanceUID")],
        "SeriesInstanceUID": [h for h in slices if not h.text("SeriesInstanceUID")],
        "StudyInstanceUID": [h for h in slices if not h.text("StudyInstanceUID")],
    }
    reasons = [
        f"{name_slices(odd, slices)}: expected a valid {name}, which a copy needs to refer to its "
        "original, got none: add it with a DICOM tool"
        for name, odd in lacking.items()
        if odd
    ]
    if any(header.frames > 1 for header in slices):
        reasons.append("enhanced multi-frame CT cannot be copied: provide one file per slice")
    if any(header.syntax == ExplicitVRBigEndian for header in slices):
        reasons.append("big-endian files cannot be copied: convert them first")
    if reasons:
        raise SeriesError("no derived copy of the series can be written", reasons)


def _alter_pixels(
    dataset: Dataset, header: SliceHeader, added_hu: NDArray[np.int16], reader: PixelReader
) -> None:
    """Add HU to the pixels of a data set and store them uncompressed.

    Bits above BitsStored are kept if values are unsigned.
    """
    stored = np.empty(added_hu.shape, dtype=np.int16)
    fault = reader.read_into(stored, header)
    if fault is not None:
        raise SeriesError("no derived copy of the series can be written", [str(fault)])
    original = stored.view(np.uint16).astype(np.int64)
    values = stored_values(stored, header).astype(np.int64)
    slope = header.number("RescaleSlope") or 1.0
    wanted = values + np.rint(added_hu / slope).astype(np.int64)
    ends = padding_range(header)
    if ends is not None:  # padding stays padding, and no other pixel may get a padding value
        padded = (values >= ends[0]) & (values <= ends[1])
        wanted = np.where(padded | ((wanted >= ends[0]) & (wanted <= ends[1])), values, wanted)
    bits = header.whole("BitsStored") or 16
    signed = bool(header.whole("PixelRepresentation"))
    lowest = -(1 << (bits - 1)) if signed else 0
    wanted = np.clip(wanted, lowest, lowest + (1 << bits) - 1)
    if not signed:
        wanted |= original >> bits << bits
    dataset.PixelData = (wanted & 0xFFFF).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset["PixelData"].is_undefined_length = False
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _mark(dataset: Dataset, header: SliceHeader, derivation: Derivation) -> None:
    """Set new UIDs and the attributes that document the derivation."""
    source = _reference(dataset)
    for name in _ORIGINAL_ONLY:
        dataset.pop(name, None)
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(dataset, name, derived_uid(header.text(name), derivation.key))
    kinds = [kind for kind in header.texts("ImageType")[2:] if kind != IMPLANT_TYPE]
    dataset.ImageType = ["DERIVED", "SECONDARY", *(kinds or ["AXIAL"]), IMPLANT_TYPE]
    dataset.DerivationDescription = derivation.description[:1024]
    dataset.SourceImageSequence = [source]
    dataset.QualityControlImage = "YES"
    dataset.ContentQualification = "RESEARCH"
    old = header.text("SeriesDescription").removeprefix(_TITLE)
    dataset.SeriesDescription = f"{_TITLE}{old}"[:_MAX_TITLE].strip()
    equipment = [*dataset.get("ContributingEquipmentSequence", []), _equipment(derivation)]
    dataset.ContributingEquipmentSequence = equipment
    meta = dataset.file_meta
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name in ("ImplementationClassUID", "ImplementationVersionName",
                 "SourceApplicationEntityTitle"):  # fmt: skip
        meta.pop(name, None)


def _reference(dataset: Dataset) -> Dataset:
    """Return a reference to the original as source image for processing (PS3.16 CID 7202)."""
    source = Dataset()
    source.ReferencedSOPClassUID = dataset.SOPClassUID
    source.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    source.PurposeOfReferenceCodeSequence = [
        _code("121322", "Source image for image processing operation")
    ]
    return source


def _equipment(derivation: Derivation) -> Dataset:
    """Return the item that names medkd as modifying equipment (PS3.16 CID 7005)."""
    program = Dataset()
    program.Manufacturer = "medkd"
    program.ManufacturerModelName = "medkd implant"
    program.SoftwareVersions = derivation.version
    program.ContributionDescription = "Synthetic nodules were inserted; not for diagnosis"
    program.PurposeOfReferenceCodeSequence = [_code("109103", "Modifying Equipment")]
    return program


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
