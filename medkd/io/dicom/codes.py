"""The closed list of reasons for which a CT, a DICOM series or a volume file, is refused.

A reason is worded "code: text". The code says what kind of fault it is, the text names files and
values. `allowable` codes may be let pass by name (`GateSettings.allow`); the others mean that
there is no volume, or no right one, to be had from the files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from medkd.io.dicom.header import SliceHeader


class Code(NamedTuple):
    """What a code means, and if such faults may be let pass by name."""

    description: str
    allowable: bool


CODES: dict[str, Code] = {
    "unreadable": Code("a file or a value in its header cannot be read", False),
    "not_ct": Code("not an image of CT densities", False),
    "not_chest": Code("the header names another part of the body, or an animal", True),
    "localizer": Code("scout images; allowed: they are left out", True),
    "secondary_capture": Code("screen shots; allowed: they are left out", True),
    "dose_report": Code("dose records among the images; allowed: they are left out", True),
    "no_pixels": Code("an object without pixels", False),
    "missing_attribute": Code("the header lacks what places or decodes a slice", False),
    "pixel_format": Code("pixels that are no plain 16-bit densities", False),
    "mixed_series": Code("several series, or several patients, in one", False),
    "mixed_acquisition": Code(
        "slices of several kernels, tube voltages, acquisitions or contrast phases", True
    ),
    "mixed_orientation": Code("slices turned against each other", False),
    "mixed_frame_of_reference": Code("slices in several frames of reference", False),
    "mixed_size": Code("slices of several sizes", False),
    "mixed_pixel_format": Code("slices that store their values in several ways", True),
    "missing_slices": Code("gaps where slices must have been", False),
    "duplicate_positions": Code(
        "several slices at one place; allowed where their pixels are identical: one is kept", True
    ),
    "duplicate_uids": Code("one SOPInstanceUID for several slices", True),
    "irregular_spacing": Code("slices at uneven distances, or shifted sideways", False),
    "gantry_tilt": Code("slices that lean against the direction in which they follow", False),
    "disordered_slices": Code("slices in another order than numbers or pixels say", True),
    "slice_thickness": Code("slices thicker, or further apart, than the limit", True),
    "missing_rescale": Code("no rescale to HU; allowed: stored values are taken for HU", True),
    "few_slices": Code("fewer slices than the limit; never less than 2", True),
    "coarse_voxels": Code("pixels wider than the limit", True),
    "blank_slices": Code("slices of one value throughout", True),
    "hu_range": Code("HU that no 16-bit number holds", False),
    "truncated_pixels": Code("pixels cut short", False),
    "damaged_pixels": Code("pixels that cannot be decoded, or are not those of the header", False),
    "missing_decoder": Code("compressed pixels, and no package that decodes them", False),
    "spacing_not_stated": Code("a volume whose header states no spacing; allowed: 1 mm", True),
    "placement_not_stated": Code(
        "a volume whose header does not state its place or directions; allowed: LPS axes at 0 0 0",
        True,
    ),
    "other_units": Code("a volume in another unit than mm; allowed: converted to mm", True),
    "contradictory_geometry": Code("a volume whose header states two geometries", False),
    "bad_geometry": Code("a volume whose spacing, place or directions make no regular grid", False),
    "lungs_not_in_view": Code("no lungs, or not the whole of them", True),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason. `lenient`: the code's allowance covers it; `strange`: slices that are none."""

    code: str
    text: str
    lenient: bool = True
    strange: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


def named(headers: Iterable[SliceHeader], shown: int = 3) -> str:
    """Name slices: the first few, and how many more."""
    names = [header.name for header in headers]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def listed(numbers: Iterable[float], shown: int = 5) -> str:
    """List numbers: the first few, and how many more."""
    values = [f"{number:.6g}" for number in numbers]
    more = f" and {len(values) - shown} more" if len(values) > shown else ""
    return ", ".join(values[:shown]) + more


def fault_of(
    code: str,
    headers: Sequence[SliceHeader],
    fits: Callable[[SliceHeader], Any],
    text: str,
) -> list[Fault]:
    """Word one fault for all slices that do not fit; nothing if all do."""
    odd = [header for header in headers if not fits(header)]
    return [Fault(code, f"{named(odd)}: {text}")] if odd else []
