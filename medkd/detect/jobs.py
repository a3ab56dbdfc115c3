"""A whole search: find the inputs that fit the model, search or resume, and write the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medkd.detect.batch import Input, input_keys, score_images, search_scans
from medkd.detect.radiographs import check_image_model
from medkd.detect.results import TableFacts, open_results, write_results
from medkd.detect.search import past_of
from medkd.detect.view import DetectSettings, check_model
from medkd.errors import SettingsError
from medkd.index.image_inputs import list_images
from medkd.index.scan_inputs import ScanInput, find_inputs
from medkd.io.dicom.gate import GateSettings
from medkd.io.radiograph.gate import CODES
from medkd.io.synthetic_mark import count_origins
from medkd.jsonio import to_jsonable
from medkd.models.package import CLASSIFICATION, WHOLE_SCAN, LoadedModel
from medkd.provenance import sha256_of_text
from medkd.runs import SearchRecord
from medkd.types import CaseOrigins, CaseResult, OperatingPoint


@dataclass(frozen=True, slots=True, eq=False)
class SearchJob:
    """A search that can be started or resumed.

    `search` yields the results of all inputs that are not among the finished results. `stamps`
    name the generators of synthetic inputs. `left_out` counts files without a case of this kind.
    """

    record: SearchRecord
    keys: tuple[str, ...]
    facts: TableFacts
    search: Callable[[Sequence[CaseResult]], Iterator[CaseResult]]
    point: OperatingPoint | None
    origins: CaseOrigins
    stamps: tuple[str, ...] = ()
    left_out: int = 0


def scan_job(
    inputs: Sequence[Path],
    model: LoadedModel,
    *,
    gate: GateSettings | None = None,
    settings: DetectSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> SearchJob:
    """Prepare the search of CT scans.

    Args:
        inputs: volumes, DICOM folders, folders of them, or an INDEX.
        model: a point detector or a 3-D patch classifier.
        gate: conditions for a DICOM folder to be analysed.
        settings: settings of the search.
        progress: called with the number of files examined so far.

    Raises:
        SettingsError: if the inputs contain no scan.
        CheckpointError: if the model cannot search scans.
    """
    check_model(model)
    try:
        found = find_inputs(inputs, progress=progress)
    except SettingsError as error:
        reason = "this model searches CT scans; X-rays need a model that was trained on X-rays"
        raise SettingsError(error.headline, [*error.reasons, reason]) from error
    job = job_of_scans(found.scans, model, gate=gate, settings=settings)
    return replace(job, left_out=found.left_out)


def job_of_scans(
    scans: Sequence[ScanInput],
    model: LoadedModel,
    *,
    gate: GateSettings | None = None,
    settings: DetectSettings | None = None,
) -> SearchJob:
    """Prepare the search of chosen scans; arguments and errors as in `scan_job`."""
    check_model(model)
    gate, chosen = gate or GateSettings(), settings or DetectSettings()
    point = model.info.operating_points.get(WHOLE_SCAN)
    made_with = {**chosen.model_dump(mode="json"), "gate": gate.model_dump(mode="json")}
    stamps = [scan.generator for scan in scans]
    facts = TableFacts("scan", point.threshold if point else None)
    return SearchJob(
        record=_record(scans, model, made_with, facts),
        keys=tuple(input_keys(scans)),
        facts=facts,
        search=lambda done: search_scans(scans, model, chosen, gate=gate, finished=done),
        point=point,
        origins=count_origins(stamps, kind="scans"),
        stamps=tuple(sorted({stamp for stamp in stamps if stamp})),
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
        search=lambda done: score_images(found.images, model, allow=allow, finished=done),
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

    return write_results(
        out, job.search(finished), facts=job.facts, finished=finished, progress=report
    )


def _record(
    inputs: Sequence[Input], model: LoadedModel, settings: dict[str, object], facts: TableFacts
) -> SearchRecord:
    return SearchRecord(
        kind=facts.kind,
        model=sha256_of_text(json.dumps(to_jsonable(model.info), sort_keys=True)),
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
