"""Run an acceptance test scan by scan, and write its result."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from medkd.acceptance.results import Acceptance, AcceptanceSettings, ScoredScan
from medkd.acceptance.score import score_nodules, score_points
from medkd.data.archive_cases import known_scan_labels
from medkd.data.archive_reference import LABEL
from medkd.detect import detect_nodules
from medkd.detect.one_case import attempt
from medkd.detect.view import check_model
from medkd.errors import CheckpointError, SeriesError, SettingsError
from medkd.evaluate.caution import few_cases_warning
from medkd.evaluate.matching import match_marks
from medkd.index.case import Case
from medkd.index.case_store import open_scan
from medkd.index.table import ArchiveIndex, read_index
from medkd.io.synthetic_mark import is_implant
from medkd.io.tables import write_table
from medkd.jsonio import read_json, to_jsonable, write_json
from medkd.models.package import WHOLE_SCAN, LoadedModel, ModelInfo
from medkd.provenance import finish_record, sha256_of_text, start_record, synthetic_words
from medkd.synthetic.implant.kept import KeptScan, Views, views_of
from medkd.synthetic.implant.make import VERSION, ImplantedScan, implant_scan
from medkd.synthetic.implant.write import scan_row
from medkd.types import Candidate, OperatingPoint, Reference, RunRecord, Scan
from medkd.unfinished import Unfinished, unfinished

Progress = Callable[[int, int, int], None]
"""Called with (scans done, all scans, scans that were not analysed)."""

Finish = Callable[[Path, Acceptance, Sequence[Views]], None]


def run_acceptance(
    out: Path,
    index: Path,
    model: LoadedModel,
    settings: AcceptanceSettings,
    *,
    finish: Finish | None = None,
    progress: Progress | None = None,
) -> Acceptance:
    """Test a model on the scans of an INDEX and write the whole result, or nothing.

    If it is stopped or killed, the same call continues after the last finished scan.

    Args:
        out: a folder that does not exist or is empty.
        index: index.csv with the site's scans.
        model: a model that searches scans, with at least one operating point for them.
        settings: number of scans, nodules, search.
        finish: writes the page into the folder before it gets its final name; it receives the
            pictures of all nodules in the order of `Acceptance.nodules`.
        progress: called after each scan.

    Raises:
        SettingsError: if `out` is not empty or the INDEX has no scan that is ready.
        CheckpointError: if the model cannot search scans or has no threshold for them.
        SeriesError: if no scan could be tested, with every reason.
    """
    started = time.perf_counter()
    points = whole_scan_points(model)
    archive = read_index(index)
    ready = [c for c in archive.cases if c.kind == "scan" and c.status == "ready"]
    _check(out, index, ready)
    chosen = choose_scans(ready, settings.scans, seed=settings.seed)
    facts = json.dumps(to_jsonable(model.info), sort_keys=True)
    purpose = [VERSION, settings.model_dump_json(), sha256_of_text(facts), archive.fingerprint]
    annotated = frozenset(known_scan_labels(archive, [LABEL]))
    site = _Site(index, archive, model, settings, annotated)
    with unfinished(out, "\n".join(purpose)) as made:
        scans: list[ScoredScan] = []
        for case in chosen:
            scans.append(_tested(site, case, made))
            if progress is not None:
                progress(len(scans), len(chosen), sum(not scan.analysed for scan in scans))
        _refuse_if_none(scans)
        result = Acceptance(
            model=f"{model.info.kind}, weights {model.info.weights_sha256[:12]}",
            settings=settings.model_dump(mode="json"),
            ready=len(ready),
            scans=tuple(scans),
            points=tuple(score_points(scans, points, seed=settings.seed)),
            cautions=tuple(filter(None, _cautions(scans, chosen, model.info))),
            record=_record(site, seconds=time.perf_counter() - started),
        )
        _write(made, result, finish)
    return result


def _write(made: Unfinished, result: Acceptance, finish: Finish | None) -> None:
    write_json(made.folder / "acceptance.json", result)
    _write_nodules(made.folder / "nodules.csv", result)
    if finish is not None:
        with_nodules = [scan.case_id for scan in result.scans if scan.nodules]
        views = [view for name in with_nodules for view in _kept(made, name).views()]
        finish(made.folder, result, views)


def whole_scan_points(model: LoadedModel) -> dict[str, OperatingPoint]:
    """Return the thresholds of a model for marks on whole scans, by name.

    Raises:
        CheckpointError: if it cannot search scans or has no such threshold.
    """
    check_model(model)
    points = {
        name: point
        for name, point in model.info.operating_points.items()
        if name.partition("@")[0] == WHOLE_SCAN
    }
    if not points:
        reasons = [
            f"expected a threshold named {WHOLE_SCAN}, got "
            f"{', '.join(model.info.operating_points) or 'none'}",
            "medkd calibrate MODEL INDEX --out NEWMODEL chooses it on annotated scans",
        ]
        raise CheckpointError("the model has no threshold for whole scans", reasons)
    return points


def choose_scans(ready: Sequence[Case], count: int, *, seed: int) -> list[Case]:
    """Choose at most so many scans at random, of as many patients as possible."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, Case]] = []
    for number in np.random.default_rng(seed).permutation(len(ready)).tolist():
        case = ready[number]
        turns.append((seen[case.patient_id], case))
        seen[case.patient_id] += 1
    first = sorted(turns, key=lambda turn: turn[0])[:count]
    return sorted((case for _, case in first), key=lambda case: case.case_id)


@dataclass(frozen=True, slots=True, eq=False)
class _Site:
    """What every scan is tested with."""

    index: Path
    archive: ArchiveIndex
    model: LoadedModel
    settings: AcceptanceSettings
    annotated: frozenset[str]

    def search(self, scan: Scan) -> tuple[Candidate, ...]:
        """Return the marks of a scan.

        Raises:
            SeriesError: if it is not analysed.
        """
        result = detect_nodules(scan, self.model, self.settings.search)
        if result.status == "not_analysed":
            raise SeriesError(f"{scan.seriesuid}: not analysed", result.reasons)
        return result.candidates

    def reference(self, case_id: str) -> Reference:
        """Return the annotated findings of a scan, of which there may be none."""
        mine = [n for n in self.archive.nodules if n.seriesuid == case_id]
        included, excluded = (
            tuple(n for n in mine if n.counts_as == kind) for kind in ("included", "excluded")
        )
        return Reference(included, excluded, (case_id,))


def _tested(site: _Site, case: Case, made: Unfinished) -> ScoredScan:
    """Test a scan, or read its result if an earlier run tested it completely."""
    done = made.kept(f"{_key(case.case_id)}-scored.json")
    if done.is_file() and not (kept := read_json(done, ScoredScan)).reasons:
        return kept
    scored = _test_scan(site, case, made)
    write_json(done, scored)
    return scored


def _test_scan(site: _Site, case: Case, made: Unfinished) -> ScoredScan:
    """Search a scan without and with nodules; no fault of one scan ends the test."""
    name, patient = case.case_id, case.patient_id
    found = attempt(partial(_search_unchanged, site, name))
    if isinstance(found, SeriesError):
        return ScoredScan(name, patient, analysed=False, reasons=found.reasons)
    scan, before = found
    matching = match_marks(before, site.reference(name))
    false = sorted(matching.scores[~matching.is_nodule].tolist(), reverse=True)
    searched = ScoredScan(
        name, patient, analysed=True, annotated=name in site.annotated, false_scores=tuple(false)
    )
    changed = attempt(partial(_search_changed, site, scan))
    if isinstance(changed, SeriesError):
        return replace(searched, reasons=changed.reasons)
    implanted, after = changed
    row = scan_row(implanted, seriesuid=name, form="memory")
    _kept(made, name).write(row, views_of(implanted, row))
    return replace(searched, nodules=score_nodules(row, before=before, after=after))


def _search_unchanged(site: _Site, case_id: str) -> tuple[Scan, tuple[Candidate, ...]]:
    scan = open_scan(site.index, case_id)
    return scan, site.search(scan)


def _search_changed(site: _Site, scan: Scan) -> tuple[ImplantedScan, tuple[Candidate, ...]]:
    implanted = implant_scan(scan, site.settings.implants)
    return implanted, site.search(implanted.scan)


def _kept(made: Unfinished, case_id: str) -> KeptScan:
    """Return the place of the nodules of a scan and their pictures."""
    return KeptScan(made.kept(_key(case_id)))


def _key(case_id: str) -> str:
    return sha256_of_text(case_id)[:24]


def _cautions(
    scans: Sequence[ScoredScan], chosen: Sequence[Case], info: ModelInfo
) -> Iterator[str]:
    analysed = [scan for scan in scans if scan.analysed]
    nodules = sum(len(scan.nodules) for scan in scans)
    patients = len({scan.patient_id for scan in analysed})
    yield few_cases_warning([(nodules, "nodules")], [(patients, "patients")])
    if words := synthetic_words(info.origins, synthetic=info.trained_on_synthetic):
        yield f"the model was {words}"
    if any(is_implant(stamp) for stamp in info.generators):
        yield (
            "the generator of these nodules also made nodules from which the model, or its "
            "teacher, learned: its sensitivity here may be too high"
        )
    if synthetic := sum(case.synthetic for case in chosen):
        yield f"{synthetic} of the {len(chosen)} scans are synthetic themselves"


def _record(site: _Site, *, seconds: float) -> RunRecord:
    info, settings = site.model.info, site.settings
    started = start_record(
        settings.model_dump_json(),
        seed=settings.seed,
        device=str(next(site.model.network.parameters()).device),
        deterministic=False,
        command="medkd accept",
    )
    return finish_record(
        started,
        seconds=seconds,
        data_fingerprints={"index": site.archive.fingerprint},
        weights_sha256={"model": info.weights_sha256},
    )


def _check(out: Path, index: Path, ready: Sequence[Case]) -> None:
    reasons = []
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        reasons.append(f"{out} is not empty: name a new folder with --out, or remove it first")
    if not ready:
        reasons.append(f"{index} has no scan that can be used: medkd check lists its content")
    if reasons:
        raise SettingsError("the acceptance test cannot start", reasons)


def _refuse_if_none(scans: Sequence[ScoredScan]) -> None:
    if not any(scan.analysed for scan in scans):
        reasons = [f"{scan.case_id}: {'; '.join(scan.reasons)}" for scan in scans]
        raise SeriesError("no scan could be tested", reasons)


_COLUMNS = (
    "case", "coordX", "coordY", "coordZ", "diameter_mm", "texture", "outline", "attachment",
    "contrast_hu", "probability", "probability_before",
)  # fmt: skip


def _write_nodules(path: Path, result: Acceptance) -> None:
    rows = [
        (
            scan.case_id, *n.nodule.center_mm, n.nodule.diameter_mm, n.nodule.texture,
            n.nodule.outline, n.nodule.attachment, n.nodule.contrast_hu, n.score, n.score_before,
        )
        for scan, n in result.nodules
    ]  # fmt: skip
    write_table(path, _COLUMNS, rows)
