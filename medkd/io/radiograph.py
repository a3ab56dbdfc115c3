"""Chest radiographs from PNG into `Radiograph`: 8 or 16 bit, grey.

Pixels become float32 in 0..1 by the bit depth alone (no stretching), bright = dense as public
sets store them; a PNG cannot say otherwise. Indexed [row, column]. Colour is refused unless all
channels are equal. DICOM CR and DX are not read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from medkd.errors import SeriesError
from medkd.types import Radiograph

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_SCALE = {"L": 255.0, "P": 255.0, "LA": 255.0, "RGB": 255.0, "RGBA": 255.0, "I;16": 65535.0,
          "I;16B": 65535.0, "I": 65535.0}  # fmt: skip
"""Pillow's modes that hold an 8- or 16-bit PNG, and their full scale ("I" is 16 bit here)."""


def read_radiograph(path: Path, *, patient_id: str | None = None) -> Radiograph:
    """Read a grey PNG.

    Args:
        path: 8- or 16-bit PNG; its name without suffix becomes the imageuid.
        patient_id: pseudonym of the patient; the imageuid where not given.

    Returns:
        The radiograph, pixels [row, col] float32 in 0..1.

    Raises:
        SeriesError: if the file is missing, is no PNG, is broken, or is in colour.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "film.png"
        >>> Image.fromarray(np.full((4, 6), 51, np.uint8)).save(path)
        >>> round(float(read_radiograph(path).pixels[0, 0]), 3)
        0.2
    """
    if not path.is_file():
        raise _refusal(path, "there is no such file")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            mode = image.mode
            # A palette is an index into colours: look them up before judging.
            pixels = np.asarray(image.convert("RGB") if mode == "P" else image)
    except UnidentifiedImageError as error:
        raise _refusal(path, "expected a PNG") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _refusal(path, f"its pixels cannot be read: {error}") from error
    if mode not in _SCALE:
        raise _refusal(path, f"expected 8 or 16 bits of grey, got mode {mode!r}")
    grey = _grey(pixels, mode, path)
    name = path.name[: -len(path.suffix)]
    return Radiograph(
        imageuid=name,
        pixels=(grey / _SCALE[mode]).astype(np.float32),
        patient_id=patient_id or name,
    )


def _grey(pixels: NDArray[Any], mode: str, path: Path) -> NDArray[Any]:
    """Return [row, col]; alpha is dropped, colour channels must be equal."""
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., : -1 if mode in ("LA", "RGBA") else None]
    if (colours != colours[..., :1]).any():
        raise _refusal(path, "expected a grey image, got one in colour")
    return colours[..., 0]


def _refusal(path: Path, reason: str) -> SeriesError:
    return SeriesError(f"{path}: cannot be read as a radiograph", [reason])
