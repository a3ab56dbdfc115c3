"""Scans, radiographs, nodules, candidates: what is read, found and trained on.

Arrays of volumes are indexed (i, j, k), worlds are LPS mm (`geometry.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from medkd.geometry import VoxelGrid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How a scan was made, as far as its header says (None = not stated)."""

    modality: str = "CT"
    slice_thickness_mm: float | None = None
    kernel: str | None = None
    kvp: float | None = None
    manufacturer: str | None = None


@dataclass(frozen=True, slots=True)
class SliceFact:
    """Which DICOM image a slice was read from.

    `instance_number` as its header has it (None: not stated); `frame_number` counts the frames of
    a multi-frame image from 1 (None: an image of its own). The UID is an identity: never shown
    for a pseudonymised archive, where it is empty.
    """

    instance_number: int | None = None
    sop_instance_uid: str = field(default="", repr=False)
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A CT volume: voxels_hu [i, j, k] int16 in HU on a grid in LPS mm.

    `notes` holds each leniency that was allowed while reading; `patient_id` is a pseudonym.
    `stored_grid` is the grid of the file where reading turned sagittal or coronal slices into
    axial ones (`io/axial.py`), else None: places given as indices of the file count on it.
    `slices` has one fact a slice as it is stored, in the order of k of `stored_grid` (else of
    `grid`); empty where slices are no DICOM images.
    """

    seriesuid: str
    voxels_hu: NDArray[np.int16]
    grid: VoxelGrid
    patient_id: str
    acquisition: Acquisition = field(default_factory=Acquisition)
    notes: tuple[str, ...] = ()
    stored_grid: VoxelGrid | None = None
    slices: tuple[SliceFact, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """A projection image: pixels [row, col] float32 in 0..1, bright = dense.

    `notes` holds what of the file was not taken as it stands.
    """

    imageuid: str
    pixels: NDArray[np.float32]
    patient_id: str
    pixel_spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Nodule:
    """Reference standard: a sphere in LPS mm.

    `counts_as` follows the LUNA16 files: "included" must be found, "excluded" is an irrelevant
    finding on which a mark is neither right nor wrong (its diameter may be negative: unknown).
    `sources` names the annotations that say so; empty where that was not kept.
    """

    seriesuid: str
    center_mm: Point
    diameter_mm: float
    counts_as: Literal["included", "excluded"] = "included"
    readers_agreeing: int | None = None
    # Not in the text of a nodule, which phantoms are known by (`data/phantom/difficulty.py`).
    sources: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Model output: a place in LPS mm with a score used for ranking."""

    seriesuid: str
    center_mm: Point
    score: float
    diameter_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference standard of a set of scans, as LUNA16's tables state it.

    `seriesuids` are the scans that count, those without a nodule included; `patients` says
    which patient each series belongs to (empty: not known).
    """

    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    seriesuids: tuple[str, ...]
    patients: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelledCandidate:
    """A row of LUNA16's candidates files: a place with its class (1 = nodule)."""

    seriesuid: str
    center_mm: Point
    label: int


@dataclass(frozen=True, slots=True)
class MarkPlace:
    """Where in the stored scan a mark is: the voxel (i, j, k) that holds it, and its image."""

    voxel: tuple[int, int, int]
    image: SliceFact = field(default_factory=SliceFact)


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What a model says of one scan or radiograph; a refusal is a result too, with its reasons.

    `places` has one place a candidate, in their order (empty: not recorded). A radiograph has no
    candidates but calibrated `probabilities` by label. `path` is where it was read from, empty
    where that may name a patient; `input_key` is a hash by which a resumed search knows it.
    """

    seriesuid: str
    candidates: tuple[Candidate, ...]
    status: Literal["analysed", "not_analysed"]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    kind: Literal["scan", "image"] = "scan"
    places: tuple[MarkPlace, ...] = ()
    probabilities: dict[str, float] = field(default_factory=dict)
    path: str = ""
    input_key: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class PatchBatch:
    """One batch: image [B, C, *spatial], label [B, K] float, label_known [B, K] bool.

    K is the number of labels (1 for nodule / not); a label that is not known has label_known
    False and any value. `view_number` names the view of each sample (`data/augment.py`); it is
    empty where samples are read as they are.
    """

    image: Tensor
    label: Tensor
    label_known: Tensor
    sample_id: tuple[str, ...]
    view_number: tuple[int, ...] = ()
