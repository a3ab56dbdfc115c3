"""Chest radiographs into `Radiograph`: DICOM CR, DX and secondary captures, PNG, JPEG.

Pixels become float32 in 0..1, bright = dense, indexed [row, column]. DICOM is shown as its header
asks (`values`); PNG and JPEG are divided by their bit depth and taken as public sets
store them, since they cannot say otherwise. A picture without contrast is refused (`contrast`)
before anything is masked; then a burned-in frame is set to 0. Faults refuse with codes of
`gate.CODES`. Sizes and aspect are left as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.series import pseudonym_of
from medkd.io.dicom.tags import text_of
from medkd.io.file_ref import FileRef
from medkd.io.radiograph.contrast import contrast_reason, faint_note, saturated_note
from medkd.io.radiograph.dicom import (
    LOSSY_GREY,
    Shown,
    grey_of,
    read_header,
    read_shown,
    reasons_of,
    refusing_broken,
    shown_pixels,
    spacing_of,
)
from medkd.io.radiograph.gate import refusal, view_of
from medkd.io.radiograph.values import inside_frame, mask_border
from medkd.types import Radiograph

_MODES = {"L": 255.0, "P": 255.0, "LA": 255.0, "RGB": 255.0, "RGBA": 255.0, "I;16": 65535.0,
          "I;16B": 65535.0, "I": 65535.0}  # fmt: skip
"""Pillow's modes that hold 8 or 16 bits, and their full scale ("I" is 16 bit here)."""

_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
"""How PNG and JPEG begin."""


@dataclass(frozen=True, slots=True)
class RadiographHeader:
    """What a radiograph's file says of itself, pixels apart.

    Args:
        imageuid: SOPInstanceUID; the file's name without suffix for PNG and JPEG.
        patient_id: PatientID as it stands there, empty where unsaid. Identity: never shown.
        study_date: DICOM date, empty where unsaid. Identity: never shown.
        institution: as it stands there. Identity: never shown.
        modality: CR, DX, ...; empty for PNG and JPEG.
        view: see `gate.view_of`.
        manufacturer: as the header says.
        shape: (rows, columns).
        spacing_mm: between rows, between columns; None where unsaid.
        reasons: why it is not fit for analysis, "code: text".
    """

    imageuid: str = field(repr=False)
    patient_id: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    institution: str = field(default="", repr=False)
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
        source: DICOM, PNG (8 or 16 bit) or JPEG; what it is shows in its bytes, not its name.
        imageuid: what the image is called; SOPInstanceUID or the file's name without suffix
            where not given.
        patient_id: pseudonym of the patient; a short hash of PatientID where not given, the
            imageuid where there is none.
        allow: codes of `gate.CODES` to let pass; None: all that may be.

    Returns:
        The radiograph, pixels [row, col] float32 in 0..1, bright = dense; its notes say what of
        the file was not taken as it stands.

    Raises:
        SeriesError: with every reason as "code: text".

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "film.png"
        >>> Image.fromarray(np.array([[51, 102]], np.uint8)).save(path)
        >>> read_radiograph(path).pixels.round(3).tolist()
        [[0.20000000298023224, 0.4000000059604645]]
    """
    ref = source if isinstance(source, FileRef) else FileRef(source)
    with refusing_broken(ref), _opened(ref) as stream:
        if _is_picture(stream):
            name = imageuid or _stem(ref)
            shown = _picture_pixels(stream, ref)
            notes = _judged(shown, ref)
            return Radiograph(name, _masked(shown), patient_id or name, notes=notes)
        with quiet_dicom():
            dataset, found = read_shown(stream, ref, allow=allow)
            name = imageuid or text_of(dataset, "SOPInstanceUID") or _stem(ref)
            patient = text_of(dataset, "PatientID")
            shown = shown_pixels(dataset, ref)
            notes = (*found, *_judged(shown, ref))
            return Radiograph(
                imageuid=name,
                pixels=_masked(shown),
                patient_id=patient_id or (pseudonym_of(patient) if patient else name),
                pixel_spacing_mm=spacing_of(dataset),
                view=view_of(dataset),
                notes=notes,
            )


def read_radiograph_header(source: Path | FileRef) -> RadiographHeader:
    """Read what a radiograph's file says of itself; its pixels are not decoded.

    Raises:
        SeriesError: if it cannot be read as DICOM, PNG or JPEG at all.
    """
    ref = source if isinstance(source, FileRef) else FileRef(source)
    with refusing_broken(ref), _opened(ref) as stream:
        if _is_picture(stream):
            with _picture(stream, ref) as image:
                return RadiographHeader(_stem(ref), shape=(image.height, image.width))
        with quiet_dicom():
            dataset, has_pixels = read_header(stream, ref)
            return _header_of(dataset, ref, has_pixels=has_pixels)


def to_unit(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn TorchXRayVision's range into 0..1: x / 2048 + 1/2; `to_xrv` backwards."""
    return (pixels / np.float32(2048.0) + np.float32(0.5)).astype(np.float32)


def to_xrv(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn 0..1 into TorchXRayVision's range: (2 x - 1) * 1024, -1024 black to 1024 white.

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
    with refusing_broken(
        ref, "unreadable: expected a whole PNG or JPEG, copy or export it again: "
    ):
        return Image.open(stream, formats=["PNG", "JPEG"])


def _picture_pixels(stream: BinaryIO, ref: FileRef) -> Shown:
    """Return a PNG's or JPEG's pixels in 0..1, turned as its EXIF tag asks."""
    with _picture(stream, ref) as image:
        mode, lossy = image.mode, image.format == "JPEG"
        if mode not in _MODES:
            raise refusal(ref, f"colour: expected 8 or 16 bits of grey, got mode {mode!r}")
        with refusing_broken(ref, "bad_pixels: they cannot be decoded, copy or export it again: "):
            upright = ImageOps.exif_transpose(image)
            # A palette is an index into colours: look them up before judging.
            pixels = np.asarray(upright.convert("RGB") if mode == "P" else upright)
    if mode in ("LA", "RGBA"):
        pixels = pixels[..., :-1]
    grey = grey_of(pixels, ref, tolerance=LOSSY_GREY if lossy else 0)
    return Shown((grey / _MODES[mode]).astype(np.float32), np.ones(grey.shape, np.bool_))


def _judged(shown: Shown, ref: FileRef) -> tuple[str, ...]:
    """Return the notes of a picture that shows something, all of it and within its frame.

    Raises:
        SeriesError: if it does not.
    """
    inner = inside_frame(shown.pixels) if shown.pixels.size else (slice(0), slice(0))
    parts = (shown.pixels, shown.seen), (shown.pixels[inner], shown.seen[inner])
    if reason := next(filter(None, (contrast_reason(*part) for part in parts)), ""):
        told = f"no_contrast: as the file asks to be shown, {reason}"
        raise refusal(ref, f"{told}; export it again, or correct its window or look-up table")
    found = (saturated_note(*parts[0]), faint_note(*parts[1]))
    return (*shown.notes, *filter(None, found))


def _masked(shown: Shown) -> NDArray[np.float32]:
    """Set what the file does not show, and a burned-in frame, to 0."""
    return np.ascontiguousarray(mask_border(shown.pixels * shown.seen))


def _header_of(dataset: Any, ref: FileRef, *, has_pixels: bool) -> RadiographHeader:  # noqa: ANN401
    size = tuple(text_of(dataset, name) for name in ("Rows", "Columns"))
    return RadiographHeader(
        imageuid=text_of(dataset, "SOPInstanceUID") or _stem(ref),
        patient_id=text_of(dataset, "PatientID"),
        study_date=text_of(dataset, "StudyDate"),
        institution=text_of(dataset, "InstitutionName"),
        modality=text_of(dataset, "Modality"),
        view=view_of(dataset),
        manufacturer=text_of(dataset, "Manufacturer"),
        shape=tuple(int(n) for n in size) if all(n.isdigit() for n in size) else (),
        spacing_mm=spacing_of(dataset),
        reasons=tuple(reasons_of(dataset, has_pixels=has_pixels)),
    )
