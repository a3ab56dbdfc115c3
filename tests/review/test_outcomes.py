"""How the marks of a scan compare with its reference standard."""

import pytest

from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.io.luna16_tables import write_annotations, write_seriesuids
from medkd.jsonio import write_json
from medkd.review.cases import number_marks
from medkd.review.opened import open_review
from medkd.review.outcomes import judge_marks, read_findings
from medkd.runs import ResultsFolder, SearchRecord
from medkd.types import Candidate, Nodule
from tests.viewer import factory

NODULE = Nodule("s", (0.0, 0.0, 0.0), 10.0)
EXCLUDED = Nodule("s", (50.0, 0.0, 0.0), 10.0, "excluded")


def judge(*places, findings=(NODULE, EXCLUDED)):
    marks = number_marks(Candidate("s", place, 0.5) for place in places)
    outcomes = judge_marks(marks, findings)
    return [outcomes.marks[mark.mark_id] for mark in marks], outcomes.findings


@pytest.mark.parametrize(
    ("x_mm", "outcome", "found"),
    # A hit is strictly closer than the radius of 5 mm.
    [(4.9, "hit", "found"), (5.0, "false", "missed"), (52.0, "ignored", "missed"),
     (30.0, "false", "missed")],
)  # fmt: skip
def test_a_mark_is_judged_by_the_sphere_it_lies_in(x_mm, outcome, found):
    assert judge((x_mm, 0.0, 0.0)) == ([outcome], (found, ""))


def test_a_mark_inside_a_nodule_and_an_excluded_finding_is_a_hit():
    over = Nodule("s", (3.0, 0.0, 0.0), 20.0, "excluded")
    assert judge((1.0, 0.0, 0.0), findings=(NODULE, over)) == (["hit"], ("found", ""))


def test_without_marks_every_nodule_is_missed_and_without_nodules_every_mark_is_false():
    assert judge() == ([], ("missed", ""))
    assert judge((1.0, 2.0, 3.0), findings=()) == (["false"], ())


def test_the_reference_of_a_run_covers_the_scans_that_it_lists(tmp_path):
    run = factory.write_bare_run(tmp_path, factory.build_cases())
    assert read_findings(open_review(tmp_path)) == {}
    other = Nodule("unlisted", (0.0, 0.0, 0.0), 5.0)
    write_annotations(run.reference / "annotations.csv", [NODULE, other])
    write_annotations(run.reference / "annotations_excluded.csv", [EXCLUDED])
    write_seriesuids(run.reference / "seriesuids.csv", ["s", "free"])
    found = read_findings(open_review(tmp_path))
    assert {name: [n.counts_as for n in nodules] for name, nodules in found.items()} == {
        "s": ["included", "excluded"],
        "free": [],
    }


def test_scans_of_an_index_without_a_complete_reference_have_none(tmp_path):
    scans = tuple(Case(name, "p", "scan", "ready") for name in ("s", "free", "unread"))
    index = tmp_path / "index.csv"
    write_index(
        index, ArchiveIndex(scans, nodules=(NODULE,), labels=(CaseLabel("free", "nodule", 0),))
    )
    write_json(ResultsFolder(tmp_path / "out").record, SearchRecord("scan", "m", "i", 1))
    assert set(read_findings(open_review(index))) == {"s", "free"}
    assert set(read_findings(open_review(tmp_path / "out", index=index))) == {"s", "free"}
    assert read_findings(open_review(tmp_path / "out")) == {}
