"""Calibrate a model on whole scans: probabilities of its marks, and thresholds by false positives.

A mark on a nodule counts as 1, a mark on no finding as 0; marks on excluded findings, and further
marks on the same nodule, are left out (LUNA16's rules, `evaluate/matching.py`). Most marks are
false, so the temperature is fitted with a shift: of the marks with probability 0.8, 80 % should be
nodules. The ranking of marks does not change.

Scans are searched with the uncalibrated model, whose scores are sigmoid(logit).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medkd.detect.calibration_cases import CalibrationCases
from medkd.detect.jobs import SearchJob, job_of_scans
from medkd.errors import SeriesError
from medkd.evaluate.calibration import (
    TEMPERATURE_RANGE,
    Scaling,
    expected_calibration_error,
    fit_scaling,
    mean_log_loss,
)
from medkd.evaluate.caution import FEW_GROUPS
from medkd.evaluate.froc import choose_froc_operating_point
from medkd.evaluate.matching import Matching, match_marks
from medkd.models.package import (
    FP_PER_SCAN,
    WHOLE_SCAN,
    Calibration,
    CalibrationRecord,
    LoadedModel,
    ModelInfo,
    nodule_scaling,
    whole_scan_point,
)
from medkd.types import Candidate, CaseResult, OperatingPoint, Reference

Float64 = NDArray[np.float64]

_NEAREST_TO_ONE = 1.0 - 2.0**-53
_ROUNDING = 1e-9
"""Thresholds are lowered by this share: in a later search the same mark must reach them again."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well probabilities fit the marks: log loss in nats, expected calibration error 0..1."""

    log_loss: float
    calibration_error: float


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedModel:
    """The description of the calibrated model, and the fit of its marks before and after."""

    info: ModelInfo
    record: CalibrationRecord
    before: Fit
    after: Fit


def calibration_search(model: LoadedModel, cases: CalibrationCases) -> SearchJob:
    """Prepare the search of the scans with the uncalibrated model.

    Raises:
        CheckpointError: if the model cannot search scans.
    """
    plain = replace(model.info, calibration=Calibration(), operating_points={})
    # No page: its probabilities would not be those of the new model.
    return replace(job_of_scans(cases.scans, LoadedModel(model.network, plain)), page=None)


def calibrate_model(
    info: ModelInfo,
    results: Sequence[CaseResult],
    cases: CalibrationCases,
    *,
    fp_per_scan: float = 1.0,
) -> CalibratedModel:
    """Fit the calibration and choose the thresholds of a model.

    Thresholds for other purposes, such as candidates, are converted: their decisions do not change.

    Args:
        info: the model that searched the scans.
        results: results of `calibration_search`; a scan that was not analysed is left out.
        cases: the scans and their reference standard.
        fp_per_scan: false positives per scan at the default threshold, > 0.

    Raises:
        SeriesError: if no scan was analysed, no mark is on a nodule, or no mark is false.
    """
    cases = _analysed(cases, results)
    marks = [mark for result in results for mark in result.candidates]
    matching = match_marks(marks, cases.reference)
    _refuse_one_class(matching, cases.reference)
    logits, hits = _logit(matching.scores), matching.is_nodule.astype(np.float64)
    before, after = nodule_scaling(info), fit_scaling(logits, hits)
    record = _record(cases, matching, warnings=(*_cautions(cases), *_fit_warnings(after)))
    scored = _rescored(marks, after)
    points = choose_whole_scan_points(scored, cases.reference, fp_per_scan=fp_per_scan)
    converted = {name: _converted(p, before, after) for name, p in info.operating_points.items()}
    chosen = {name: _reachable(p, _chosen_on(record)) for name, p in points.items()}
    new = replace(
        info,
        calibration=_stored(after, info),
        operating_points={**converted, **chosen},
        calibrated_on=record,
    )
    return CalibratedModel(new, record, _fit(logits, hits, before), _fit(logits, hits, after))


def choose_whole_scan_points(
    marks: Sequence[Candidate], reference: Reference, *, fp_per_scan: float
) -> dict[str, OperatingPoint]:
    """Choose the thresholds of whole scans, the default one and those of `FP_PER_SCAN`.

    Args:
        marks: marks on validation scans.
        reference: reference standard of the same scans.
        fp_per_scan: false positives per scan at the default threshold, > 0.
    """
    asked = {WHOLE_SCAN: fp_per_scan} | {whole_scan_point(rate): rate for rate in FP_PER_SCAN}
    return {
        name: choose_froc_operating_point(marks, reference, fp_per_scan=rate)
        for name, rate in asked.items()
    }


def _analysed(cases: CalibrationCases, results: Sequence[CaseResult]) -> CalibrationCases:
    """Leave out the scans that were not analysed, with a warning."""
    refused = {r.seriesuid: r.reasons for r in results if r.status == "not_analysed"}
    whole = cases.reference
    if not refused:
        return cases
    patients = {uid: patient for uid, patient in whole.patients.items() if uid not in refused}
    if not patients:
        reasons = [f"{name}: {'; '.join(why)}" for name, why in refused.items()]
        raise SeriesError("no scan could be analysed", reasons)
    reference = Reference(
        tuple(n for n in whole.nodules if n.seriesuid not in refused),
        tuple(n for n in whole.excluded if n.seriesuid not in refused),
        tuple(patients),
        patients,
    )
    scans = tuple(scan for scan in cases.scans if scan.name not in refused)
    count = f"{len(refused)} of {len(whole.seriesuids)} scans"
    warning = f"{count} could not be analysed and are left out"
    return replace(cases, reference=reference, scans=scans, warnings=(*cases.warnings, warning))


def _refuse_one_class(matching: Matching, reference: Reference) -> None:
    hits, total = int(matching.is_nodule.sum()), len(matching.scores)
    if hits and hits < total:
        return
    nodules = f"{hits} of {len(reference.nodules)} nodules have a mark"
    raise SeriesError(
        "the model cannot be calibrated on these scans",
        [f"expected marks on nodules and false marks, got: {nodules}, "
         f"{total - hits} marks are false",
         "check that the nodules lie where the scans show them (medkd review INDEX), and that the "
         "model was trained for such scans; or use more scans"],
    )  # fmt: skip


def _record(
    cases: CalibrationCases, matching: Matching, *, warnings: Sequence[str]
) -> CalibrationRecord:
    reference, hits = cases.reference, int(matching.is_nodule.sum())
    return CalibrationRecord(
        scans=len(reference.seriesuids),
        scans_with_nodules=_positive(reference),
        patients=len(set(reference.patients.values())),
        nodules=len(reference.nodules),
        hits=hits,
        false_marks=len(matching.scores) - hits,
        synthetic_scans=cases.synthetic,
        index_fingerprint=cases.index_fingerprint,
        cases_sha256=cases.sha256,
        split_fingerprint=cases.split_fingerprint,
        part=cases.part,
        warnings=(*cases.warnings, *warnings),
    )


def _positive(reference: Reference) -> int:
    return len({nodule.seriesuid for nodule in reference.nodules})


def _cautions(cases: CalibrationCases) -> Iterator[str]:
    """Yield warnings about few or synthetic scans."""
    total = len(cases.reference.seriesuids)
    positive = _positive(cases.reference)
    counts = ((positive, "with nodules"), (total - positive, "without nodules"))
    few = [f"{count} {what}" for count, what in counts if count < FEW_GROUPS]
    if few:
        yield (
            f"few scans ({', '.join(few)}; {FEW_GROUPS} of each are advisable): probabilities and "
            "thresholds may be far from those of other scans"
        )
    if cases.synthetic:
        yield f"{cases.synthetic} of {total} scans are synthetic: real scans may need other values"


def _chosen_on(record: CalibrationRecord) -> str:
    part = f"part {record.part} of " if record.part else ""
    return f"{part}local scans ({record.scans} scans, {record.nodules} nodules)"


def _fit_warnings(scaling: Scaling) -> Iterator[str]:
    if scaling.temperature > 0.99 * TEMPERATURE_RANGE[1]:
        yield (
            "the scores hardly distinguish nodules from false marks on these scans: the "
            "probabilities say little"
        )


def _stored(scaling: Scaling, info: ModelInfo) -> Calibration:
    """Return the calibration in the form of the model's outputs."""
    shift = (0.0, scaling.shift) if info.outputs == "exclusive" else (scaling.shift,)
    return Calibration((scaling.temperature,), shift)


def _reachable(point: OperatingPoint, chosen_on: str) -> OperatingPoint:
    """Lower a threshold by less than any difference that counts; see `_ROUNDING`."""
    return replace(point, threshold=point.threshold * (1.0 - _ROUNDING), chosen_on=chosen_on)


def _converted(point: OperatingPoint, before: Scaling, after: Scaling) -> OperatingPoint:
    """Convert a threshold on old probabilities to the same threshold on new ones."""
    if not 0.0 < point.threshold < 1.0:
        return point  # everything, or nothing, reaches it
    logit = (_logit([point.threshold]) - before.shift) * before.temperature
    return replace(point, threshold=float(_probability(logit, after)[0]))


def _rescored(marks: Sequence[Candidate], scaling: Scaling) -> list[Candidate]:
    """Return marks with calibrated probabilities in place of sigmoid(logit)."""
    scores = _probability(_logit([mark.score for mark in marks]), scaling).tolist()
    return [replace(mark, score=score) for mark, score in zip(marks, scores, strict=True)]


def _logit(scores: Sequence[float] | Float64) -> Float64:
    score = np.clip(np.asarray(scores, dtype=np.float64), 1e-300, _NEAREST_TO_ONE)
    return np.asarray(np.log(score) - np.log1p(-score))


def _probability(logits: Float64, scaling: Scaling) -> Float64:
    scaled = np.clip(logits / scaling.temperature + scaling.shift, -700.0, 700.0)
    return np.asarray(1.0 / (1.0 + np.exp(-scaled)))


def _fit(logits: Float64, hits: Float64, scaling: Scaling) -> Fit:
    probabilities = _probability(logits, scaling)
    return Fit(mean_log_loss(hits, probabilities), expected_calibration_error(hits, probabilities))
