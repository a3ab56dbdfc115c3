"""What the slice viewer shows, as plain data for the browser: the volume, its planes, the rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import voxels
from display import (
    PLANES,
    SLAB_SLICES,
    AxialStack,
    plane_letters,
    plane_tilt_degrees,
    presets,
)

from medkd.review.outcomes import Outcome
from medkd.review.store import Decision, Verdict
from medkd.types import Point

UNKNOWN_DIAMETER_MM = 10.0
"""Diameter of the ring of a mark or nodule without a diameter."""


@dataclass(frozen=True, slots=True)
class Ring:
    """A mark, a nodule that the reader added, or a reference nodule, drawn as a sphere.

    The group "whole" stands for a whole radiograph, on which the reader decides; it is not drawn.
    The group "other" are marks of another `arm`, on which nobody decides.

    `number` counts from 1 within its group. `score` is None for a reference nodule, and where
    scores are hidden. `outcome` is "" if it is not known. `saved` says when the reader's decision
    was saved; `unsaved` is True if a later decision could not be saved. `words` is drawn beside the
    ring instead of number and score. `place` names its lung; "" if that is not known. `locked`:
    nothing can be decided on it any more. `repeated`: the verdict is that of a finished first read,
    and the second read has to give one too, possibly the same.
    """

    ring_id: str
    group: Literal["mark", "added", "included", "excluded", "whole", "other"]
    number: int
    center_mm: Point
    diameter_mm: float | None
    score: float | None = None
    outcome: Outcome = ""
    verdict: Verdict = "undecided"
    saved: str = ""
    unsaved: bool = False
    words: str = ""
    place: str = ""
    arm: str = ""
    locked: bool = False
    repeated: bool = False


@dataclass(slots=True)
class Answered:
    """The last action of a browser's viewer that was processed: its sequence number.

    `rows` are the numbers of the rows that its actions wrote, by sequence number. It is changed in
    place while actions are processed.
    """

    client: str = ""
    number: int = 0
    rows: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Jump:
    """A mark or place that was chosen on a page; `count` differs for each choice.

    If it is no mark, the heat map is shown there; a radiograph has no place.
    """

    ring_id: str = ""
    count: int = 0
    center_mm: Point | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the reader does with the rings.

    `decides`: whether marks are decided on; otherwise the reference is what is visited. `chosen` is
    the ring whose box is open beside the image, `jump` the last one that was chosen there, and
    `undoable` are the decisions that can be taken back, oldest first. `refused`: no model has
    analysed the scan. `question` is what the page asks before the case is finished. `hidden`: its
    marks are not among the rings, because they may not be seen. `first_read`: they may be seen once
    the reader has finished the first read.
    """

    decides: bool
    chosen: str = ""
    jump: Jump = field(default_factory=Jump)
    answered: Answered = field(default_factory=Answered)
    undoable: Sequence[Decision] = ()
    refused: bool = False
    question: str = ""
    hidden: bool = False
    first_read: bool = False


def describe_stack(stack: AxialStack) -> dict[str, object]:
    """Describe a volume: where its voxels are loaded, its shape, spacing, and matrix.

    `affine` maps an index to LPS mm; it has three rows of four numbers.
    """
    return {
        "id": stack.volume_id,
        "path": voxels.path(),
        "slab": SLAB_SLICES,
        "shape": list(stack.grid.shape),
        "spacing": stack.grid.spacing_mm.tolist(),
        "affine": stack.grid.affine_lps_mm[:3].tolist(),
        "images": asdict(stack.images) if stack.images else None,
    }


def describe_planes(stack: AxialStack) -> list[dict[str, object]]:
    """Describe the planes of a volume: axes, orientation letters, tilt in degrees."""
    grid = stack.grid
    if stack.is_picture:
        letters = stack.edges or dict.fromkeys(("left", "right", "top", "bottom"), "")
        return [asdict(PLANES[0]) | {"title": "Image", "letters": dict(letters), "tilt": 0.0}]
    return [
        asdict(plane)
        | {
            "title": plane.name.capitalize(),
            "letters": plane_letters(plane, grid),
            "tilt": plane_tilt_degrees(plane, grid),
        }
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
        "words": ring.words,
        "place": ring.place,
        "arm": ring.arm,
        "locked": ring.locked,
        "repeated": ring.repeated,
    }


def build_scene(stack: AxialStack, rings: Sequence[Ring], reading: Reading) -> dict[str, object]:
    """Build the data of the component.

    Args:
        stack: the scan.
        rings: marks, highest score first, then added nodules and reference nodules.
        reading: what the reader does with them.
    """
    jump, answered = reading.jump, reading.answered
    # The browser still waits for the answer to actions that were processed later: their rows are
    # known to it by the numbers of these actions.
    later = {row for number, row in dict(answered.rows).items() if number > answered.number}
    return {
        "volume": describe_stack(stack),
        "planes": describe_planes(stack),
        "windows": [
            {"name": name, "center": window.center_hu, "width": window.width_hu}
            for name, window in presets(stack).items()
        ],
        "picture": stack.is_picture,
        "scaled": stack.scaled,
        "rings": [describe_ring(ring, stack) for ring in rings],
        "decides": reading.decides,
        "refused": reading.refused,
        "question": reading.question,
        "hidden": reading.hidden,
        "first_read": reading.first_read,
        "chosen": reading.chosen,
        "jump": {
            "id": jump.ring_id,
            "count": jump.count,
            "center": jump.center_mm and stack.grid.world_to_voxel(jump.center_mm).tolist(),
        },
        "answered": {
            "client": answered.client,
            "number": answered.number,
            # JSON has texts as keys.
            "rows": {str(number): row for number, row in dict(answered.rows).items()},
        },
        "undoable": [
            {"row": row.number, "mark": row.mark_id}
            for row in reading.undoable
            if row.number not in later
        ],
    }
