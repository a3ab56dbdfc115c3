"""A whole search: find the inputs that fit the model, search or resume, and write the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from medkd.detect.batch import Input, input_keys, score_images, search_scans
from medkd.detect.page import PageFacts
from medkd.detect.radiographs import check_image_model
from medkd.detect.results import TableFacts, open_results, write_results
from medkd.detect.search import past_of
from medkd.detect.second_look import load_second
from medkd.detect.view import DetectSettings, check_model
from medkd.errors import SettingsError
from medkd.index.image_inputs import list_images
from medkd.index.scan_inputs import ScanInput, find_inputs
from medkd.io.dicom.gate import GateSettings
from medkd.io.radiograph.gate import CODES
from medkd.io.synthetic_mark import count_origins
from medkd.jsonio import to_jsonable
from medkd.models.package import (
    CLASSIFICATION,
    FP_PER_SCAN,
    WHOLE_SCAN,
    LoadedModel,
    ModelInfo,
    whole_scan_point,
)
from medkd.provenance import origin_words, sha256_of_text
from medkd.runs import ResultsFolder, SearchRecord
from medkd.types import CaseOrigins, CaseResult, OperatingPoint


@dataclass(frozen=True, slots=True, eq=False)
class SearchJob:
    """A search that can be started or resumed.

    `search` yields the results of all inputs that are not among the finished results, and writes
    thumbnails of scans into a folder. `stamps` name the generators of synthetic inputs. `left_out`
    counts files without a case of this kind. `page` is None for radiographs: they have no page.
    """

    record: SearchRecord
    keys: tuple[str, ...]
    facts: TableFacts
    search: Callable[[Sequence[CaseResult], Path], Generator[CaseResult, None, None]]
    point: OperatingPoint | None
    origins: CaseOrigins
    stamps: tuple[str, ...] = ()
    left_out: int = 0
    page: PageFacts | None = None


def scan_job(
    inputs: Sequence[Path],
    model: LoadedModel,
    *,
    gate: GateSettings | None = None,
    settings: DetectSettings | None = None,
    fp_per_scan: float | None = None,
    workers: int | Executor = 1,
    progress: Callable[[int], None] | None = None,
) -> SearchJob:
    """Prepare the search of CT scans.

    Args:
        inputs: volumes, DICOM folders, folders of them, or an INDEX.
        model: a point detector or a 3-D patch classifier.
        gate: conditions for a DICOM folder to be analysed.
        settings: settings of the search.
        fp_per_scan: false positives per scan of the frozen threshold; None: the default one.
        workers: processes, or an executor, as in `search_scans`.
        progress: called with the number of files examined so far.

    Raises:
        SettingsError: if the inputs contain no scan, or the model has no such threshold.
        CheckpointError: if the model cannot search scans, or the other one take a second look.
    """
    check_model(model)
    _point_of(model, fp_per_scan, settings or DetectSettings())
    try:
        found = find_inputs(inputs, progress=progress)
    except SettingsError as error:
        reason = "this model searches CT scans; X-rays need a model that was trained on X-rays"
        raise SettingsError(error.headline, [*error.reasons, reason]) from error
    job = job_of_scans(
        found.scans, model, gate=gate, settings=settings, fp_per_scan=fp_per_scan, workers=workers
    )
    return replace(job, left_out=found.left_out)


def job_of_scans(
    scans: Sequence[ScanInput],
    model: LoadedModel,
    *,
    gate: GateSettings | None = None,
    settings: DetectSettings | None = None,
    fp_per_scan: float | None = None,
    workers: int | Executor = 1,
) -> SearchJob:
    """Prepare the search of chosen scans; arguments and errors as in `scan_job`."""
    check_model(model)
    gate, chosen = gate or GateSettings(), settings or DetectSettings()
    point = _point_of(model, fp_per_scan, chosen)
    made_with = {**chosen.model_dump(mode="json"), "gate": gate.model_dump(mode="json")}
    if second := _second_of(model, chosen):
        made_with["second_look"] = second.info.weights_sha256
    stamps = [scan.generator for scan in scans]
    facts = TableFacts("scan", point.threshold if point else None)
    return SearchJob(
        record=_record(scans, model, made_with, facts),
        keys=tuple(input_keys(scans)),
        facts=facts,
        search=lambda done, thumbnails: search_scans(
            scans, model, chosen, gate=gate, finished=done, workers=workers, thumbnails=thumbnails
        ),
        point=point,
        origins=(origins := count_origins(stamps, kind="scans")),
        stamps=tuple(sorted({stamp for stamp in stamps if stamp})),
        page=page_facts(model.info, point, origins),
    )


def image_job(
    inputs: Sequence[Path],
    model: LoadedModel,
    *,
    allow: Collection[str] = (),
    progress: Callable[[int], None] | None = None,
) -> SearchJob:
    """Prepare the scoring of radiographs.

    Args:
        inputs: PNG, JPEG or DICOM files, folders of them, or an INDEX.
        model: a 2-D classifier of radiographs.
        allow: codes of `io.radiograph.gate.CODES` to accept.
        progress: called with the number of files examined so far.

    Raises:
        SettingsError: if the inputs contain no picture, or a code cannot be accepted.
        CheckpointError: if the model cannot score radiographs.
    """
    check_image_model(model)
    _check_codes(allow)
    found = list_images(inputs, progress=progress)
    point = model.info.operating_points.get(CLASSIFICATION)
    facts = TableFacts("image", point.threshold if point else None, model.info.label_names)
    return SearchJob(
        record=_record(found.images, model, {"allow": sorted(allow)}, facts),
        keys=tuple(input_keys(found.images)),
        facts=facts,
        search=lambda done, _: score_images(found.images, model, allow=allow, finished=done),
        point=point,
        origins=count_origins([""] * len(found.images), kind="images"),
        left_out=found.left_out,
    )


def run_job(
    job: SearchJob,
    out: Path,
    *,
    resume: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> list[CaseResult]:
    """Run a search and write its results case by case.

    Args:
        job: of `scan_job` or `image_job`.
        out: a new or empty folder; with `resume` also the folder of the same search.
        resume: resume the search in this folder.
        progress: called with (cases done, total, cases not analysed) after each case.

    Returns:
        The results of all inputs, those of an earlier call first.

    Raises:
        SettingsError: if the folder holds something else (see `open_results`).
    """
    there = open_results(out, job.record, resume=resume)
    finished = [there[key] for key in job.keys if key in there]

    def report(done: list[CaseResult]) -> None:
        if progress is not None:
            refused = sum(result.status == "not_analysed" for result in done)
            progress(len(done), len(job.keys), refused)

    with closing(job.search(finished, ResultsFolder(out).thumbnails)) as results:
        return write_results(
            out, results, facts=job.facts, finished=finished, page=job.page, progress=report
        )


def frozen_point(info: ModelInfo, fp_per_scan: float | None) -> OperatingPoint | None:
    """Return a threshold for marks on whole scans that was frozen in the model.

    Args:
        info: the model.
        fp_per_scan: false positives per scan on the split that chose it; None: the default
            threshold, or None if the model has none.

    Raises:
        SettingsError: if the model has no threshold for this number; it lists those it has.
    """
    if fp_per_scan is None:
        return info.operating_points.get(WHOLE_SCAN)
    name = whole_scan_point(fp_per_scan)
    if name in info.operating_points:
        return info.operating_points[name]
    known = [f"{rate:g}" for rate in FP_PER_SCAN if whole_scan_point(rate) in info.operating_points]
    raise SettingsError(
        f"the model {info.kind!r} has no threshold for {fp_per_scan:g} false positives per scan",
        [f"--fp-per-scan: expected one of {', '.join(known)}" if known else
         "--fp-per-scan: this model has no such thresholds; leave the option out"],
    )  # fmt: skip


def _second_of(model: LoadedModel, settings: DetectSettings) -> LoadedModel | None:
    """Return the model of the second look, if there is one; it is loaded once."""
    if not settings.second_look:
        return None
    return load_second(settings.second_look, next(model.network.parameters()).device)


def _point_of(
    model: LoadedModel, fp_per_scan: float | None, settings: DetectSettings
) -> OperatingPoint | None:
    """Return the frozen threshold; None with a second look, without which it was chosen."""
    if _second_of(model, settings) is None:
        return frozen_point(model.info, fp_per_scan)
    if fp_per_scan is not None:
        reason = "leave one of them out: the thresholds were chosen without a second look"
        raise SettingsError("--fp-per-scan and --second-look cannot be combined", [reason])
    return None


def page_facts(info: ModelInfo, point: OperatingPoint | None, origins: CaseOrigins) -> PageFacts:
    """Return what the page of scans says about model, threshold and origin of the scans."""
    past = past_of(info)
    model = (
        f"Model: {info.kind}, {info.parameters:,} parameters, sha256 of its weights "
        f"{info.weights_sha256[:12] or 'not recorded'}, trained on {info.trained_on}."
    )
    warnings = [f"The model was {past[0]}."] if past else []
    if origins.synthetic:
        warnings.append(f"These scans are not all from patients: {origin_words(origins)}.")
    threshold = point.threshold if point else None
    return PageFacts(model, threshold_words(point), threshold, tuple(warnings), past)


def threshold_words(point: OperatingPoint | None) -> str:
    """Return a sentence on the threshold of a search.

    Example:
        >>> threshold_words(OperatingPoint(0.31, "fp_per_scan", fp_per_scan=1.98))
        'Threshold: 0.31, chosen on validation (there 1.98 false positives per scan).'
    """
    if point is None:
        return "Threshold: none. This model has no stored threshold, so no mark is flagged."
    rates = []
    if point.fp_per_scan is not None:
        rates.append(f"{point.fp_per_scan:.3g} false positives per scan")
    if point.sensitivity is not None:
        rates.append(f"sensitivity {point.sensitivity:.2f}")
    there = f" (there {', '.join(rates)})" if rates else ""
    return f"Threshold: {point.threshold:.3g}, chosen on {point.chosen_on}{there}."


def hash_of_model(info: ModelInfo) -> str:
    """Return the sha256 by which the record of a search names its model."""
    return sha256_of_text(json.dumps(to_jsonable(info), sort_keys=True))


def _record(
    inputs: Sequence[Input], model: LoadedModel, settings: dict[str, object], facts: TableFacts
) -> SearchRecord:
    return SearchRecord(
        kind=facts.kind,
        model=hash_of_model(model.info),
        inputs=sha256_of_text(json.dumps(input_keys(inputs))),
        cases=len(inputs),
        settings=settings,
        threshold=facts.threshold,
        labels=facts.labels,
        notes=past_of(model.info),
    )


def _check_codes(allow: Collection[str]) -> None:
    allowable = sorted(code for code, (_, may_pass) in CODES.items() if may_pass)
    if wrong := sorted(set(allow) - set(allowable)):
        raise SettingsError(
            "faults of radiographs that cannot be allowed",
            [f"cannot be allowed: {', '.join(wrong)}; these can: {', '.join(allowable)}"],
        )
