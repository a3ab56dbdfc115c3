"""What the sequences of a DICOM header hold: anatomy, species, contrast agents, frames of CT.

Functional groups (PS3.3 C.7.6.16) are flattened: a frame has the values of the file, over them
those of the shared groups, over them its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pydicom

from medkd.io.dicom.tags import KEYWORDS, Value, plain_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medkd.io.file_ref import FileRef

_OF_A_FRAME = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
"""A frame's place is its own, never the file's."""


@dataclass(frozen=True, slots=True)
class NestedValues:
    """Values of the file with those of its sequences, and of each frame where it has groups."""

    top: dict[str, Value]
    frames: tuple[dict[str, Value], ...] = ()
    fault: str = ""


def read_nested(ref: FileRef, values: Mapping[str, Value]) -> NestedValues:
    """Read the sequences of a file.

    Args:
        ref: the file.
        values: of its other elements.

    Raises:
        Exception: whatever pydicom raises for what is broken.
    """
    with ref.open() as stream:
        dataset: Any = pydicom.dcmread(
            stream, stop_before_pixels=True, specific_tags=KEYWORDS, force=True
        )
    top = {**values, **_coded(dataset)}
    shared = _groups(dataset, "SharedFunctionalGroupsSequence")
    frames = _groups(dataset, "PerFrameFunctionalGroupsSequence")
    if _groups(dataset, "ModalityLUTSequence"):
        top["ModalityLUTSequence"] = ("present",)
    if not shared and not frames:
        return NestedValues(top)
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(frames) != count:
        fault = f"NumberOfFrames {count} disagrees with {len(frames)} items of frames"
        return NestedValues(top, fault=fault)
    placeless = {name: value for name, value in top.items() if name not in _OF_A_FRAME}
    common = {**placeless, **(_group_values(shared[0]) if shared else {})}
    one = {"NumberOfFrames": (1.0,)}
    return NestedValues(top, tuple({**common, **_group_values(group), **one} for group in frames))


def _groups(dataset: Any, keyword: str) -> list[Any]:  # noqa: ANN401  # pydicom has no types here
    return list(dataset.get(keyword) or [])


def _group_values(group: Any) -> dict[str, Value]:  # noqa: ANN401
    """Collect the wanted values of all macros of a functional group (PS3.3 C.7.6.16)."""
    values: dict[str, Value] = {}
    for macro in group:
        if macro.VR != "SQ" or not macro.value:
            continue
        item = macro.value[0]
        values |= {
            element.keyword: value
            for element in item
            if element.keyword in KEYWORDS and (value := plain_value(element)) is not None
        }
        values |= _coded(item)
        if macro.keyword == "ContrastBolusUsageSequence":
            values |= _usage(macro.value)
    return values


def _usage(agents: Sequence[Any]) -> dict[str, Value]:
    """Take whether and when each agent was given (PS3.3 C.8.15.3.12): a frame may have several."""
    found: dict[str, Value] = {}
    for keyword in ("ContrastBolusAgentAdministered", "ContrastBolusAgentPhase"):
        texts = tuple(str(agent.get(keyword) or "") for agent in agents)
        if any(texts):
            found[keyword] = texts
    return found


def _coded(dataset: Any) -> dict[str, Value]:  # noqa: ANN401
    """Take the meaning of coded anatomy and species, and which contrast agents are coded."""
    found: dict[str, Value] = {}
    agents = dataset.get("ContrastBolusAgentSequence") or []
    if agents:
        found["ContrastBolusAgentSequence"] = tuple(map(_agent, agents))
    for keyword in ("AnatomicRegionSequence", "PatientSpeciesCodeSequence"):
        items = dataset.get(keyword) or []
        meanings = tuple(str(item.get("CodeMeaning", "")) for item in items)
        if any(meanings):
            found[keyword] = meanings
    return found


def _agent(item: Any) -> str:  # noqa: ANN401
    """Return the code of a contrast agent; what is no item still says that there is one."""
    if not isinstance(item, pydicom.Dataset):
        return "present"
    return " ".join(
        str(item.get(name, "")) for name in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    )
