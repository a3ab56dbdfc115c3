"""What `medkd review` opens, by what the files themselves say, and what it refuses."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import MedkdError, SeriesError, SettingsError
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, write_index
from medkd.jsonio import write_json
from medkd.review.opened import open_review, read_case_scan, read_worklist
from medkd.runs import ResultsFolder, SearchRecord, write_cases
from medkd.types import CaseResult
from tests.viewer.factory import GRID, build_cases, write_bare_run, write_chest

SCANS = tuple(Case(f"s{n}", f"p{n}", "scan") for n in range(3))


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "work" / "index.csv"
    path.parent.mkdir()
    write_index(path, ArchiveIndex(SCANS))
    return path


def write_results(folder):
    write_json(ResultsFolder(folder).record, SearchRecord("scan", "m", "i", 1))
    write_json(folder / "s1.json", CaseResult("s1", (), "analysed"))
    return folder


def test_each_kind_is_known_by_its_files_whatever_its_name(tmp_path, index):
    run = write_bare_run(tmp_path / "index.review", build_cases())
    results = write_results(tmp_path / "cases.csv")
    for path in index.parent.glob("index.*"):
        shutil.copy(path, path.with_name(path.name.replace("index.", "study.v2.")))
    renamed = index.with_name("study.v2.csv").rename(index.with_name("study.v2.table"))
    found = {place.name: open_review(place).kind for place in (run.path, results, renamed, index)}
    assert found == {
        "index.review": "RUN", "cases.csv": "RESULTS", "study.v2.table": "INDEX",
        "index.csv": "INDEX",
    }  # fmt: skip


def test_decisions_are_kept_in_the_folder_or_beside_the_index(tmp_path, index):
    run = write_bare_run(tmp_path / "run", [])
    results = write_results(tmp_path / "found")
    kept = [open_review(place).decisions for place in (run.path, results, index)]
    assert kept == [
        run.review, results / "review.sqlite", index.parent / "index.review" / "review.sqlite",
    ]  # fmt: skip


def test_each_kind_lists_its_cases(tmp_path, index):
    run = write_bare_run(tmp_path / "run", build_cases()[:1])
    results = write_results(tmp_path / "found")
    assert [c.case_id for c in read_worklist(open_review(run.path))] == ["xray-1"]
    assert [c.case_id for c in read_worklist(open_review(results))] == ["s1"]
    assert [c.case_id for c in read_worklist(open_review(index))] == ["s0", "s1", "s2"]


def table_of_detect(folder):
    (folder / "results.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\n")
    write_json(folder / "s1.json", CaseResult("s1", (), "analysed"))


def folder_with_index(folder):
    write_index(folder / "index.csv", ArchiveIndex(SCANS))


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (lambda _: None, "", "found nothing"),
        (lambda _: None, "gone", "no such folder or file"),
        (lambda folder: (folder / "a.json").touch(), "a.json", "a file that is not an INDEX"),
        (lambda folder: (folder / "photo.jpg").touch(), "", "found photo.jpg"),
        (lambda folder: (folder / "my.csv").write_text("a,b\n"), "my.csv", "its first line"),
        (lambda folder: write_cases(folder / "cases.csv", []), "", "expected run.json"),
        (lambda folder: (folder / "run.json").write_text("{}"), "", "--resume"),
        (lambda folder: (folder / "run.json").write_text("{"), "", "run.json"),
        (table_of_detect, "", "without its detect.record"),
        (write_results, "s1.json", "a file that is not an INDEX"),
        (folder_with_index, "", "it contains something to review: medkd review "),
        (folder_with_index, "index.nodules.csv", "to review what is beside it"),
        (lambda folder: write_bare_run(folder, []), "cases.csv", "to review what is beside it"),
    ],
)
def test_what_cannot_be_reviewed_ends_with_1_and_the_way_on(tmp_path, make, name, reason):
    make(tmp_path)
    with pytest.raises(MedkdError) as refused:
        open_review(tmp_path / name)
    assert reason in str(refused.value)
    assert refused.value.reasons
    done = CliRunner().invoke(app, ["review", str(tmp_path / name), "--no-browser"])
    assert done.exit_code == 1
    assert isinstance(done.exception, MedkdError)


@pytest.mark.parametrize("kind", ["RUN", "RESULTS", "INDEX"])
def test_what_a_newer_medkd_made_is_refused(tmp_path, index, kind):
    write_bare_run(tmp_path / "run", [])
    write_results(tmp_path / "found")
    place, record = {
        "RUN": (tmp_path / "run", tmp_path / "run" / "run.json"),
        "RESULTS": (tmp_path / "found", tmp_path / "found" / "detect.record"),
        "INDEX": (index, index.with_suffix(".json")),
    }[kind]
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format_version": 99}))
    with pytest.raises(MedkdError, match=rf"{kind} format 99[\s\S]*update medkd"):
        open_review(place)


def test_what_states_no_version_is_read(tmp_path):
    run = write_bare_run(tmp_path / "run", [])
    results = write_results(tmp_path / "found")
    for record in (run.record, ResultsFolder(results).record):
        values = json.loads(record.read_text())
        del values["format_version"]
        record.write_text(json.dumps(values))
    assert (open_review(run.path).kind, open_review(results).kind) == ("RUN", "RESULTS")


def test_an_index_is_given_to_results_alone(tmp_path, index):
    run = write_bare_run(tmp_path / "run", [])
    results = write_results(tmp_path / "found")
    assert open_review(results, index=index).index == index
    with pytest.raises(SettingsError, match="which contains the paths of its cases"):
        open_review(run.path, index=index)
    with pytest.raises(SettingsError, match="not an INDEX"):
        open_review(results, index=run.cases)


def test_an_index_that_was_changed_is_refused_before_the_app_starts(index):
    index.write_text(index.read_text().replace("s1", "s9"))
    done = CliRunner().invoke(app, ["review", str(index), "--no-browser"])
    assert isinstance(done.exception, SeriesError)
    assert "changed after they were written" in str(done.exception)


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(index):
    index.with_name("index.review").touch()  # stands where the folder would be
    with pytest.raises(SeriesError, match=r"cannot be written[\s\S]*get the right to write in"):
        open_review(index)


def test_an_index_in_a_folder_that_cannot_be_written_is_reviewed_with_another_store(index):
    index.with_name("index.review").touch()
    store = str(index.parent / "elsewhere.sqlite")
    assert open_review(index, store=store).decisions == store


def test_decisions_that_cannot_be_kept_are_said_before_anybody_decides(index):
    open_review(index).decisions.write_bytes(b"no database " * 1000)
    done = CliRunner().invoke(app, ["review", str(index), "--no-browser"])
    assert done.exit_code == 1
    assert "cannot be saved here" in str(done.exception)
    assert "not a store of medkd" in str(done.exception)


def test_a_refused_scan_that_can_be_decoded_is_read_and_another_is_not(tmp_path):
    results = write_results(tmp_path / "results")
    for name, dropped in (("s2", "ElementSpacing"), ("s3", "DimSize")):
        file = tmp_path / f"{name}.mhd"
        write_chest(file)
        lines = [line for line in file.read_text().splitlines() if not line.startswith(dropped)]
        file.write_text("\n".join(lines))
        result = CaseResult(name, (), "not_analysed", reasons=("refused",), path=str(file))
        write_json(results / f"{name}.json", result)
    review = open_review(results)
    cases = {case.case_id: case for case in read_worklist(review)}
    assert read_case_scan(review, cases["s2"]).voxels_hu.shape == GRID.shape
    with pytest.raises(SeriesError, match="s3"):
        read_case_scan(review, cases["s3"])
