"""Other runs beside a run, their test cases, and what the searches of a run took."""

import pytest

from medkd.io.luna16_tables import read_seriesuids
from medkd.review.other_runs import find_other_runs, read_test_cases
from medkd.review.search_cost import SearchCost, search_cost
from medkd.runs import RunFolder
from medkd.types import CaseResult
from tests.report.run_factory import write_example_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "notes.txt").write_text("no run")
    (folder / "stopped").mkdir()
    (folder / "stopped" / "run.json").write_text("{}")
    return {kind: write_example_run(folder / kind, kind=kind) for kind in ("scan", "image")}


def test_evaluated_runs_in_the_same_folder_are_found_and_the_run_itself_is_not(runs):
    assert [other.path.name for other in find_other_runs(runs["scan"])] == ["image"]
    assert [other.path.name for other in find_other_runs(runs["image"])] == ["scan"]


def test_a_folder_that_may_not_be_read_is_omitted(runs, monkeypatch):
    def refuse(run):
        raise PermissionError(run.path)

    monkeypatch.setattr(RunFolder, "record", property(refuse))
    assert find_other_runs(runs["scan"]) == []


def test_test_cases_are_the_scored_scans_or_the_images_of_the_worklist(runs):
    scans = read_test_cases(runs["scan"])
    assert scans == list(read_seriesuids(runs["scan"].reference / "seriesuids.csv"))
    assert len(read_test_cases(runs["image"])) == 12


def test_the_cost_of_a_search_is_the_median_over_the_analysed_scans():
    results = [CaseResult(str(n), (), "analysed", seconds=float(n)) for n in (1, 2, 3, 4, 10)]
    refused = CaseResult("x", (), "not_analysed", seconds=500.0)
    assert search_cost("student", [*results, refused]) == SearchCost("student", 5, 3.0, (2.0, 4.0))
    assert search_cost("student", [refused]) is None
