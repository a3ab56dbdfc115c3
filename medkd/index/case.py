"""The record of a case: everything known about a scan or radiograph without reading its pixels.

Archives, public data sets, detection and review all use this type. Labels and nodules are stored
separately and refer to cases by id, since a case can have many from several sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medkd.io.synthetic_mark import unknown_stamp


@dataclass(frozen=True, slots=True)
class Case:
    """One scan or radiograph.

    `reasons` are the faults for which it is not analysed and `allowed` the accepted faults, each as
    "code: text" (`dicom.gate.CODES`). `origin` is the part to which the set itself assigns it
    ("train", "val", "test", "subset3"; empty: none). `day` counts days since the patient's first
    study. `shape` and `spacing_mm` are (i, j, k) of a scan, (row, column) of an image. `content`
    is a digest of the pixels. `generator` is the stamp of the program that made a synthetic case,
    or its nodules (`synthetic_mark.py`).

    `path` is the volume, the DICOM folder, or the .npz whose `row` of the part `origin` is the
    image; of an `archived` case it is the INDEX. An INDEX does not store these three.

    `extent` says how much of the chest a scan shows: "patch" is a cut-out around a nodule
    (`io/patch_files.py`). A patch can be used for training by position. Numbers per scan, such as
    false positives per scan, are not defined for it.
    """

    case_id: str
    patient_id: str
    kind: Literal["scan", "image"]
    status: Literal["ready", "not_analysed"] = "ready"
    reasons: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    site: str = ""
    origin: str = ""
    day: int | None = None
    modality: str = ""
    view: str = ""
    manufacturer: str = ""
    kernel: str = ""
    slice_thickness_mm: float | None = None
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    content: str = ""
    synthetic: bool = False
    generator: str = ""
    extent: Literal["whole", "patch"] = "whole"
    path: Path = Path()
    row: int | None = None
    archived: bool = False

    @property
    def stamp(self) -> str:
        """The stamp of a synthetic case, also if it states no generator; else empty."""
        return self.generator or (unknown_stamp() if self.synthetic else "")
