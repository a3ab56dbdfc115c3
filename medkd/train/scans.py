"""What a run says of whole CT scans: reference, marks, FROC of both tracks, the worklist.

Two tracks, never mixed: "candidates" scores the places that the set lists; "whole-scan" are the
places that an arm finds by itself. Thresholds of both come from validation scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medkd.config.run_settings import DetectionSettings, EvaluationSettings
from medkd.data.cases import read_scan_of
from medkd.detect import detect_nodules
from medkd.errors import SeriesError
from medkd.evaluate.froc import choose_froc_operating_point, evaluate_froc
from medkd.index.case import Case
from medkd.io.luna16_tables import write_annotations, write_marks, write_seriesuids
from medkd.jsonio import read_json, write_json
from medkd.models.package import LoadedModel, load_model, save_model
from medkd.runs import RunFolder, write_cases
from medkd.train.arms import CLASSIFICATION, FinishedArm
from medkd.train.domains import HELD_OUT, Domain
from medkd.train.logs import Progress
from medkd.types import Candidate, CaseResult, FrocResult, Reference, RunCase

CANDIDATES = "candidates"
WHOLE_SCAN = "whole-scan"


def reference_of(domain: Domain, part: str) -> Reference:
    """Return the reference standard of the scans of one part."""
    cases = domain.index.by_id()
    chosen = getattr(domain.split, part)
    patients = {uid: cases[uid].patient_id for uid in chosen}
    named = any(uid != patient for uid, patient in patients.items())
    return Reference(
        nodules=tuple(n for n in domain.index.nodules if n.seriesuid in patients),
        excluded=tuple(n for n in domain.index.excluded if n.seriesuid in patients),
        seriesuids=tuple(chosen),
        patients=patients if named else {},
    )


def write_reference(run: RunFolder, reference: Reference) -> None:
    """Write the reference standard of the test scans in LUNA16's files."""
    run.reference.mkdir(parents=True, exist_ok=True)
    write_annotations(run.reference / "annotations.csv", list(reference.nodules))
    write_annotations(run.reference / "annotations_excluded.csv", list(reference.excluded))
    write_seriesuids(run.reference / "seriesuids.csv", list(reference.seriesuids))


def score_candidates(
    arm: FinishedArm, reference: Reference, settings: EvaluationSettings
) -> FrocResult:
    """Score an arm's probabilities of the listed candidates as marks."""
    marks = [
        Candidate(row.seriesuid, row.center_mm, row.probability)
        for row in arm.predictions["test"]
        if row.center_mm is not None
    ]
    return evaluate_froc(
        marks,
        reference,
        track=CANDIDATES,
        threshold=arm.info.operating_points[CLASSIFICATION].threshold,
        bootstrap=settings.bootstrap,
        seed=settings.seed,
    )


def search_scans(
    name: str, run: RunFolder, domain: Domain, *, settings: DetectionSettings, progress: Progress
) -> dict[str, list[CaseResult]]:
    """Let an arm search the validation and test scans; scans that were searched are not again.

    Freezes the whole-scan threshold on validation in the model directory.

    Args:
        name: of the arm.
        run: holds its model; takes its results and marks.
        domain: whose scans.
        settings: how, and how many false marks a scan are allowed.
        progress: told after every scan.

    Returns:
        Results by split.
    """
    model = load_model(run.model(name))
    uids = {split: getattr(domain.split, split) for split in HELD_OUT}
    total, done = sum(map(len, uids.values())), 0
    results: dict[str, list[CaseResult]] = {split: [] for split in HELD_OUT}
    for split in HELD_OUT:
        for uid in uids[split]:
            results[split].append(_searched(uid, name, run, domain, model, settings))
            done += 1
            progress(f"{name}: searching scans", done, total, "")
    reference = reference_of(domain, "val")
    point = choose_froc_operating_point(
        marks_of(results["val"]), reference, fp_per_scan=settings.fp_per_scan
    )
    points = {**model.info.operating_points, WHOLE_SCAN: point}
    save_model(run.model(name), model.network, replace(model.info, operating_points=points))
    run.marks(name).parent.mkdir(parents=True, exist_ok=True)
    write_marks(run.marks(name), marks_of(results["test"]))
    return results


def score_marks(
    name: str,
    run: RunFolder,
    domain: Domain,
    results: Sequence[CaseResult],
    *,
    settings: EvaluationSettings,
) -> FrocResult:
    """Score an arm's own marks on the test scans; a scan that was refused has none."""
    refused = [f"{r.seriesuid} was not analysed" for r in results if r.status == "not_analysed"]
    found = evaluate_froc(
        marks_of(results),
        reference_of(domain, "test"),
        track=WHOLE_SCAN,
        threshold=load_model(run.model(name)).info.operating_points[WHOLE_SCAN].threshold,
        bootstrap=settings.bootstrap,
        seed=settings.seed,
    )
    return replace(found, warnings=(*found.warnings, *refused))


def marks_of(results: Sequence[CaseResult]) -> list[Candidate]:
    """Return every mark of some scans."""
    return [mark for result in results for mark in result.candidates]


def write_worklist(
    run: RunFolder, domain: Domain, *, student: FinishedArm, results: Sequence[CaseResult]
) -> None:
    """Write the validation and test cases, and what was refused, for the viewer.

    Args:
        run: where `cases.csv` goes.
        domain: the cases.
        student: its probabilities of candidates or images are the scores.
        results: of the student's whole-scan search, which goes before; empty: none.
    """
    by_scan = {result.seriesuid: result for result in results}
    highest: dict[str, float] = {}
    for rows in student.predictions.values():
        for row in rows:
            highest[row.seriesuid] = max(row.probability, highest.get(row.seriesuid, 0.0))
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
                    # A row is counted in the set's own part of that name.
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
    """List a case of the archive that no arm saw, so that nobody takes it for a negative one."""
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
    uid: str,
    name: str,
    run: RunFolder,
    domain: Domain,
    model: LoadedModel,
    settings: DetectionSettings,
) -> CaseResult:
    kept = run.result(name, uid)
    if kept.is_file():
        return read_json(kept, CaseResult)
    case = domain.index.by_id()[uid]
    try:
        result = detect_nodules(read_scan_of(case), model, settings.search)
    except SeriesError as error:
        result = CaseResult(uid, (), "not_analysed", reasons=error.reasons or (error.headline,))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, result)
    return result


def _path_words(path: Path, run_path: Path) -> str:
    """Say where a case stands: relative if inside the run, so that the run can be moved."""
    inside, home = path.resolve(), run_path.resolve()
    return str(inside.relative_to(home)) if inside.is_relative_to(home) else str(inside)
