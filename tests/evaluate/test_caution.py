"""Numbers on few cases carry their caution, whatever the number is."""

from __future__ import annotations

import pytest

from medkd.detect.scan_level import score_scan_level
from medkd.evaluate.caution import classification_caution, few_cases_warning, sentence
from medkd.evaluate.classification import evaluate_classification
from medkd.evaluate.froc import evaluate_froc
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel
from medkd.types import CaseResult, Nodule, OperatingPoint, Reference


def reference(*, scans: int, nodules: int) -> Reference:
    uids = tuple(f"s{n}" for n in range(scans))
    found = tuple(Nodule(uids[n % scans], (20.0 * n, 0.0, 0.0), 8.0) for n in range(nodules))
    return Reference(found, (), uids)


@pytest.mark.parametrize(
    ("scans", "nodules", "expected"),
    [
        (30, 7, ["7 nodules"]),
        (3, 25, ["3 scans"]),
        (1, 1, ["1 nodule,", "1 scan)"]),
        (10, 20, []),
    ],
)
def test_a_froc_of_few_nodules_or_scans_says_so(
    scans: int, nodules: int, expected: list[str]
) -> None:
    result = evaluate_froc([], reference(scans=scans, nodules=nodules), track="x", bootstrap=0)
    said = [w for w in result.warnings if w.startswith("few cases")]
    assert len(said) == bool(expected)
    assert all(part in said[0] for part in expected)


def scores(*, positives: int, negatives: int, patients: int):
    labels = [1] * positives + [0] * negatives
    probabilities = [0.9] * positives + [0.1] * negatives
    names = [f"p{n % patients}" for n in range(len(labels))]
    return evaluate_classification(
        labels, probabilities, names, operating_point=OperatingPoint(0.5, "half"), split="test",
        bootstrap=0, seed=0,
    )  # fmt: skip


def test_scores_of_few_positives_negatives_or_patients_say_so() -> None:
    assert classification_caution(scores(positives=20, negatives=20, patients=10)) == ""
    assert "7 positive samples" in classification_caution(
        scores(positives=7, negatives=90, patients=40)
    )
    assert "1 negative sample" in classification_caution(
        scores(positives=90, negatives=1, patients=40)
    )
    assert "9 patients" in classification_caution(scores(positives=50, negatives=50, patients=9))


def test_a_score_of_whole_scans_says_so() -> None:
    cases = tuple(Case(n, f"p{n}", "scan", "ready") for n in "ab")
    labels = (CaseLabel("a", "Nodule", 1), CaseLabel("b", "Nodule", 0))
    results = [CaseResult(n, (), "analysed") for n in "ab"]
    found = score_scan_level(results, ArchiveIndex(cases, (), labels), bootstrap=0)
    assert found is not None
    assert "1 scan with a nodule" in found.caution


def test_enough_cases_need_no_words() -> None:
    assert few_cases_warning([(20, "nodules")], [(10, "scans")]) == sentence("") == ""
    assert sentence("few cases") == "Few cases."
