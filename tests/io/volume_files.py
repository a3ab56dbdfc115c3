"""Volume files written by hand, so that each line and byte of them can be wrong."""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

SHAPE = (4, 3, 5)
VOXELS = (np.arange(60) * 31 - 1000).reshape(SHAPE).astype(np.int16)
CONTENT = VOXELS.T.astype("<i2").tobytes()

MHD = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "-10 20 -30",
    "CenterOfRotation": "0 0 0", "AnatomicalOrientation": "RAI", "ElementSpacing": "0.7 0.8 2",
    "DimSize": "4 3 5", "ElementType": "MET_SHORT", "ElementDataFile": "a.raw",
}  # fmt: skip
NRRD = {
    "type": "short", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 3 5",
    "space directions": "(0.7,0,0) (0,0.8,0) (0,0,2)", "kinds": "domain domain domain",
    "endian": "little", "encoding": "raw", "space origin": "(-10,20,-30)",
}  # fmt: skip

Changes = dict[str, str | None]
"""Field to its new value; None: the field is left out."""


def mhd_text(changes: Changes) -> str:
    """A header whose changed lines stand where they stood, new ones before the last."""
    last = changes.get("ElementDataFile", "a.raw")
    lines = {**MHD, **changes}
    lines.pop("ElementDataFile")
    text = "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None)
    return text + ("" if last is None else f"ElementDataFile = {last}\n")


def write_mhd_text(
    folder: Path, changes: Changes, files: dict[str, bytes] | None = None, name: str = "a.mhd"
) -> Path:
    """Write a header and the files of its voxels (a.raw where not given)."""
    for file, content in ({"a.raw": CONTENT} if files is None else files).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    text = mhd_text(changes).encode("utf-8", "surrogateescape")
    local = text.endswith(b"LOCAL\n")
    tail = next(iter(files.values())) if local and files else b""
    (folder / name).write_bytes(text + tail)
    return folder / name


def write_nrrd_text(folder: Path, changes: Changes, content: bytes | None = None) -> Path:
    """Write a volume in one file, or a header alone if the content is empty."""
    fields = {**NRRD, **changes}
    text = "".join(f"{k}: {v}\n" for k, v in fields.items() if v is not None)
    body = CONTENT if content is None else content
    (folder / "a.nrrd").write_bytes(f"NRRD0004\n{text}\n".encode() + body)
    return folder / "a.nrrd"


def nifti_header(*, order: str = "<", **changes: object) -> bytearray:
    """A NIfTI-1 header of `VOXELS` with the same sform and qform: RAS axes, 0.7, 0.8, 2 mm."""
    header = bytearray(352)
    values = {
        "sizeof": (0, "i", 348), "dim": (40, "8h", (3, 4, 3, 5, 1, 1, 1, 1)),
        "datatype": (70, "h", 4), "bitpix": (72, "h", 16),
        "pixdim": (76, "8f", (1, 0.7, 0.8, 2, 0, 0, 0, 0)), "vox_offset": (108, "f", 352.0),
        "scaling": (112, "2f", (1, 0)), "units": (123, "B", 2), "codes": (252, "2h", (1, 1)),
        "quaternion": (256, "6f", (0, 0, 0, 10, -20, -30)),
        "sform": (280, "12f", (0.7, 0, 0, 10, 0, 0.8, 0, -20, 0, 0, 2, -30)),
        "magic": (344, "4s", b"n+1\0"),
    }  # fmt: skip
    for name, (offset, form, value) in values.items():
        changed = changes.get(name, value)
        parts = changed if isinstance(changed, tuple) else (changed,)
        struct.pack_into(order + form, header, offset, *parts)
    return header


def write_nifti(
    folder: Path, *, packed: bool = False, content: bytes = CONTENT, **changes: object
) -> Path:
    """Write a NIfTI-1 file."""
    path = folder / ("a.nii.gz" if packed else "a.nii")
    whole = bytes(nifti_header(**changes)) + content
    path.write_bytes(gzip.compress(whole) if packed else whole)
    return path


def write_packed(folder: Path, kind: str) -> tuple[Path, Path]:
    """Write a valid compressed volume: the file that is opened, and the one with the stream."""
    stream = zlib.compress(CONTENT)
    if kind == "zraw":
        header = write_mhd_text(
            folder,
            {"CompressedData": "True", "ElementDataFile": "a.zraw"},
            {"a.zraw": stream},
        )
        return header, folder / "a.zraw"
    if kind == "mha":
        local: Changes = {"CompressedData": "True", "ElementDataFile": "LOCAL"}
        path = write_mhd_text(folder, local, {"unused": stream}, "a.mha")
    elif kind == "nii.gz":
        path = write_nifti(folder, packed=True)
    else:
        pack = {"gzip": gzip.compress, "bzip2": bz2.compress}[kind]
        path = write_nrrd_text(folder, {"encoding": kind}, pack(CONTENT))
    return path, path


PACKED = ("zraw", "mha", "gzip", "bzip2", "nii.gz")
