"""What `medkd review` opens, what it refuses, and what an INDEX says of nodules."""

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SeriesError, SettingsError
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.jsonio import write_json
from medkd.review.index_cases import is_index, nodule_facts, open_review, synthetic_words
from medkd.runs import RunFolder, write_cases
from medkd.types import CaseResult, Nodule, RunCase

SCANS = tuple(Case(f"s{n}", f"p{n}", "scan", "ready") for n in range(5))


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "work" / "index.csv"
    path.parent.mkdir()
    write_index(path, ArchiveIndex(SCANS))
    return path


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


def test_a_run_whose_folder_is_named_like_an_index_is_a_run(tmp_path):
    run = RunFolder(tmp_path / "study.review")
    run.path.mkdir()
    assert is_index(run)
    run.config.touch()
    assert not is_index(run)


def test_an_index_is_opened_whatever_the_case_of_its_ending(index):
    upper = index.with_name("INDEX.CSV")
    with pytest.raises(SeriesError, match=r"INDEX\.CSV"):  # read as an INDEX, not as a folder
        open_review(upper)
    assert open_review(index).path == index.with_name("index.review")


def detect_results(folder):
    (folder / "results.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n")
    write_json(folder / "s1.json", CaseResult("s1", (), "analysed"))


def folder_with_index(folder):
    write_index(folder / "index.csv", ArchiveIndex(SCANS))


def worklist_of_a_run(folder):
    write_cases(
        folder / "cases.csv",
        [RunCase("s", "p", "scan", "x.mhd", "test", None, None, None, "analysed")],
    )


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (lambda _: None, "", "found nothing"),
        (lambda _: None, "gone", "no such folder or file"),
        (lambda folder: (folder / "a.json").touch(), "a.json", "a file, not a folder of a run"),
        (lambda folder: (folder / "photo.jpg").touch(), "", "found photo.jpg"),
        (lambda folder: (folder / "my.csv").write_text("a,b\n"), "my.csv", "its first line"),
        (detect_results, "", "results of `medkd detect`"),
        (detect_results, "results.csv", "not an INDEX"),
        (folder_with_index, "", "it holds an INDEX: medkd review "),
        (folder_with_index, "index.nodules.csv", "index"),
        (worklist_of_a_run, "cases.csv", "give the folder"),
    ],
)
def test_what_is_neither_a_run_nor_an_index_ends_with_1_and_the_way_on(
    tmp_path, make, name, reason
):
    make(tmp_path)
    with pytest.raises((SettingsError, SeriesError)) as refused:
        open_review(tmp_path / name)
    assert reason in str(refused.value)
    assert refused.value.reasons
    done = CliRunner().invoke(app, ["review", str(tmp_path / name), "--no-browser"])
    assert done.exit_code == 1
    assert isinstance(done.exception, SettingsError | SeriesError)


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(index):
    index.with_name("index.review").touch()  # stands where the folder would be
    with pytest.raises(SeriesError, match=r"cannot be written[\s\S]*ask for the right to write in"):
        open_review(index)


def test_decisions_that_cannot_be_kept_are_said_before_anybody_decides(index):
    review = open_review(index).review
    review.write_bytes(b"no database " * 1000)
    done = CliRunner().invoke(app, ["review", str(index), "--no-browser"])
    assert done.exit_code == 1
    assert "cannot be kept here" in str(done.exception)
    assert "no store of medkd" in str(done.exception)
