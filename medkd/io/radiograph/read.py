"""Read chest radiographs (DICOM CR, DX and secondary captures, PNG, JPEG) into `Radiograph`.

Pixels become float32 in 0..1, bright = dense, indexed [row, column]. DICOM pixels are mapped as the
header specifies (`values`). PNG and JPEG pixels are divided by their full scale; they cannot state
their polarity, so bright = dense is assumed, as in public data sets. A picture without contrast is
refused (`contrast`) before anything is masked; then a burned-in frame is set to 0. Reasons for
refusal have codes of `gate.CODES`. Size and aspect ratio are not changed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.series import pseudonym_of
from medkd.io.dicom.tags import text_of
from medkd.io.dicom.window import window_of
from medkd.io.file_ref import FileRef
from medkd.io.radiograph.contrast import contrast_notes, contrast_reason
from medkd.io.radiograph.dicom import (
    LOSSY_GREY,
    DisplayedImage,
    dicom_reasons,
    displayed_pixels,
    grey_of,
    orientation_of,
    read_accepted,
    read_header,
    refuse_damaged,
    spacing_of,
)
from medkd.io.radiograph.gate import refusal, view_of
from medkd.io.radiograph.values import inside_frame, mask_border
from medkd.types import Radiograph

_MODES = {"L": 255.0, "P": 255.0, "LA": 255.0, "RGB": 255.0, "RGBA": 255.0, "I;16": 65535.0,
          "I;16B": 65535.0, "I": 65535.0}  # fmt: skip
"""Maps Pillow modes of 8 or 16 bits to their full scale ("I" holds 16 bits here)."""

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""The first bytes of PNG and JPEG files."""


@dataclass(frozen=True, slots=True)
class RadiographHeader:
    """The header of a radiograph's file.

    Args:
        modality: CR, DX, ...; empty for PNG and JPEG.
        view: see `gate.view_of`.
        manufacturer: Manufacturer; empty if not stated.
        shape: (rows, columns); empty if unreadable.
        spacing_mm: (between rows, between columns); None if not stated.
        reasons: why it cannot be analysed, each "code: text".
    """

    modality: str = ""
    view: str | None = None
    manufacturer: str = ""
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, float] | None = None
    reasons: tuple[str, ...] = ()


def read_radiograph(
    source: Path | FileRef,
    *,
    imageuid: str | None = None,
    patient_id: str | None = None,
    allow: Collection[str] | None = (),
) -> Radiograph:
    """Read a chest radiograph.

    Args:
        source: DICOM, PNG (8 or 16 bit) or JPEG; the format is detected from the content.
        imageuid: name of the image; default: SOPInstanceUID, or the file name without suffix.
        patient_id: pseudonym of the patient; default: a short hash of PatientID, or the imageuid
            if there is no PatientID.
        allow: codes of `gate.CODES` to accept; None: all that can be accepted.

    Returns:
        The radiograph with pixels [row, col] float32 in 0..1, bright = dense. Its notes list
        deviations from what the file states.

    Raises:
        SeriesError: with all reasons, each "code: text".

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "film.png"
        >>> Image.fromarray(np.array([[51, 102]], np.uint8)).save(path)
        >>> read_radiograph(path).pixels.round(3).tolist()
        [[0.20000000298023224, 0.4000000059604645]]
    """
    ref = source if isinstance(source, FileRef) else FileRef(source)
    with refuse_damaged(ref), _opened(ref) as stream:
        if _is_picture(stream):
            name = imageuid or _stem(ref)
            shown = _picture_pixels(stream, ref)
            notes = _contrast_notes(shown, ref)
            return Radiograph(name, _masked(shown), patient_id or name, notes=notes)
        with quiet_dicom():
            dataset, found = read_accepted(stream, ref, allow=allow)
            name = imageuid or text_of(dataset, "SOPInstanceUID") or _stem(ref)
            patient = text_of(dataset, "PatientID")
            shown = displayed_pixels(dataset, ref)
            notes = (*found, *_contrast_notes(shown, ref))
            return Radiograph(
                imageuid=name,
                pixels=_masked(shown),
                patient_id=patient_id or (pseudonym_of(patient) if patient else name),
                pixel_spacing_mm=spacing_of(dataset),
                view=view_of(dataset),
                notes=notes,
                window=None if dataset.get("VOILUTSequence") else window_of(dataset),
                orientation=orientation_of(dataset),
            )


def read_radiograph_header(source: Path | FileRef) -> RadiographHeader:
    """Read the header of a radiograph's file; the pixels are not decoded.

    Raises:
        SeriesError: if the file is not readable as DICOM, PNG or JPEG.
    """
    ref = source if isinstance(source, FileRef) else FileRef(source)
    with refuse_damaged(ref), _opened(ref) as stream:
        if _is_picture(stream):
            with _picture(stream, ref) as image:
                return RadiographHeader(shape=(image.height, image.width))
        with quiet_dicom():
            dataset, has_pixels = read_header(stream, ref)
            return _header_of(dataset, ref, has_pixels=has_pixels)


def to_unit(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map TorchXRayVision's range to 0..1: x / 2048 + 1/2, the inverse of `to_xrv`."""
    return (pixels / np.float32(2048.0) + np.float32(0.5)).astype(np.float32)


def to_xrv(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map 0..1 to TorchXRayVision's range: (2 x - 1) * 1024, from -1024 (black) to 1024 (white).

    Source: `torchxrayvision.utils.normalize`.

    Example:
        >>> to_xrv(np.array([0.0, 0.5, 1.0], np.float32)).tolist()
        [-1024.0, 0.0, 1024.0]
    """
    return ((pixels * np.float32(2.0) - np.float32(1.0)) * np.float32(1024.0)).astype(np.float32)


def _opened(ref: FileRef) -> BinaryIO:
    try:
        return ref.open()
    except FileNotFoundError:
        raise refusal(ref, "unreadable: there is no such file") from None


def _is_picture(stream: BinaryIO) -> bool:
    first = stream.read(8)
    stream.seek(0)
    return first.startswith(_MAGIC)


def _stem(ref: FileRef) -> str:
    return Path(ref.name).stem


def _picture(stream: BinaryIO, ref: FileRef) -> Image.Image:
    with refuse_damaged(ref, "unreadable: expected a whole PNG or JPEG, copy or export it again: "):
        return Image.open(stream, formats=["PNG", "JPEG"])


def _picture_pixels(stream: BinaryIO, ref: FileRef) -> DisplayedImage:
    """Return the pixels of a PNG or JPEG in 0..1, rotated according to its EXIF orientation."""
    with _picture(stream, ref) as image:
        mode, lossy = image.mode, image.format == "JPEG"
        if mode not in _MODES:
            raise refusal(ref, f"colour: expected 8 or 16 bits of grey, got mode {mode!r}")
        with refuse_damaged(ref, "bad_pixels: they cannot be decoded, copy or export it again: "):
            upright = ImageOps.exif_transpose(image)
            # Palette pixels are indices: look up the colours before checking that they are grey.
            pixels = np.asarray(upright.convert("RGB") if mode == "P" else upright)
    if mode in ("LA", "RGBA"):
        pixels = pixels[..., :-1]
    grey = grey_of(pixels, ref, tolerance=LOSSY_GREY if lossy else 0)
    return DisplayedImage((grey / _MODES[mode]).astype(np.float32), np.ones(grey.shape, np.bool_))


def _contrast_notes(shown: DisplayedImage, ref: FileRef) -> tuple[str, ...]:
    """Check the contrast of a picture, with and without its frame, and return its notes.

    Raises:
        SeriesError: if there is no contrast.
    """
    pixels, visible = shown.pixels, shown.visible
    inner = inside_frame(pixels) if pixels.size else (slice(0), slice(0))
    whole = contrast_reason(pixels, visible)
    if reason := whole or contrast_reason(pixels[inner], visible[inner]):
        text = f"no_contrast: displayed as the header specifies, {reason}"
        raise refusal(ref, f"{text}; export it again, or correct its window or look-up table")
    return (*shown.notes, *contrast_notes(pixels, visible, inner))


def _masked(shown: DisplayedImage) -> NDArray[np.float32]:
    """Return the pixels; padding, the area outside a shutter and a burned-in frame are set to 0."""
    return np.ascontiguousarray(mask_border(shown.pixels * shown.visible))


def _header_of(dataset: Any, ref: FileRef, *, has_pixels: bool) -> RadiographHeader:  # noqa: ANN401
    size = tuple(text_of(dataset, name) for name in ("Rows", "Columns"))
    return RadiographHeader(
        modality=text_of(dataset, "Modality"),
        view=view_of(dataset),
        manufacturer=text_of(dataset, "Manufacturer"),
        shape=tuple(int(n) for n in size) if all(n.isdigit() for n in size) else (),
        spacing_mm=spacing_of(dataset),
        reasons=tuple(dicom_reasons(dataset, has_pixels=has_pixels)),
    )
