"""What the slice viewer shows, as plain data for the browser: the volume, its planes, the rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import voxels
from display import PLANES, SLAB_SLICES, WINDOWS, AxialStack, plane_letters, plane_tilt_degrees

from medkd.review.outcomes import Outcome
from medkd.review.store import Verdict
from medkd.types import Point

UNKNOWN_DIAMETER_MM = 10.0
"""Diameter of the ring of a mark or nodule without a diameter."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A mark or a reference nodule, drawn as a sphere.

    `number` counts from 1 within its group. `score` is None for a reference nodule. `outcome` is
    "" if it is not known. `saved` says when the reader's decision was saved; `unsaved` is True if a
    later decision could not be saved.
    """

    ring_id: str
    group: Literal["mark", "included", "excluded"]
    number: int
    center_mm: Point
    diameter_mm: float | None
    score: float | None = None
    outcome: Outcome = ""
    verdict: Verdict = "undecided"
    saved: str = ""
    unsaved: bool = False


@dataclass(slots=True)
class Answered:
    """The last decision of a browser's viewer that was processed: its sequence number.

    It is changed in place while decisions are processed.
    """

    client: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Jump:
    """A mark that was chosen on the page; `count` differs for each choice."""

    ring_id: str = ""
    count: int = 0


def describe_stack(stack: AxialStack) -> dict[str, object]:
    """Describe a volume: where its voxels are loaded, its shape, spacing, and matrix.

    `affine` maps an index to LPS mm; it has three rows of four numbers.
    """
    return {
        "id": stack.volume_id,
        "path": voxels.PATH,
        "slab": SLAB_SLICES,
        "shape": list(stack.grid.shape),
        "spacing": stack.grid.spacing_mm.tolist(),
        "affine": stack.grid.affine_lps_mm[:3].tolist(),
    }


def describe_planes(stack: AxialStack) -> list[dict[str, object]]:
    """Describe the planes of a volume: axes, orientation letters, tilt in degrees."""
    grid = stack.grid
    return [
        asdict(plane)
        | {"letters": plane_letters(plane, grid), "tilt": plane_tilt_degrees(plane, grid)}
        for plane in PLANES
    ]


def describe_ring(ring: Ring, stack: AxialStack) -> dict[str, object]:
    """Describe a ring; its `center` is an index of the stack and may lie outside it."""
    return {
        "id": ring.ring_id,
        "group": ring.group,
        "number": ring.number,
        "center": stack.grid.world_to_voxel(ring.center_mm).tolist(),
        "diameter": ring.diameter_mm or UNKNOWN_DIAMETER_MM,
        "assumed": not ring.diameter_mm,
        "score": ring.score,
        "outcome": ring.outcome,
        "verdict": ring.verdict,
        "saved": ring.saved,
        "unsaved": ring.unsaved,
    }


def build_scene(
    stack: AxialStack, rings: Sequence[Ring], *, decides: bool, jump: Jump, answered: Answered
) -> dict[str, object]:
    """Build the data of the component.

    Args:
        stack: the scan.
        rings: marks, highest score first, and reference nodules.
        decides: whether the reader decides on marks; otherwise the reference is what is visited.
        jump: the mark that was chosen on the page.
        answered: the last decision that was processed.
    """
    return {
        "volume": describe_stack(stack),
        "planes": describe_planes(stack),
        "windows": [
            {"name": name, "center": window.center_hu, "width": window.width_hu}
            for name, window in WINDOWS.items()
        ],
        "rings": [describe_ring(ring, stack) for ring in rings],
        "decides": decides,
        "jump": {"id": jump.ring_id, "count": jump.count},
        "answered": asdict(answered),
    }
