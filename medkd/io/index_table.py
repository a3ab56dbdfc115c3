"""INDEX: what `medkd index` leaves and every other command reads.

index.csv            one row a case (`IndexedCase`): scans and radiographs, refused ones too
index.nodules.csv    reference nodules, LUNA16's columns and what they count as
index.labels.csv     labels of whole cases: 1, 0, or empty where nobody knows
index.files.csv      what became of every file of the archive
index.unmatched.csv  annotation rows that fit no case, each with its reason
index.json           the record: settings, counts, fingerprint
index.private/       mode 0700: key, link table, where the files are; never leaves the site

Under `identity: pseudonymise` nothing outside `index.private/` names a patient, a UID or a path
of the archive. Places are LPS mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medkd.types import Nodule


@dataclass(frozen=True, slots=True)
class IndexedCase:
    """One scan or radiograph of an archive.

    `reasons` say why it is not analysed and `allowed` which faults were let pass, each as
    "code: text" (`dicom_gate.CODES`). `origin` is what the archive itself says of the split
    ("train", "val", "test", "subset3"; empty: nothing). `day` counts days since the patient's
    first study. `shape` and `spacing_mm` are (i, j, k) of a scan, (row, column) of an image.
    `content` is a digest of the pixels: equal pixels, equal digest.
    """

    case_id: str
    patient_id: str
    kind: Literal["scan", "image"]
    status: Literal["ready", "not_analysed"]
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


@dataclass(frozen=True, slots=True)
class CaseLabel:
    """A label of a whole case; value None: not known (masked in training, never 0)."""

    case_id: str
    name: str
    value: Literal[0, 1] | None
    source: str = ""


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """Everything an INDEX says, apart from pixels. A nodule's `seriesuid` is its case_id."""

    cases: tuple[IndexedCase, ...]
    nodules: tuple[Nodule, ...] = ()
    labels: tuple[CaseLabel, ...] = ()
    identity: Literal["keep", "pseudonymise"] = "pseudonymise"
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
