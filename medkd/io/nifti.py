"""Reader of NIfTI-1 and NIfTI-2 headers of single files (.nii, .nii.gz).

Follows the NIfTI-1 standard (nifti1.h, 2007) and NIfTI-2 (2011). NIfTI's world is RAS; it is
converted to LPS. If a header has both sform and qform, the sform is used, as in nibabel and FSL;
it must agree with the qform and with pixdim within .5 mm over the whole volume. Pairs (.hdr with
.img), Analyze, more than three dimensions and several values per voxel are refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from medkd.geometry import lps_to_ras
from medkd.io.dicom.codes import Fault
from medkd.io.volume_header import Float64, VolumeHeader, no_placement, no_spacing, unit_fault
from medkd.io.voxel_data import VoxelData, unpacked_head

_ELEMENTS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
             1024: "i8", 1280: "u8"}  # fmt: skip
"""Datatype code to NumPy's name; other codes are colours, complex, bits and long doubles."""

_LAYOUTS = {
    348: {"magic": (344, "S4", 1), "dim": (40, "i2", 8), "datatype": (70, "i2", 1),
          "bitpix": (72, "i2", 1), "pixdim": (76, "f4", 8), "vox_offset": (108, "f4", 1),
          "slope": (112, "f4", 1), "intercept": (116, "f4", 1), "units": (123, "u1", 1),
          "qform": (252, "i2", 1), "sform": (254, "i2", 1), "quaternion": (256, "f4", 6),
          "rows": (280, "f4", 12)},
    540: {"magic": (4, "S8", 1), "dim": (16, "i8", 8), "datatype": (12, "i2", 1),
          "bitpix": (14, "i2", 1), "pixdim": (104, "f8", 8), "vox_offset": (168, "i8", 1),
          "slope": (176, "f8", 1), "intercept": (184, "f8", 1), "units": (500, "i4", 1),
          "qform": (344, "i4", 1), "sform": (348, "i4", 1), "quaternion": (352, "f8", 6),
          "rows": (400, "f8", 12)},
}  # fmt: skip
"""sizeof_hdr of NIfTI-1 and -2 to the fields that are read: offset, type, count."""

_MAGIC = {348: b"n+1", 540: b"n+2\0\r\n\x1a\n"}
_UNITS = {1: "m", 2: "mm", 3: "micron"}
_GZIP = b"\x1f\x8b"

MOST_CONFLICT_MM = 0.5
"""Largest accepted distance between the corners of the volume by two fields of one header."""
_NOTED_CONFLICT_MM = 0.01
"""Larger distances are noted; the value is above the rounding of single precision numbers."""
_QUATERNION_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class _Fields:
    """The bytes of a header, its size (which selects the layout) and its byte order."""

    content: bytes
    size: int
    order: str

    def all(self, name: str) -> list[Any]:
        offset, kind, count = _LAYOUTS[self.size][name]
        values: list[Any] = np.frombuffer(self.content, self.order + kind, count, offset).tolist()
        return values

    def one(self, name: str) -> Any:  # noqa: ANN401  # bytes, int or float
        return self.all(name)[0]


def read_nifti(path: Path) -> VolumeHeader:
    """Read the header of a .nii or .nii.gz.

    Args:
        path: the file.

    Raises:
        OSError: if it cannot be read.
        SeriesError: if its beginning cannot be decompressed.
    """
    with path.open("rb") as stream:
        content = stream.read(540)
    packed = path.name.lower().endswith(".gz")
    if packed != content.startswith(_GZIP):
        text = "expected gzip by its name, got plain NIfTI or other bytes: rename it"
        if not packed:
            text = "expected plain NIfTI by its name, got gzip: rename it to .nii.gz"
        return VolumeHeader(faults=(Fault("unreadable", text),))
    if packed:
        content = unpacked_head(path, 540)
    fields = _fields_of(content)
    return _stated(path, fields, packed=packed) if isinstance(fields, _Fields) else fields


def _fields_of(content: bytes) -> _Fields | VolumeHeader:
    for size, order in product(_LAYOUTS, "<>"):
        if content[:4] == np.array(size, f"{order}i4").tobytes():
            if len(content) < size:
                text = f"the header has {size} bytes, the file {len(content)}"
                return VolumeHeader(faults=(Fault("truncated_pixels", text),))
            return _Fields(content, size, order)
    fault = Fault("unreadable", "its header cannot be read: it does not begin like NIfTI")
    return VolumeHeader(faults=(fault,))


def _stated(path: Path, fields: _Fields, *, packed: bool) -> VolumeHeader:
    faults = _form_faults(fields)
    axes, *sizes = fields.all("dim")
    if not 1 <= axes <= 7:
        text = f"expected 1 to 7 dimensions, got dim[0] = {axes}"
        return VolumeHeader(faults=(*faults, Fault("unreadable", text)))
    shape = tuple(sizes[:axes])
    if min(shape) < 1:
        faults.append(Fault("unreadable", f"expected positive sizes, got {shape}"))
        return VolumeHeader(faults=tuple(faults))
    data = None
    if axes == 3 and not faults:
        offset = int(fields.one("vox_offset"))
        element = np.dtype(fields.order + _ELEMENTS[fields.one("datatype")])
        data = VoxelData(
            (shape[0], shape[1], shape[2]), element, (path,),
            packing="gzip" if packed else "raw",
            skip_bytes=0 if packed else offset, skip_unpacked=offset if packed else 0,
        )  # fmt: skip
    slope, intercept, notes = _scaling(fields)
    placed = _placed(fields, shape)
    return VolumeHeader(
        sizes=shape,
        spacing_mm=placed.spacing_mm,
        origin_mm=placed.origin_mm,
        direction=placed.direction,
        data=data,
        slope=slope,
        intercept=intercept,
        faults=(*faults, *placed.faults),
        notes=(*notes, *placed.notes),
    )


def _form_faults(fields: _Fields) -> list[Fault]:
    """Return the faults of the header, except geometry, that prevent reading the voxels."""
    magic, kind, bits = fields.one("magic"), fields.one("datatype"), fields.one("bitpix")
    faults = []
    if magic != _MAGIC[fields.size].rstrip(b"\0"):
        pair = magic[:2] == b"ni"
        what = "a pair (.hdr with .img)" if pair else f"not NIfTI in one file (magic {magic!r})"
        faults.append(Fault("unreadable", f"it is {what}: convert it to one .nii file"))
    offset = fields.one("vox_offset")
    if not math.isfinite(offset) or offset % 1 or not fields.size + 4 <= offset < 1 << 40:
        text = f"expected voxels after the {fields.size + 4} bytes of the header, got vox_offset"
        faults.append(Fault("unreadable", f"{text} = {offset:g}"))
    slope, intercept = fields.one("slope"), fields.one("intercept")
    if math.isfinite(slope) and slope not in (0, 1) and not math.isfinite(intercept):
        text = f"expected a finite scl_inter beside scl_slope = {slope:g}, got {intercept:g}"
        faults.append(Fault("missing_rescale", text, allowable=False))
    if kind not in _ELEMENTS:
        text = f"expected one integer or real number per voxel, got datatype {kind}"
        faults.append(Fault("pixel_format", text))
    elif bits != 8 * int(_ELEMENTS[kind][1]):
        faults.append(Fault("unreadable", f"bitpix = {bits} contradicts datatype {kind}"))
    return faults


def _scaling(fields: _Fields) -> tuple[float, float, list[str]]:
    """Return slope, intercept and notes; if a value is not finite or the slope is 0: 1 and 0."""
    slope, intercept = fields.one("slope"), fields.one("intercept")
    if math.isfinite(slope) and slope != 0 and math.isfinite(intercept):
        note = f"HU are {slope:g} x the stored values + {intercept:g}, as the header states"
        return slope, intercept, [] if (slope, intercept) == (1.0, 0.0) else [note]
    stated = slope != 0 and (not math.isnan(slope) or (math.isfinite(intercept) and intercept != 0))
    note = f"scl_slope {slope:g} and scl_inter {intercept:g} are ignored: stored values are HU"
    return 1.0, 0.0, [note] if stated else []


def _placed(fields: _Fields, shape: tuple[int, ...]) -> VolumeHeader:
    """Return spacing, origin and direction from the sform, else from the qform."""
    if len(shape) != 3:
        return VolumeHeader()
    factor, faults, notes = _unit(fields)
    qfac, *pixdim = fields.all("pixdim")[:4]
    forms, form_faults = _forms(fields, qfac, pixdim)
    faults += form_faults
    if min(pixdim) < 0 or not all(map(math.isfinite, pixdim)):
        text = f"expected positive spacings in mm, got pixdim {pixdim}"
        faults.append(Fault("bad_geometry", text))
    elif min(pixdim) == 0:
        faults.append(no_spacing(f"pixdim {pixdim}"))
    elif forms:
        with np.errstate(over="ignore", invalid="ignore"):  # then the conflict is infinite
            more_notes, conflicts = _conflicts(forms, [mm * factor for mm in pixdim], shape, factor)
        notes, faults = notes + more_notes, faults + conflicts
    if not forms:
        faults.append(no_placement("qform_code and sform_code are 0: it states no orientation"))
        known = all(mm > 0 for mm in pixdim)
        spacing = tuple(mm * factor for mm in pixdim) if known else None
        return VolumeHeader(spacing_mm=spacing, faults=tuple(faults), notes=tuple(notes))
    affine = lps_to_ras(next(iter(forms.values())))
    with np.errstate(over="ignore", invalid="ignore"):  # then the spacing is refused
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / np.where(lengths > 0, lengths, 1.0)
    return VolumeHeader(
        spacing_mm=tuple((lengths * factor).tolist()),
        origin_mm=tuple((affine[:3, 3] * factor).tolist()),
        direction=direction,
        faults=tuple(faults),
        notes=tuple(notes),
    )


def _unit(fields: _Fields) -> tuple[float, list[Fault], list[str]]:
    code = fields.one("units") % 8
    if code == 0:
        return 1.0, [], ["the header states no unit of length: mm are assumed"]
    factor, faults = unit_fault(_UNITS.get(code, str(code)), where="the unit code")
    return factor, faults, []


def _forms(
    fields: _Fields, qfac: float, pixdim: list[float]
) -> tuple[dict[str, Float64], list[Fault]]:
    """Return the affines of the header in RAS by name; the first of them is used."""
    forms, faults = {}, []
    codes = {name: fields.one(name) for name in ("sform", "qform")}
    for name, code in codes.items():
        if not 0 <= code <= 5:
            text = f"expected {name}_code 0 to 5, got {code}"
            faults.append(Fault("bad_geometry", text))
    if codes["sform"] > 0:
        forms["sform"] = np.vstack([np.array(fields.all("rows")).reshape(3, 4), [0, 0, 0, 1]])
    if codes["qform"] > 0:
        b, c, d, *origin = fields.all("quaternion")
        rest = 1.0 - (b * b + c * c + d * d)
        if qfac not in (-1.0, 0.0, 1.0) or not rest >= -_QUATERNION_TOLERANCE:
            text = f"the qform is not a rotation: quaternion {(b, c, d)}, qfac {qfac:g}"
            faults.append(Fault("bad_geometry", text))
        else:
            signs = [1.0, 1.0, -1.0 if qfac < 0 else 1.0]
            turned = _rotation(math.sqrt(max(rest, 0.0)), b, c, d)
            forms["qform"] = np.eye(4)
            forms["qform"][:3, :3] = turned * np.multiply(signs, pixdim)
            forms["qform"][:3, 3] = origin
    return forms, faults


def _rotation(a: float, b: float, c: float, d: float) -> Float64:
    """Return the rotation of a quaternion (nifti1.h, "QUATERNION REPRESENTATION")."""
    a, b, c, d = np.array([a, b, c, d]) / math.sqrt(a * a + b * b + c * c + d * d)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _conflicts(
    forms: dict[str, Float64], pixdim_mm: list[float], shape: tuple[int, ...], factor: float
) -> tuple[list[str], list[Fault]]:
    """Compare the affine in use with pixdim and qform at the volume's corners.

    Returns:
        Notes and faults, by `_NOTED_CONFLICT_MM` and `MOST_CONFLICT_MM`. The corners are compared
        because the difference is largest there.
    """
    used = next(iter(forms))
    edges = np.maximum(np.array(shape) - 1, 1)
    lengths = np.linalg.norm(forms[used][:3, :3], axis=0) * factor
    apart = {"pixdim": float((np.abs(lengths - pixdim_mm) * edges).max())}
    if len(forms) == 2:
        corners = np.array([[*corner, 1] for corner in product(*[(0, n) for n in edges])])
        moved = corners @ (forms["sform"] - forms["qform"]).T * factor
        apart["qform"] = float(np.linalg.norm(moved, axis=1).max())
    notes, faults = [], []
    for name, mm in apart.items():
        text = f"{used} and {name} differ by up to {mm:.3g} mm in this volume"
        if not mm <= MOST_CONFLICT_MM:
            text += f", at most {MOST_CONFLICT_MM} mm are accepted: correct the header"
            faults.append(Fault("contradictory_geometry", text))
        elif mm > _NOTED_CONFLICT_MM:
            notes.append(f"{text}: the {used} is used")
    return notes, faults
