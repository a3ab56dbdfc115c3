"""The closed list of codes for which a CT (a DICOM series or a volume file) is refused.

A reason has the form "code: text". The code is the kind of fault; the text names files and values.
Faults with an `allowable` code are accepted if `GateSettings.allow` names the code. The other codes
mean that the files do not hold a volume, or not a correct one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader


class Code(NamedTuple):
    """The meaning of a code, and whether `GateSettings.allow` may accept its faults."""

    description: str
    allowable: bool


CODES: dict[str, Code] = {
    "unreadable": Code("a file or a value in its header cannot be read", False),
    "not_ct": Code("the image does not show CT densities", False),
    "not_chest": Code("the header names another part of the body, or an animal", True),
    "localizer": Code("scout images; if allowed, they are ignored", True),
    "secondary_capture": Code("screenshots; if allowed, they are ignored", True),
    "dose_report": Code("dose records among the images; if allowed, they are ignored", True),
    "no_pixels": Code("an object without pixels", False),
    "missing_attribute": Code(
        "the header lacks an attribute that is needed to position or decode a slice", False
    ),
    "pixel_format": Code("pixels that are not one 16-bit density each", False),
    "mixed_series": Code("files of several series or of several patients", False),
    "mixed_acquisition": Code(
        "slices of several kernels, tube voltages, acquisitions or contrast phases", True
    ),
    "mixed_orientation": Code("slices with different orientations", False),
    "mixed_frame_of_reference": Code("slices in several frames of reference", False),
    "mixed_size": Code("slices of different sizes", False),
    "mixed_pixel_format": Code("slices with different pixel formats", True),
    "missing_slices": Code("gaps where slices are missing", False),
    "duplicate_positions": Code(
        "several slices at one position; can be allowed if their pixels are identical: the first "
        "is kept",
        True,
    ),
    "duplicate_uids": Code("one SOPInstanceUID for several slices", True),
    "irregular_spacing": Code("slices at uneven distances, or shifted sideways", False),
    "gantry_tilt": Code("slices that are not perpendicular to the stacking direction", False),
    "disordered_slices": Code("slice positions contradict the slice numbers or the pixels", True),
    "slice_thickness": Code("slices thicker, or further apart, than the limit", True),
    "missing_rescale": Code("no rescale to HU; if allowed, stored values are used as HU", True),
    "few_slices": Code("fewer slices than the limit; at least 2 are always required", True),
    "coarse_voxels": Code("pixels wider than the limit", True),
    "blank_slices": Code("slices whose pixels are all 0", True),
    "hu_range": Code("HU outside the range of signed 16-bit numbers", False),
    "truncated_pixels": Code("the pixel data are cut short", False),
    "damaged_pixels": Code("pixels that cannot be decoded or contradict the header", False),
    "missing_decoder": Code("compressed pixels without an installed decoder", False),
    "spacing_not_stated": Code("the header of a volume has no spacing; if allowed: 1 mm", True),
    "placement_not_stated": Code(
        "the header of a volume has no origin or directions; if allowed: LPS axes at 0 0 0", True
    ),
    "other_units": Code("a volume in another unit than mm; if allowed, converted to mm", True),
    "contradictory_geometry": Code("the header of a volume states two geometries", False),
    "bad_geometry": Code("spacing, origin or directions do not form a regular grid", False),
    "incomplete_patch": Code("a patch without its image or without its segmentation", False),
    "bad_mask": Code(
        "the segmentation of a patch is empty, not binary, or on another grid than the image", False
    ),
    "lungs_not_in_view": Code("the lungs are absent or incomplete", True),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason for refusal.

    Args:
        code: a key of `CODES`.
        text: names files and values.
        allowable: False if the fault is refused even where its code is allowed.
        non_slices: indices, among the examined headers, of objects that are not CT slices.
    """

    code: str
    text: str
    allowable: bool = True
    non_slices: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def join_names(headers: Iterable[SliceHeader]) -> str:
    """Join the names of the first few slices, and add how many more there are."""
    return _joined([header.name for header in headers], 3)


def name_slices(some: Sequence[SliceHeader], every: Sequence[SliceHeader]) -> str:
    """Return "all slices", or the names of the slices."""
    return "all slices" if len(some) == len(every) else join_names(some)


def join_numbers(numbers: Iterable[float], shown: int = 5) -> str:
    """Join the first few numbers, and add how many more there are."""
    return _joined([f"{number:.6g}" for number in numbers], shown)


def _joined(words: list[str], shown: int) -> str:
    more = f" and {len(words) - shown} more" if len(words) > shown else ""
    return ", ".join(words[:shown]) + more


def faults_of(code: str, odd: Sequence[SliceHeader], text: str) -> list[Fault]:
    """Return one fault that names the slices; empty if there are none."""
    return [Fault(code, f"{join_names(odd)}: {text}")] if odd else []
