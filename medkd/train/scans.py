"""Whole CT scans in a run: reference standard, marks, FROC of both tracks, the worklist.

The two tracks are never mixed. "candidates" scores the candidates that the data set lists;
"whole-scan" scores the marks that an arm finds itself. Both thresholds come from validation scans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medkd.config.run_settings import DetectionSettings
from medkd.data.prepared import PreparedScans
from medkd.detect import search_prepared
from medkd.detect.calibration import choose_whole_scan_points
from medkd.detect.view import check_model
from medkd.errors import SeriesError
from medkd.evaluate.froc import evaluate_froc, froc_difference
from medkd.index.case import Case
from medkd.io.luna16_tables import read_marks, write_annotations, write_marks, write_seriesuids
from medkd.jsonio import read_json, write_json
from medkd.models.package import (
    CLASSIFICATION,
    WHOLE_SCAN,
    LoadedModel,
    load_model,
    read_info,
    save_model,
)
from medkd.runs import Prediction, RunFolder, write_cases
from medkd.train.domains import HELD_OUT, Domain
from medkd.train.plan import RunContext
from medkd.types import Candidate, CaseResult, FrocResult, PairedDifference, Reference, RunCase

CANDIDATES = "candidates"


def reference_of(domain: Domain, part: str, *, track: str = CANDIDATES) -> Reference:
    """Return the reference standard of the scans of one part that are scored in a track."""
    cases = domain.index.by_id()
    chosen = domain.whole_scans(part) if track == WHOLE_SCAN else getattr(domain.split, part)
    patients = {uid: cases[uid].patient_id for uid in chosen}
    named = any(uid != patient for uid, patient in patients.items())
    return Reference(
        nodules=tuple(n for n in domain.index.nodules if n.seriesuid in patients),
        excluded=tuple(n for n in domain.index.excluded if n.seriesuid in patients),
        seriesuids=tuple(chosen),
        patients=patients if named else {},
    )


def write_reference(run: RunFolder, reference: Reference) -> None:
    """Write the reference standard of the test scans as LUNA16 files."""
    run.reference.mkdir(parents=True, exist_ok=True)
    write_annotations(run.reference / "annotations.csv", list(reference.nodules))
    write_annotations(run.reference / "annotations_excluded.csv", list(reference.excluded))
    write_seriesuids(run.reference / "seriesuids.csv", list(reference.seriesuids))


def evaluate_scans(
    name: str, context: RunContext, predictions: Sequence[Prediction]
) -> tuple[FrocResult, ...]:
    """Score an arm on CT scans: the listed candidates and, if it searches scans, its own marks.

    Args:
        name: the arm, whose model is saved in the run.
        context: the run.
        predictions: predictions for the test samples.

    Returns:
        One result per track; none for images.
    """
    detection = context.settings.detection
    if not context.target.settings.is_ct:
        return ()
    found = [_score_candidates(name, context, predictions)]
    if detection is not None and name in detection.arms:
        search_scans(name, context, detection)
        found.append(_score_marks(name, context))
    return tuple(found)


def search_scans(name: str, context: RunContext, settings: DetectionSettings) -> None:
    """Search the validation and test scans with an arm, and choose its threshold on validation.

    Only whole scans are searched, no patches around nodules. The result of each scan is saved in
    the run, and a scan with a result is not searched again.

    Args:
        name: the arm; its model directory receives the threshold.
        context: the run.
        settings: how scans are searched, and the false positives per scan at the threshold.
    """
    run, domain = context.run, context.target
    model = load_model(run.model(name), device=context.device)
    scans = domain.scans_for(check_model(model))
    uids = [uid for split in HELD_OUT for uid in domain.whole_scans(split)]
    for done, uid in enumerate(uids, start=1):
        kept = run.result(name, uid)
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, _searched(domain.index.by_id()[uid], scans, model, settings))
        context.progress(f"{name}: searching scans", done, len(uids), "")
    marks = marks_of(read_results(name, context, "val"))
    reference = reference_of(domain, "val", track=WHOLE_SCAN)
    chosen = choose_whole_scan_points(marks, reference, fp_per_scan=settings.fp_per_scan)
    points = {**model.info.operating_points, **chosen}
    save_model(run.model(name), model.network, replace(model.info, operating_points=points))
    run.marks(name).parent.mkdir(parents=True, exist_ok=True)
    write_marks(run.marks(name), marks_of(read_results(name, context, "test")))


def read_results(name: str, context: RunContext, split: str) -> list[CaseResult]:
    """Read the results of an arm for the scans of a part; a scan that was not searched has none."""
    paths = [context.run.result(name, uid) for uid in getattr(context.target.split, split)]
    return [read_json(path, CaseResult) for path in paths if path.is_file()]


def _score_candidates(
    name: str, context: RunContext, predictions: Sequence[Prediction]
) -> FrocResult:
    """Score the listed candidates with their probabilities as marks."""
    marks = _candidate_marks(predictions)
    point = read_info(context.run.model(name)).operating_points[CLASSIFICATION]
    return _froc(marks, context, track=CANDIDATES, threshold=point.threshold)


def _score_marks(name: str, context: RunContext) -> FrocResult:
    """Score the marks of an arm on the test scans; a refused scan has no marks."""
    results = read_results(name, context, "test")
    refused = [f"{r.seriesuid} was not analysed" for r in results if r.status == "not_analysed"]
    point = read_info(context.run.model(name)).operating_points[WHOLE_SCAN]
    found = _froc(marks_of(results), context, track=WHOLE_SCAN, threshold=point.threshold)
    return replace(found, warnings=(*found.warnings, *refused))


def _froc(
    marks: Sequence[Candidate], context: RunContext, *, track: str, threshold: float
) -> FrocResult:
    settings = context.settings.evaluation
    return evaluate_froc(
        marks,
        reference_of(context.target, "test", track=track),
        track=track,
        threshold=threshold,
        bootstrap=settings.bootstrap,
        seed=settings.seed,
    )


def compare_marks(
    pairs: Sequence[tuple[str, str]],
    context: RunContext,
    predictions: Mapping[str, Sequence[Prediction]],
) -> tuple[PairedDifference, ...]:
    """Compare arms by CPM on the test scans, in each track in which both were scored.

    Args:
        pairs: names of (first, second) arms, both finished.
        context: the run.
        predictions: predictions of each arm for the test samples.

    Returns:
        Differences whose p values are not adjusted; none for images.
    """
    if not context.target.settings.is_ct:
        return ()
    settings = context.settings.evaluation
    marks = {name: {CANDIDATES: _candidate_marks(rows)} for name, rows in predictions.items()}
    for name, of_tracks in marks.items():
        if (path := context.run.marks(name)).is_file():
            of_tracks[WHOLE_SCAN] = read_marks(path)
    found = []
    for first, second in pairs:
        for track in (CANDIDATES, WHOLE_SCAN):
            if track not in marks[first] or track not in marks[second]:
                continue
            difference = froc_difference(
                marks[first][track],
                marks[second][track],
                reference_of(context.target, "test", track=track),
                bootstrap=settings.bootstrap,
                seed=settings.seed,
            )
            metric = f"{track}/cpm_interpolated"
            p_value = difference.p_value if settings.bootstrap else None
            found.append(
                PairedDifference(first, second, metric, difference.estimate, p_value=p_value)
            )
    return tuple(found)


def _candidate_marks(predictions: Sequence[Prediction]) -> list[Candidate]:
    return [
        Candidate(row.seriesuid, row.center_mm, row.probabilities[0])
        for row in predictions
        if row.center_mm is not None
    ]


def marks_of(results: Sequence[CaseResult]) -> list[Candidate]:
    """Return all marks of some scans."""
    return [mark for result in results for mark in result.candidates]


def write_worklist(
    context: RunContext, name: str, predictions: Mapping[str, Sequence[Prediction]]
) -> None:
    """Write the list of validation, test and refused cases for the viewer.

    Args:
        context: the run.
        name: the arm whose scores are shown. If this arm searched the scan, the score of the case
            is that of the highest-scoring mark. Otherwise it is the highest probability of the
            scan's candidates or of the image.
        predictions: predictions of that arm, by split.
    """
    run, domain = context.run, context.target
    found = [result for split in HELD_OUT for result in read_results(name, context, split)]
    by_scan = {result.seriesuid: result for result in found}
    highest: dict[str, float] = {}
    for rows in predictions.values():
        for row in rows:
            best = max(row.probabilities)
            highest[row.seriesuid] = max(best, highest.get(row.seriesuid, 0.0))
    cases = domain.index.by_id()
    listed = []
    for split in HELD_OUT:
        for case_id in getattr(domain.split, split):
            case, result = cases[case_id], by_scan.get(case_id)
            score = highest.get(case_id)
            if result is not None:
                score = max((mark.score for mark in result.candidates), default=None)
            listed.append(
                RunCase(
                    case_id=case_id,
                    patient_id=case.patient_id,
                    kind=case.kind,
                    path=_path_words(case.path, run.path),
                    # The row counts from the start of the data set's own part.
                    split=split if case.row is None else case.origin,
                    row=case.row,
                    label=domain.index.labels.get(case_id),
                    score=score,
                    status=result.status if result else "analysed",
                    reasons=result.reasons if result else (),
                )
            )
    refused = [_refused_case(run, domain, case) for case in domain.index.refused]
    write_cases(run.cases, listed + refused)


def _refused_case(run: RunFolder, domain: Domain, case: Case) -> RunCase:
    """Return a refused case as not analysed, without a label: it must not count as negative."""
    index = domain.index.cases[0].path
    return RunCase(
        case_id=case.case_id,
        patient_id=case.patient_id,
        kind=case.kind,
        path=_path_words(index, run.path),
        split="none",
        row=None,
        label=None,
        score=None,
        status="not_analysed",
        reasons=case.reasons,
    )


def _searched(
    case: Case, scans: PreparedScans, model: LoadedModel, settings: DetectionSettings
) -> CaseResult:
    try:
        return search_prepared(scans.get(case), model, settings.search)
    except SeriesError as error:
        reasons = error.reasons or (error.headline,)
        return CaseResult(case.case_id, (), "not_analysed", reasons=reasons)


def _path_words(path: Path, run_path: Path) -> str:
    """Return a case's path: relative if in the run folder (which may be moved), else absolute."""
    inside, home = path.resolve(), run_path.resolve()
    return str(inside.relative_to(home)) if inside.is_relative_to(home) else str(inside)
