"""What the bench keeps of each scan, and what it leaves in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from medkd.types import Candidate, Interval, Nodule, Point, RunRecord


@dataclass(frozen=True, slots=True)
class MarksAt:
    """The blob finder's marks on one scan under one threshold, the best ones."""

    threshold: float
    marks: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A nodule, or a false mark of the blob finder, and what the judges need of it.

    `diameter_mm` is None at a false mark; `masked_mm` is the radius that was hidden before the
    surroundings were read (at a false mark that of one of the same scan's nodules, drawn).
    """

    center_mm: Point
    is_nodule: bool
    diameter_mm: float | None
    masked_mm: float
    texture: str = ""
    outline: str = ""
    attachment: str = ""
    blob_score: float | None = None
    judge_score: float | None = None
    surroundings: tuple[float | None, ...] = ()


@dataclass(frozen=True, slots=True)
class ScanRow:
    """Everything measured on one scan."""

    number: int
    seriesuid: str
    kernel: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    nodules: tuple[Nodule, ...]
    excluded: tuple[Nodule, ...]
    marks: tuple[MarksAt, ...]
    places: tuple[Place, ...]
    seconds: dict[str, float]
    peak_mib: int


@dataclass(frozen=True, slots=True)
class Auc:
    """ROC AUC of nodules against false marks, with its interval by scan."""

    roc_auc: float
    interval_95: tuple[float, float] | None
    nodules: int
    false_marks: int


@dataclass(frozen=True, slots=True)
class BlobFinder:
    """The blob finder's score; the threshold was tuned on other scans, where it had `tuned_cpm`."""

    cpm: float
    interval_95: tuple[float, float] | None
    cpm_nearest: float
    sensitivity_at: dict[str, float]
    nodules: int
    found_of_best_marks: int
    threshold: float
    tuned_cpm: float
    fp_per_scan: tuple[float, ...] = ()
    sensitivity: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged(Auc):
    """The classifier's AUC: all, and nodules of one kind against all false marks."""

    by_texture: dict[str, Auc]
    by_outline: dict[str, Auc]
    by_attachment: dict[str, Auc]
    by_diameter: dict[str, Auc]
    by_kernel: dict[str, Auc]
    """Nodules and false marks of one scanner's scans alone."""


@dataclass(frozen=True, slots=True)
class Masked(Auc):
    """Boosted trees on the surroundings; as many false marks as nodules.

    The headline takes each scan's best false marks, as many as it has nodules; `highest` the
    best false marks of all scans together. `telling` are the features that tell most alone.
    """

    highest: Auc | None = None
    by_attachment: dict[str, Auc] = field(default_factory=dict)
    telling: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of each judged place, for the drawings: nodules first."""

    judge_nodules: tuple[float, ...] = ()
    judge_false: tuple[float, ...] = ()
    diameters_mm: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class DifficultyRecord:
    """The result, `difficulty.json`; a part that was not measured is null."""

    generator_version: str
    difficulty: str
    size: str
    scans: int
    tuning_scans: int
    nodules: int
    blob_finder: BlobFinder
    luna16_classifier: Judged | None
    masked_surroundings: Masked | None
    notes: tuple[str, ...]
    seconds_a_scan: dict[str, float]
    peak_mib: int
    scores: Scores = field(default_factory=Scores)
    record: RunRecord | None = None


def pair_of(interval: Interval | None) -> tuple[float, float] | None:
    """Return the ends of an interval, rounded."""
    return None if interval is None else (round(interval.low, 4), round(interval.high, 4))
