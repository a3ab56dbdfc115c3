"""The nodule of each patch: its position from the segmentation, its diameter from the annotations.

LUNA16's diameters are preferred because a segmentation of 1 mm voxels gives about .9 mm more. Only
if no source has a nodule near the centroid, the diameter is that of a sphere with the volume of the
segmentation.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from medkd.index.scan_states import MASK
from medkd.io.reference.regions import Region
from medkd.types import Nodule

NEAR_MM = 6.0
"""An annotated nodule within this distance of a segmentation's centroid is the segmented nodule."""

Found = list[tuple[str, list[Nodule]]]


@dataclass(frozen=True, slots=True)
class MaskedNodules:
    """Name of each source and its nodules, the segmentations first; and notes on their diameters.

    The nodules are not merged yet: the annotation of a segmented nodule has the same position.
    """

    found: Found
    notes: tuple[str, ...] = ()


def add_masks(found: Found, masks: Mapping[str, Region]) -> MaskedNodules:
    """Add the nodules of segmentations, and move their annotations to the centroids.

    Args:
        found: name of each source and its nodules, LPS mm.
        masks: case id of each patch, and its segmented nodule.

    Returns:
        The nodules. A segmented nodule has an unknown diameter if an annotation states one, so that
        the merged nodule gets the diameter of the annotation.
    """
    if not masks:
        return MaskedNodules(found)
    moved: Found = []
    sized: set[str] = set()
    for name, nodules in found:
        nearest = dict(_nearest(nodules, masks))
        kept = list(nodules)
        for case_id, place in nearest.items():
            kept[place] = replace(nodules[place], center_mm=masks[case_id].center_mm)
            sized.update([case_id] if nodules[place].diameter_mm > 0 else [])
        moved.append((name, kept))
    own = [
        Nodule(case_id, mask.center_mm, -1.0 if case_id in sized else mask.diameter_mm)
        for case_id, mask in masks.items()
    ]
    return MaskedNodules([(MASK, own), *moved], tuple(_notes(len(own) - len(sized), len(own))))


def _nearest(nodules: Sequence[Nodule], masks: Mapping[str, Region]) -> Iterator[tuple[str, int]]:
    """Yield the case id of each segmented nodule that a source annotates, and the row's index."""
    gaps: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for place, nodule in enumerate(nodules):
        if nodule.counts_as == "included" and (mask := masks.get(nodule.seriesuid)):
            gaps[nodule.seriesuid].append((math.dist(nodule.center_mm, mask.center_mm), place))
    for case_id, of_case in gaps.items():
        gap_mm, place = min(of_case)
        if gap_mm <= NEAR_MM:
            yield case_id, place


def _notes(unsized: int, total: int) -> Iterator[str]:
    if unsized:
        yield (
            f"{unsized} of {total} segmented nodules have no annotated nodule within "
            f"{NEAR_MM:g} mm: their diameters are those of the segmentations, about .9 mm larger "
            "than LUNA16's"
        )
