"""Read a DICOM CT series into a `Scan`.

Headers are read first and pass the gate (`gate.py`); then each slice's pixels are read once. A
series is a list of files with any names, on disk or in zip archives. Slices are ordered by their
position along the normal, never by file name or InstanceNumber. Single-frame CT and enhanced
multi-frame CT are supported, uncompressed or in the transfer syntaxes of `streams.DECODERS`. A
series that is not one evenly spaced volume is refused with all reasons; it is not repaired. No
message names a patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.io.axial import is_axial, to_axial
from medkd.io.dicom.acquisitions import acquisition_notes
from medkd.io.dicom.codes import Fault, join_names, name_slices
from medkd.io.dicom.derive import IMPLANT_TYPE
from medkd.io.dicom.gate import GateSettings, examine
from medkd.io.dicom.header import HeaderSet, SliceHeader, read_headers
from medkd.io.dicom.order import order_faults
from medkd.io.dicom.pixels import PixelReader, Rescaled, padding_range, size_faults, to_hu
from medkd.io.dicom.window import read_window
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER
from medkd.io.file_ref import FileRef
from medkd.io.foreign import describe_error
from medkd.io.grouping import neighbour_reasons, unread_reasons
from medkd.io.synthetic_mark import IMPLANT, PHANTOM, parse_stamp, synthetic_note
from medkd.types import Acquisition, Scan, SliceFact

if TYPE_CHECKING:
    from medkd.geometry import VoxelGrid
    from medkd.io.reference.places import SeriesPlaces

_UIDS = ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


def read_dicom_folder(
    path: Path,
    *,
    gate: GateSettings | None = None,
    seriesuid: str | None = None,
    patient_id: str | None = None,
) -> Scan:
    """Read a folder that holds one CT series.

    Args:
        path: folder with the slices of one series, in files with any names; subfolders are ignored.
        gate: see `read_series`.
        seriesuid: see `read_series`.
        patient_id: see `read_series`.

    Returns:
        See `read_series`; `notes` also count the files that were ignored as not DICOM.

    Raises:
        SeriesError: with all reasons why the folder is not one CT series. One reason is a file
            that is not DICOM but whose name suggests a slice (damaged, packed or a broken link).
    """
    if not path.is_dir():
        raise SeriesError(f"{path}: not a DICOM folder", ["there is no such folder"])
    entries = sorted(path.iterdir())
    absent = {entry for entry in entries if _is_inaccessible(entry)}
    files = [entry for entry in entries if entry not in absent and entry.is_file()]
    found = read_headers([FileRef(file) for file in files])
    if not found.headers and not found.reasons:
        raise SeriesError(f"{path}: no CT series", ["expected DICOM files, found none"])
    others = [*found.not_dicom, *map(FileRef, sorted(absent))]
    beside = neighbour_reasons([header.ref for header in found.headers], others)
    found = replace(found, reasons=(*found.reasons, *beside))
    try:
        return read_series(found, gate=gate, seriesuid=seriesuid, patient_id=patient_id)
    except SeriesError as error:
        raise SeriesError(f"{path}: not one CT series", error.reasons) from error


def _is_inaccessible(entry: Path) -> bool:
    """Return whether a folder entry cannot be accessed; it is usually a broken link."""
    try:
        entry.stat()
    except OSError:
        return True
    return False


def read_series(
    files: Sequence[FileRef] | HeaderSet,
    *,
    gate: GateSettings | None,
    seriesuid: str | None = None,
    patient_id: str | None = None,
) -> Scan:
    """Read one CT series.

    Args:
        files: all files of the series in any order, or their headers from `read_headers`. A file
            that is not DICOM is a reason for refusal.
        gate: requirements for a chest CT, and which faults are accepted; None: any CT volume with
            valid geometry.
        seriesuid: name of the scan; default: its SeriesInstanceUID, or a hash of the voxels if it
            has none.
        patient_id: pseudonym of the patient; default: a hash of the PatientID.

    Returns:
        The scan with axis i along a row, j along a column, k along the slice normal (ascending).
        Sagittal and coronal volumes are converted to axial ones (`io/axial.py`). Padding is
        `pixels.PADDED_HU`. `notes` list accepted faults ("allowed: ..."), the generator of a
        synthetic series, and what is unusual about headers and pixels.

    Raises:
        SeriesError: with all reasons, each "code: text" (`codes.CODES`).
    """
    found = files if isinstance(files, HeaderSet) else read_headers(files)
    examined = examine(found.headers, gate)
    unread = () if found is files else unread_reasons(found.not_dicom)
    reasons = [*found.reasons, *unread, *examined.verdict.refused]
    if reasons or examined.grid is None:
        raise _refusal(reasons)
    if faults := size_faults(examined.ordered):
        raise _refusal(map(str, faults))
    try:
        pixels = _read_pixels(examined.ordered, examined.grid)
    except MemoryError as error:
        text = f"damaged_pixels: a volume of {examined.grid.shape} voxels: {describe_error(error)}"
        raise _refusal([text]) from error
    refused = [f for f in pixels.faults if f.code not in (gate.allow if gate else ())]
    if refused:
        raise _refusal(map(str, refused))
    allowed = [*examined.verdict.allowed, *map(str, pixels.faults)]
    notes = [f"allowed: {fault}" for fault in allowed] + _notes(examined.ordered, pixels.rescaled)
    if found.not_dicom:
        notes.append(f"{len(found.not_dicom)} files that are not DICOM were left out")
    first = examined.ordered[0]
    name = seriesuid or first.text("SeriesInstanceUID") or _name_of(pixels.slices_hu)
    scan = Scan(
        name,
        pixels.slices_hu.transpose(2, 1, 0),
        examined.grid,
        patient_id=patient_id or pseudonym_of(first.text("PatientID") or name),
        acquisition=_acquisition_of(first),
        notes=tuple(notes),
        slices=tuple(slice_fact(header) for header in examined.ordered),
        window=read_window(first.ref),
    )
    return to_axial(scan)


def places_of(headers: Sequence[SliceHeader], gate: GateSettings | None = None) -> SeriesPlaces:
    """Return the stored positions of slices, for annotations that refer to single slices.

    Args:
        headers: of one series, in any order.
        gate: the settings used to read the series; None: any CT volume.

    Raises:
        SeriesError: if the slices do not form one volume.
    """
    # Imported here to avoid a cycle: annotation readers import other modules of this package.
    from medkd.io.reference.places import SeriesPlaces

    examined = examine(headers, gate)
    if examined.grid is None:
        raise _refusal(examined.verdict.refused)
    ordered = examined.ordered
    frames = tuple(h.frame + 1 for h in ordered) if ordered[0].frames > 1 else ()
    return SeriesPlaces(
        ordered[0].text("SeriesInstanceUID"),
        examined.grid,
        frame_of_reference_uid=ordered[0].text("FrameOfReferenceUID"),
        sop_uids=tuple(h.text("SOPInstanceUID") for h in ordered),
        instance_numbers=tuple(h.whole("InstanceNumber") for h in ordered),
        frame_numbers=frames,
    )


def _name_of(slices_hu: NDArray[np.int16]) -> str:
    """Return a name derived from the voxels, for a series without SeriesInstanceUID."""
    digest = hashlib.sha256(repr(slices_hu.shape).encode())
    digest.update(slices_hu.data)
    return "series-" + digest.hexdigest()[:12]


def pseudonym_of(patient_id: str) -> str:
    """Return the short hash that replaces a PatientID in public sets (`identity: keep`).

    It keeps the PatientID out of screens and file names. It does not protect against trying all
    possible identifiers: hospital archives use keyed pseudonyms instead.
    """
    return "p" + hashlib.sha256(patient_id.encode("utf-8")).hexdigest()[:12]


def _acquisition_of(header: SliceHeader) -> Acquisition:
    """Return the acquisition parameters of a scan from a header."""
    return Acquisition(
        modality=header.text("Modality"),
        slice_thickness_mm=header.number("SliceThickness"),
        kernel="/".join(header.texts("ConvolutionKernel")) or None,
        kvp=header.number("KVP"),
        manufacturer=header.text("Manufacturer") or None,
    )


def generator_of(header: SliceHeader) -> str:
    """Return the generator stamp of a phantom or of a scan with implanted nodules; else empty."""
    if header.text("Manufacturer") == SYNTHETIC_MANUFACTURER:
        return parse_stamp(PHANTOM, header.text("SoftwareVersions"))
    if IMPLANT_TYPE in header.texts("ImageType"):
        return parse_stamp(IMPLANT, header.text("DerivationDescription").partition(":")[0])
    return ""


def generator_of_files(paths: Sequence[Path]) -> str:
    """Return the generator stamp in the first readable header of a series; empty if it has none.

    Args:
        paths: the files of the series; only the first three are tried.
    """
    for path in paths[:3]:
        if headers := read_headers([FileRef(path)]).headers:
            return generator_of(headers[0])
    return ""


def slice_fact(header: SliceHeader) -> SliceFact:
    """Return which image a slice was read from."""
    return SliceFact(
        header.whole("InstanceNumber"),
        header.text("SOPInstanceUID"),
        header.frame + 1 if header.frames > 1 else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Pixels:
    """HU [k, row, column], faults of slices, and how each slice was converted."""

    slices_hu: NDArray[np.int16]
    faults: tuple[Fault, ...]
    rescaled: tuple[Rescaled, ...]


def _read_pixels(ordered: Sequence[SliceHeader], grid: VoxelGrid) -> _Pixels:
    slices = np.empty(grid.shape[::-1], dtype=np.int16)
    faults: list[Fault] = []
    done: list[Rescaled] = []
    reader = PixelReader()
    for array, header in zip(slices, ordered, strict=True):
        fault = reader.read_into(array, header)
        if fault is None:
            done.append(to_hu(array, header))
            fault = done[-1].fault
        if fault is not None:
            faults.append(fault)
    if not faults:
        blank = [h for h, rescaled in zip(ordered, done, strict=True) if rescaled.blank]
        if 0 < 2 * len(blank) < len(ordered):
            faults = [Fault("blank_slices", f"{join_names(blank)}: all pixels are 0")]
        else:
            faults = order_faults(ordered, slices, axial=is_axial(grid))
    return _Pixels(slices, tuple(faults), tuple(done))


def _notes(headers: Sequence[SliceHeader], rescaled: Sequence[Rescaled]) -> list[str]:
    """Return notes on differences between slices and on changes that are not faults."""
    notes = []
    if stamp := generator_of(headers[0]):
        notes.append(synthetic_note(stamp))
    for name, values in (
        ("rescales", {(h.number("RescaleSlope"), h.number("RescaleIntercept")) for h in headers}),
        ("paddings", {padding_range(h) for h in headers}),
    ):
        if len(values) > 1:
            notes.append(f"{len(values)} {name} differ between slices; each slice has its own")
    if any(h.text("LossyImageCompression") == "01" for h in headers):
        notes.append("pixels were compressed lossily")
    if any(one.fractional for one in rescaled):
        notes.append("fractional HU were rounded to whole HU")
    if extra := sum(one.extra_bits for one in rescaled):
        notes.append(f"{extra} slices have bits above BitsStored, which were left out")
    noted: dict[str, list[SliceHeader]] = {}
    for header in headers:
        for note in header.notes:
            noted.setdefault(note, []).append(header)
    notes += [f"{join_names(which)}: {note}" for note, which in noted.items()]
    return notes + acquisition_notes(headers) + _identifier_notes(headers)


def _identifier_notes(headers: Sequence[SliceHeader]) -> list[str]:
    """Return notes on identifiers that are missing or invalid UIDs (PS3.5 9.1), without values.

    Some archives have them. Voxels and positions do not depend on identifiers, so such a series is
    read. `derive.py` refers to single images and refuses it.
    """
    notes = []
    for name in (*_UIDS, "PatientID"):
        if missing := [h for h in headers if not h.text(name)]:
            notes.append(f"{name_slices(missing, headers)}: no {name}")
        invalid = [h for h in headers if h.text(name) and not h.has_uid(name)]
        if invalid and name != "PatientID":
            notes.append(f"{name_slices(invalid, headers)}: {name} is not a valid UID")
    studies = {header.text("StudyInstanceUID") for header in headers} - {""}
    if len(studies) > 1:
        notes.append(f"{len(studies)} values of StudyInstanceUID in one series")
    return notes


def _refusal(reasons: Iterable[str]) -> SeriesError:
    return SeriesError("not one CT series", tuple(reasons))
