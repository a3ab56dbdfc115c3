"""Detection over an INDEX: its case ids, its refusals, and the score that its labels allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medkd.detect.batch import search_scans
from medkd.detect.scan_level import score_scan_level
from medkd.index.case import Case
from medkd.index.scan_inputs import find_inputs
from medkd.index.table import ArchiveIndex, CaseLabel
from medkd.types import Candidate, CaseResult, Nodule
from tests.data.archives import write_scan_archive
from tests.test_detect import ball_model


def test_scans_of_an_index_keep_their_ids_and_refused_ones_their_reasons(tmp_path: Path) -> None:
    inputs = find_inputs([write_scan_archive(tmp_path, scans=1)]).scans
    results = {r.seriesuid: r for r in search_scans(inputs, ball_model())}
    assert list(results) == ["s0", "s1", "s2"]
    assert results["s0"].status == "analysed"
    assert results["s1"].status == "not_analysed"
    assert results["s1"].reasons == ("missing_slices: after position -120.0 mm",)
    assert all(given.synthetic for given in inputs)


def archive(labels: dict[str, int | None], **nodules: int) -> ArchiveIndex:
    names = ["a", "b", "c", "d", "e"]
    cases = tuple(Case(n, f"p{n}", "scan", "ready") for n in names)
    places = tuple(Nodule(n, (0.0, 0.0, 0.0), 5.0) for n in nodules)
    rows = tuple(CaseLabel(n, "Nodule", v) for n, v in labels.items())  # type: ignore[arg-type]
    return ArchiveIndex(cases, places, rows)


def result(name: str, *scores: float) -> CaseResult:
    marks = tuple(Candidate(name, (0.0, 0.0, 0.0), score) for score in scores)
    return CaseResult(name, marks, "analysed")


def test_the_highest_mark_ranks_scans_and_what_is_unknown_or_refused_does_not_count() -> None:
    results = [
        result("a", 0.2, 0.9), result("b", 0.4), result("c"), result("d", 0.5, 0.1),
        CaseResult("e", (), "not_analysed"),
    ]  # fmt: skip
    # Positive a (.9), b (.4); negative c (no mark: 0); d unknown, e not analysed.
    found = score_scan_level(results, archive({"b": 1, "c": 0, "d": None, "e": 0}, a=1))
    assert found is not None
    assert (found.roc_auc.value, found.scans, found.positives) == (1.0, 3, 2)
    assert (found.unknown, found.not_analysed) == (1, 1)
    # With d negative at .5, b (.4) loses one of its two pairs: 3 of 4.
    found = score_scan_level(results, archive({"b": 1, "c": 0, "d": 0}, a=1), bootstrap=0)
    assert found is not None
    assert found.roc_auc.value == pytest.approx(0.75)


def test_without_both_classes_there_is_no_score() -> None:
    results = [result("a", 0.9), result("b", 0.1)]
    assert score_scan_level(results, archive({"a": 1})) is None
    assert score_scan_level(results, replace(archive({}), labels=())) is None
