"""Data types of results: scores with their intervals, costs, and the records of runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from medkd.formats import RUN

CPM_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which LUNA16's CPM reads the sensitivity."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile bootstrap interval, with the settings of the bootstrap.

    `level` is the coverage (0.95: a 95 % interval), `resamples` the number of resamples in which
    the value is defined, and `unit` what was drawn: "patient", "series", "sample" or "patient and
    seed".
    """

    low: float
    high: float
    level: float = 0.95
    resamples: int = 1000
    unit: str = "patient"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval (None: no interval can be computed)."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on the probability, with the rule and the split by which it was chosen.

    A case is positive if probability >= threshold. `sensitivity`, `specificity` and `fp_per_scan`
    are its rates on the split `chosen_on` (None: not defined).
    """

    threshold: float
    rule: str
    chosen_on: str = "validation"
    sensitivity: float | None = None
    specificity: float | None = None
    fp_per_scan: float | None = None


@dataclass(frozen=True, slots=True)
class PointScores:
    """Counts and rates at one threshold; a rate with a zero denominator is 0, never NaN.

    None: the score does not apply. Marks of scans have no true negatives, specificity or accuracy;
    a classification has no `fp_per_scan`. Earlier runs have no `balanced_accuracy`.
    """

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
    balanced_accuracy: Estimate | None = None


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """Scores of one binary label on one split.

    `label` is the name of the label if the model has several. Samples whose label is not known do
    not count.
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
    """FROC of one set of marks by LUNA16's rules; `track` names the marks that were scored.

    `interval` is the percentile interval of the bootstrap CPMs (interpolated). LUNA16's script
    draws bounds of the curve instead: `interval_of_curve` is their mean over the seven rates, which
    is a little wider. `cpm_bootstrap_mean` is the mean of the bootstrap CPMs.
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
    """The cost of running a model.

    `latency_ms` is the median and `latency_spread_ms` the interquartile range of repeated runs on
    one input of `input_shape`; the runs of all arms alternate. `busy` is the fraction 0..1 of the
    machine's cores that other processes used meanwhile. None: not measured.
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
    """Numbers of cases by origin.

    `real`: unchanged cases of patients; `implanted`: real scans with nodules of `medkd implant`;
    `phantom`: scans that `medkd phantom` generated completely; `patches`: patches of real scans.
    """

    real: int = 0
    implanted: int = 0
    phantom: int = 0
    kind: Literal["scans", "images"] = "scans"
    patches: int = 0

    @property
    def total(self) -> int:
        """The number of all cases."""
        return self.real + self.implanted + self.phantom + self.patches

    @property
    def synthetic(self) -> bool:
        """Whether any case is synthetic or contains synthetic nodules."""
        return bool(self.implanted or self.phantom)


@dataclass(frozen=True, slots=True)
class TermRecord:
    """A term of a student's loss: a transfer term or the label loss ("hard_label").

    `kind` is its name in the run, `detail` describes its other settings in words.
    """

    kind: str
    weight: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Agreement of an arm with the calibrated teacher on held-out data.

    `kl` is the mean Bernoulli KL(teacher || arm) in nats over samples and labels of `split`.
    `agreement` is the fraction of equal decisions if both use the threshold 0.5. For exclusive
    classes, `kl` is that of the softmax, averaged over samples, and `agreement` the fraction of
    samples with the same most probable class.
    """

    arm: str
    split: str
    kl: float
    agreement: float


@dataclass(frozen=True, slots=True)
class LayerSimilarity:
    """Linear CKA of layers of an arm with layers of a teacher on samples of `split`.

    `cka[a][b]` belongs to `teacher_layers[a]` and `layers[b]`; None: not defined, because a layer
    is constant. The first layer of each network is its embedding.
    """

    arm: str
    teacher: str
    split: str
    samples: int
    teacher_layers: tuple[str, ...]
    layers: tuple[str, ...]
    cka: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, slots=True)
class ArmResult:
    """All scores and costs of one arm: "teacher", "control" or "student".

    `classification` has, for each split, one result for each label of the model. `class_accuracy`
    is the share of the samples of each split whose most probable class is the right one (empty:
    the outputs are not exclusive classes). `origins` counts the cases that the arm and its teacher
    were trained on (None: not recorded).
    """

    name: str
    model: str
    initialisation: str
    trained_on: str
    classification: dict[str, tuple[ClassificationResult, ...]] = field(default_factory=dict)
    froc: tuple[FrocResult, ...] = ()
    efficiency: Efficiency | None = None
    origins: CaseOrigins | None = None
    class_accuracy: dict[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteSummary:
    """The cases and intensities of one site of a run.

    `cases` and `patients` count all parts. Intensities are those of `measured` held-out cases: HU
    of voxels in the body, or grey values 0..255 of the loaded images. `quantiles` maps shares, such
    as "0.5", to values. Without a measured case, mean and standard deviation are None.
    """

    name: str
    cases: int
    patients: int
    measured: int
    unit: Literal["HU", "grey"]
    mean: float | None
    sd: float | None
    quantiles: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteDistance:
    """How far apart two sites are in the embedding of one arm, on held-out samples.

    `samples` and `patients` are those of the first and the second site. `squared_mmd` is the
    unbiased squared maximum mean discrepancy and `p_value` that of exchanging patients between the
    sites. `roc_auc` is that of a classifier of sites on patients that it was not fitted on (None:
    a site has too few patients).
    """

    arm: str
    first: str
    second: str
    samples: tuple[int, int]
    patients: tuple[int, int]
    squared_mmd: float
    p_value: float
    roc_auc: float | None


@dataclass(frozen=True, slots=True)
class SiteShift:
    """The sites of a run, and their distances in the embedding of each arm.

    `resamples` is the number of exchanges behind each p-value. `notes` state what was not measured.
    """

    sites: tuple[SiteSummary, ...]
    distances: tuple[SiteDistance, ...] = ()
    resamples: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The facts needed to reproduce a result; they are written beside every result.

    `phantoms` has one line for each generator of the synthetic scans that were used: its stamp and
    the difficulty of its phantoms (`medkd.difficulty`). `without_transfer` maps each student that
    was trained without its transfer terms to the reason.
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
    without_transfer: dict[str, str] = field(default_factory=dict)
    format_version: int = RUN.version


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of a run, stored as `evaluation.json`.

    `origins` counts the cases of each split of `splits` by origin. `no_similarity` states why
    `similarity` is empty (empty: it was measured, or by an earlier medkd, which did not). `shift`
    compares the sites of the run (None: it has one site, or it was not measured).
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
    similarity: tuple[LayerSimilarity, ...] = ()
    no_similarity: str = ""
    shift: SiteShift | None = None
    format_version: int = RUN.version

    def arm(self, name: str) -> ArmResult:
        """Return the arm of that name.

        Raises:
            KeyError: if the run has no such arm.
        """
        return {arm.name: arm for arm in self.arms}[name]
