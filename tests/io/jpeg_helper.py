"""JPEG lossless streams for tests, written from ISO 10918-1 Annex H: whole, cut and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1

END = b"\xff\xd9"


def encode_jpeg_lossless(stored: np.ndarray, bits: int = 16) -> bytes:
    """Encode values [row, col] with the predictor of the left neighbour (selection value 1).

    Each of the 17 difference categories has a code of 5 bits: its number.
    """
    rows, columns = stored.shape
    values = stored.astype(np.int64) & (1 << bits) - 1
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0], predicted[0, 0] = values[:-1, 0], 1 << (bits - 1)
    words = []
    for difference in ((values - predicted + 32767) % 65536 - 32767).flat:
        category = int(abs(difference)).bit_length()
        words.append(f"{category:05b}")
        if 0 < category < 16:
            extra = difference if difference > 0 else difference + (1 << category) - 1
            words.append(f"{extra:0{category}b}")
    text = "".join(words)
    text += "1" * (-len(text) % 8)
    coded = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    frame = b"\xff\xc3" + struct.pack(">HBHHB", 11, bits, rows, columns, 1) + b"\x01\x11\x00"
    counts = bytes([0, 0, 0, 0, 17] + [0] * 11)
    table = b"\xff\xc4" + struct.pack(">HB", 19 + 17, 0) + counts + bytes(range(17))
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x01\x00\x00"
    return b"\xff\xd8" + frame + table + scan + coded + END


DAMAGES = {
    "cut": lambda s: s[: len(s) // 2] + END,
    "almost whole": lambda s: s[:-30] + END,
    "hole": lambda s: s[: len(s) // 3] + s[2 * len(s) // 3 :],
    "zeros": lambda s: s[: len(s) // 2] + bytes(200) + s[len(s) // 2 + 200 :],
    "more": lambda s: s[:-2] + b"\x55" * 40 + END,
    "second start": lambda s: s[: len(s) // 2] + b"\xff\xd8" + s[len(s) // 2 + 2 :],
    "no table": lambda s: s.replace(b"\xff\xc4", b"\x00\xc4"),
}
"""Ways to damage a stream and leave its end marker; without its table it makes gdcm abort."""


def put_stream(path: Path, stream: bytes, syntax: str = JPEGLosslessSV1) -> None:
    """Replace the pixels of a DICOM file by a compressed stream."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
