"""What an INDEX says of its cases to a reader."""

from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel
from medkd.review.index_cases import index_cases, nodule_facts, synthetic_words
from medkd.types import Nodule

SCANS = tuple(Case(f"s{n}", f"p{n}", "scan", "ready") for n in range(5))


def test_a_scan_that_nobody_annotated_is_not_one_without_nodules():
    nodules = (
        Nodule("s0", (0, 0, 0), 5.0, counts_as="included"),
        Nodule("s0", (9, 0, 0), 5.0, counts_as="included"),
        Nodule("s1", (0, 0, 0), 5.0, counts_as="excluded"),
    )
    labels = (CaseLabel("s2", "nodule", 0), CaseLabel("s3", "nodule", 1))
    facts = nodule_facts(ArchiveIndex(SCANS, nodules, labels))
    assert {name: fact.count for name, fact in facts.items()} == {
        "s0": 2, "s1": 0, "s2": 0, "s3": None, "s4": None,
    }  # fmt: skip
    assert facts["s2"].words == "annotated, no nodule"
    assert facts["s3"].words == "has a nodule, place not known"
    assert facts["s4"].words == "not annotated"


def test_a_synthetic_case_says_what_made_it():
    case = Case("s", "p", "scan", "ready", synthetic=True, generator="medkd phantom 3")
    assert synthetic_words(case) == "synthetic: medkd phantom 3"
    assert synthetic_words(SCANS[0]) == ""


def test_refused_cases_are_listed_first_and_keep_their_reasons():
    refused = Case("z", "p", "image", "not_analysed", ("colour: channels differ",), origin="test")
    listed = index_cases(ArchiveIndex((*SCANS[:2], refused), (Nodule("s1", (0, 0, 0), 5.0),)))
    assert [(c.case_id, c.label, c.score) for c in listed] == [
        ("z", None, None), ("s0", None, None), ("s1", 1, None),
    ]  # fmt: skip
    assert (listed[0].status, listed[0].split) == ("not_analysed", "test")
    assert listed[0].reasons == ("colour: channels differ",)
