"""Numbers with their intervals: what is measured of arms, models and marks, and of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from medkd.formats import RUN

CPM_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a scan at which the LUNA16 score is read."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval and how it was made."""

    low: float
    high: float
    level: float = 0.95
    resamples: int = 1000
    unit: str = "patient"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval (None where no interval can be given)."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on the probability, and where and by which rule it was chosen.

    A case is positive if probability >= threshold. `sensitivity`, `specificity` and
    `fp_per_scan` are what the split it was chosen on gave (None where not defined).
    """

    threshold: float
    rule: str
    chosen_on: str = "validation"
    sensitivity: float | None = None
    specificity: float | None = None
    fp_per_scan: float | None = None


@dataclass(frozen=True, slots=True)
class PointScores:
    """Counts and rates at one threshold; rates are NaN-free (0 where undefined)."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int | None
    sensitivity: Estimate
    precision: Estimate
    f1: Estimate
    specificity: Estimate | None = None
    accuracy: Estimate | None = None
    fp_per_scan: float | None = None


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """Scores of one yes-or-no label on one split.

    `label` names it where a model has several; samples whose label is not known do not count.
    """

    split: str
    samples: int
    positives: int
    patients: int
    roc_auc: Estimate
    pr_auc: Estimate
    brier: Estimate
    calibration_error: float
    at_operating_point: PointScores
    at_half: PointScores
    operating_point: OperatingPoint
    roc_curve: tuple[tuple[float, float], ...] = ()
    pr_curve: tuple[tuple[float, float], ...] = ()
    reliability: tuple[tuple[float, float, int], ...] = ()
    label: str = ""

    @property
    def prevalence(self) -> float:
        """Positive samples over all samples, 0..1."""
        return self.positives / self.samples if self.samples else 0.0


@dataclass(frozen=True, slots=True)
class FrocResult:
    """LUNA16-exact FROC of one set of marks; `track` says what was scored.

    `interval` holds the middle share of bootstrap CPMs (interpolated). LUNA16's script draws
    bounds of the curve instead: `interval_of_curve` is their mean over the seven rates, a little
    wider, and `cpm_bootstrap_mean` the mean of the bootstrap CPMs.
    """

    track: str
    scans: int
    nodules: int
    candidates: int
    true_positives: int
    false_positives: int
    false_negatives: int
    ignored_excluded: int
    ignored_double: int
    cpm_interpolated: float
    cpm_nearest: float
    sensitivity_at: dict[str, float]
    fp_per_scan: tuple[float, ...]
    sensitivity: tuple[float, ...]
    thresholds: tuple[float, ...]
    interval: Interval | None = None
    interval_of_curve: Interval | None = None
    cpm_bootstrap_mean: float | None = None
    sensitivity_intervals: dict[str, Interval] = field(default_factory=dict)
    at_operating_point: PointScores | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """First arm minus second arm on the same patients, with a joint bootstrap interval.

    `label` names the label that was compared; empty: the only one, or the mean over all.
    """

    first: str
    second: str
    metric: str
    difference: Estimate
    p_value: float | None = None
    primary: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What a model costs.

    Latency is the median over repeats of one input of `input_shape`, its spread the middle half
    of them; the repeats of all arms alternate. `busy` is the share of the machine's cores that
    other processes used meanwhile, 0..1. None: not measured.
    """

    parameters: int
    macs: int
    size_mib: float
    latency_ms: float
    input_shape: tuple[int, ...]
    device: str
    threads: int
    latency_spread_ms: tuple[float, float] | None = None
    busy: float | None = None


@dataclass(frozen=True, slots=True)
class CaseOrigins:
    """How many cases come from where.

    `real`: patients' cases as they are; `implanted`: real scans with nodules of `medkd implant`;
    `phantom`: scans that `medkd phantom` made whole.
    """

    real: int = 0
    implanted: int = 0
    phantom: int = 0
    kind: Literal["scans", "images"] = "scans"

    @property
    def total(self) -> int:
        """All cases."""
        return self.real + self.implanted + self.phantom

    @property
    def synthetic(self) -> bool:
        """Whether any case is synthetic, or holds synthetic nodules."""
        return bool(self.implanted or self.phantom)


@dataclass(frozen=True, slots=True)
class TermRecord:
    """One transfer term as it ran: kind, weight, settings in words."""

    kind: str
    weight: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How close an arm is to the calibrated teacher on held-out data.

    `kl` is the mean Bernoulli KL(teacher || arm) in nats on `split`, over samples and labels;
    `agreement` the share of equal decisions at each one's probability .5.
    """

    arm: str
    split: str
    kl: float
    agreement: float


@dataclass(frozen=True, slots=True)
class ArmResult:
    """Everything measured of one arm: "teacher", "control" or "student".

    `classification` holds, by split, one result for each label of the model.
    `origins` counts the cases that it and its teacher were trained on; None: not recorded.
    """

    name: str
    model: str
    initialisation: str
    trained_on: str
    classification: dict[str, tuple[ClassificationResult, ...]] = field(default_factory=dict)
    froc: tuple[FrocResult, ...] = ()
    efficiency: Efficiency | None = None
    origins: CaseOrigins | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What made a result: enough to make it again. Written beside every result.

    `phantoms` names, a line each, the generators of the synthetic scans it was made from, with
    what outsiders reach on their phantoms.
    """

    command: str
    started: str
    seconds: float
    seed: int
    medkd_version: str
    python: str
    platform: str
    processor: str
    cores: int
    device: str
    deterministic: bool
    packages: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    config_sha256: str
    data_fingerprints: dict[str, str] = field(default_factory=dict)
    weights_sha256: dict[str, str] = field(default_factory=dict)
    phantoms: tuple[str, ...] = ()
    format_version: int = RUN.version


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run's result: arms, differences, transfer evidence, record. `evaluation.json`.

    `origins` counts the cases of each split of `splits`, by where they come from.
    """

    name: str
    dataset: str
    source_data: str
    target_data: str
    trained_on_synthetic: bool
    arms: tuple[ArmResult, ...]
    differences: tuple[PairedDifference, ...]
    terms: tuple[TermRecord, ...]
    fidelity: tuple[Fidelity, ...]
    transfer_took_place: bool | None
    splits: dict[str, dict[str, int]]
    warnings: tuple[str, ...]
    record: RunRecord
    origins: dict[str, CaseOrigins] = field(default_factory=dict)
    format_version: int = RUN.version

    def arm(self, name: str) -> ArmResult:
        """Return the arm of that name.

        Raises:
            KeyError: if the run has no such arm.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(f"no arm {name!r}; arms are {[arm.name for arm in self.arms]}")
