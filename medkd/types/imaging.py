"""Data types for scans, radiographs, nodules, candidates and training batches.

Volume arrays are indexed (i, j, k); world coordinates are LPS mm (`geometry.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from medkd.geometry import VoxelGrid

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

Point = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Acquisition parameters of a scan according to its header (None: not stated)."""

    modality: str = "CT"
    slice_thickness_mm: float | None = None
    kernel: str | None = None
    kvp: float | None = None
    manufacturer: str | None = None


@dataclass(frozen=True, slots=True)
class DisplayWindow:
    """The display window that a header suggests: its centre and width in HU, or in grey values."""

    center: float
    width: float


@dataclass(frozen=True, slots=True)
class SliceFact:
    """The DICOM image that a slice was read from.

    `instance_number` is the header's InstanceNumber (None: not stated). `frame_number` is the
    1-based frame of a multi-frame image (None: a single-frame image). The UID can identify a
    patient, so it is empty for a pseudonymised archive.
    """

    instance_number: int | None = None
    sop_instance_uid: str = field(default="", repr=False)
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """A CT volume: voxels_hu [i, j, k] int16 in HU on a grid in LPS mm.

    `notes` lists what the reader accepted or changed; `patient_id` is a pseudonym, unless the set
    keeps its identifiers. `stored_grid` is the grid of the file if the reader reordered sagittal or
    coronal slices into axial ones (`io/axial.py`), else None. A voxel index in the file, such as
    `MarkPlace.voxel`, is an index on this grid.
    `slices` has one entry per stored slice, ordered along k of `stored_grid` (of `grid` if there
    is no `stored_grid`). It is empty if the slices are not DICOM images. `window` is the header's.
    """

    seriesuid: str
    voxels_hu: NDArray[np.int16]
    grid: VoxelGrid
    patient_id: str
    acquisition: Acquisition = field(default_factory=Acquisition)
    notes: tuple[str, ...] = ()
    stored_grid: VoxelGrid | None = None
    slices: tuple[SliceFact, ...] = ()
    window: DisplayWindow | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """A projection image: pixels [row, col] float32 in 0..1, bright = dense.

    `notes` lists every value of the file that was changed or ignored while reading. `window` is the
    header's window that maps its values to 0..1; None: they were mapped in another way.
    `orientation` is the header's PatientOrientation: where in the body rows run to, from left to
    right, and columns, from top to bottom, as letters (L or R, A or P, H or F); None: not stated.
    """

    imageuid: str
    pixels: NDArray[np.float32]
    patient_id: str
    pixel_spacing_mm: tuple[float, float] | None = None
    view: str | None = None
    notes: tuple[str, ...] = ()
    window: DisplayWindow | None = None
    orientation: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Nodule:
    """A finding of the reference standard: a sphere in LPS mm.

    `counts_as` follows the LUNA16 files. An "included" nodule must be found. An "excluded" one is
    an irrelevant finding: a mark on it is neither a hit nor a false positive. A negative diameter
    means that the diameter is unknown. `readers_agreeing` is the number of readers who marked the
    nodule (None: not known). `sources` names the annotations it comes from; it is empty if they
    were not recorded.
    """

    seriesuid: str
    center_mm: Point
    diameter_mm: float
    counts_as: Literal["included", "excluded"] = "included"
    readers_agreeing: int | None = None
    # Not part of the repr: the fingerprint of the phantom generator hashes that text.
    sources: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class ReviewedMark:
    """What readers decided about one place of a scan, in LPS mm.

    "accepted" is a mark of a model that is a nodule, "added" a nodule that no mark showed, and
    "rejected" a mark that is none: a known negative. A negative diameter means that the diameter is
    unknown. `readers` decided so, the last of them at `decided_at` (UTC).
    """

    seriesuid: str
    center_mm: Point
    diameter_mm: float
    verdict: Literal["accepted", "added", "rejected"]
    readers: tuple[str, ...] = ()
    decided_at: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Model output: a position in LPS mm with a score used for ranking."""

    seriesuid: str
    center_mm: Point
    score: float
    diameter_mm: float | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference standard of a set of scans, structured like LUNA16's tables.

    `seriesuids` are the scans that are scored, including those without a nodule. `patients` maps
    each series to its patient (empty: not known).
    """

    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    seriesuids: tuple[str, ...]
    patients: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelledCandidate:
    """A row of LUNA16's candidates files: a position with its class (1 = nodule)."""

    seriesuid: str
    center_mm: Point
    label: int


@dataclass(frozen=True, slots=True)
class LungPlace:
    """Position in the lungs: the patient's side and the third of the height of that lung."""

    side: Literal["left", "right"]
    third: Literal["upper", "middle", "lower"]


@dataclass(frozen=True, slots=True)
class MarkPlace:
    """Position of a mark in the scan's file: a voxel (i, j, k) of the stored grid, its DICOM image.

    The stored grid is `Scan.stored_grid`, or `Scan.grid` if that is None. `lung` is None if it is
    not known.
    """

    voxel: tuple[int, int, int]
    image: SliceFact = field(default_factory=SliceFact)
    lung: LungPlace | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The output of a model for one scan or radiograph, or the reasons why it was refused.

    `places` has one entry per candidate, in the same order (empty: not recorded). A radiograph
    has no candidates but calibrated `probabilities` by label. `path` is where the case was read
    from; it is empty if it could name a patient. `input_key` is a hash of the input. When an
    interrupted `medkd detect` is resumed, inputs with a known key are not analysed again.
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


NODULE, EXCLUDED, ABSENT = 1, 0, -1
"""Values of `Points.kind`; absent rows fill up the batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """The findings in the views of a batch.

    Args:
        center_vox: [B, N, 3], N at least 1: centres in voxels of the view; they may lie outside it.
        diameter_mm: [B, N]; a negative one is not known.
        kind: [B, N] int, `NODULE`, `EXCLUDED` or `ABSENT`.
    """

    center_vox: Tensor
    diameter_mm: Tensor
    kind: Tensor

    def to(self, device: torch.device) -> Points:
        """Return the findings on a device."""
        return Points(*(t.to(device) for t in (self.center_vox, self.diameter_mm, self.kind)))

    def select(self, rows: Tensor) -> Points:
        """Return the findings of some samples, given by [B] bool or by indices."""
        return Points(self.center_vox[rows], self.diameter_mm[rows], self.kind[rows])


@dataclass(frozen=True, slots=True, eq=False)
class PatchBatch:
    """One batch: image [B, C, *spatial], label [B, K] float, label_known [B, K] bool.

    K is the number of labels (1 for nodule / not nodule). If a label is not known, its
    label_known is False and its value is arbitrary. `view_number` is the number of each sample's
    view (`data/augment.py`); it is empty if the samples are not augmented. `points` are the
    findings in crops of scans, for point detectors; None: the samples are candidates or images.
    `other` are samples of another domain, whose labels are not used; None: there are none.
    `whole_rows` is the size of the whole batch if several processes load a share of it each.
    """

    image: Tensor
    label: Tensor
    label_known: Tensor
    sample_id: tuple[str, ...]
    view_number: tuple[int, ...] = ()
    points: Points | None = None
    other: PatchBatch | None = None
    whole_rows: int | None = None

    def to(self, device: torch.device) -> PatchBatch:
        """Return the batch on a device."""
        image, label, known = (
            tensor.to(device, non_blocking=True)
            for tensor in (self.image, self.label, self.label_known)
        )
        points = self.points.to(device) if self.points else None
        other = self.other.to(device) if self.other else None
        return replace(
            self, image=image, label=label, label_known=known, points=points, other=other
        )
