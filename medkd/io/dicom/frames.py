"""Read the sequences of a DICOM header: anatomy, species, contrast agents, frames of enhanced CT.

Functional groups (PS3.3 C.7.6.16) are flattened: a frame has the values of the file, overridden by
those of the shared groups, overridden by its own.
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
"""A frame never inherits these from the top level of the file."""


@dataclass(frozen=True, slots=True)
class NestedValues:
    """The values of a file that has sequences.

    Args:
        top: values of the file itself, including those of its sequences.
        frames: values of each frame; empty if there are no functional groups.
        fault: what is wrong with the functional groups; empty if nothing is.
    """

    top: dict[str, Value]
    frames: tuple[dict[str, Value], ...] = ()
    fault: str = ""


def read_nested(ref: FileRef, values: Mapping[str, Value]) -> NestedValues:
    """Read the sequences of a file.

    Args:
        ref: the file.
        values: the values of its elements that are not sequences.

    Raises:
        Exception: any exception that pydicom raises for a damaged file.
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
        fault = f"NumberOfFrames is {count}, but {len(frames)} frames have functional groups"
        return NestedValues(top, fault=fault)
    placeless = {name: value for name, value in top.items() if name not in _OF_A_FRAME}
    common = {**placeless, **(_group_values(shared[0]) if shared else {})}
    one = {"NumberOfFrames": (1.0,)}
    return NestedValues(top, tuple({**common, **_group_values(group), **one} for group in frames))


def _groups(dataset: Any, keyword: str) -> list[Any]:  # noqa: ANN401  # pydicom has no types here
    return list(dataset.get(keyword) or [])


def _group_values(group: Any) -> dict[str, Value]:  # noqa: ANN401
    """Return the values in `KEYWORDS` from all macros of a functional group (PS3.3 C.7.6.16)."""
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
    """Return whether and in which phase a frame's agents were given (PS3.3 C.8.15.3.12)."""
    found: dict[str, Value] = {}
    for keyword in ("ContrastBolusAgentAdministered", "ContrastBolusAgentPhase"):
        texts = tuple(str(agent.get(keyword) or "") for agent in agents)
        if any(texts):
            found[keyword] = texts
    return found


def _coded(dataset: Any) -> dict[str, Value]:  # noqa: ANN401
    """Return the code meanings of anatomy and species, and the codes of contrast agents."""
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
    """Return the code of a contrast agent; "present" if the item cannot be read."""
    if not isinstance(item, pydicom.Dataset):
        return "present"
    return " ".join(
        str(item.get(name, "")) for name in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
    )
