"""RESULTS: written case by case, resumed after a kill, refused where something else stands."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medkd.detect import one_case
from medkd.detect.batch import input_keys, search_scans
from medkd.detect.jobs import SearchJob, run_job, scan_job
from medkd.detect.one_case import OUT_OF_MEMORY
from medkd.detect.results import TableFacts, write_results
from medkd.detect.view import DetectSettings
from medkd.errors import CheckpointError, SeriesError, SettingsError
from medkd.index.scan_inputs import ScanInput, find_inputs
from medkd.index.table import ArchiveIndex, read_index, write_index
from medkd.io.dicom.write import write_dicom_series
from medkd.io.luna16_tables import read_marks
from medkd.io.scans import read_scan
from medkd.io.volume import write_mhd
from medkd.runs import ResultsFolder
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Candidate, CaseResult, OperatingPoint, Scan
from tests.data.archives import write_scan_archive
from tests.detect_cases import ball_model, chest_with_balls

POINT = {"whole-scan": OperatingPoint(0.5, "fp_per_scan")}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for number in (1, 2, 3):
        write_mhd(chest_with_balls(), folder / f"2.25.{number}.mhd")
    return folder


def read_results(out: Path) -> list[CaseResult]:
    return ResultsFolder(out).read()


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def search(inputs: list[Path], **info: object) -> SearchJob:
    """Prepare a coarse search: where marks lie does not matter here."""
    coarse = DetectSettings(step_mm=24.0, proposals=10, refined=0)
    return scan_job(inputs, ball_model(**info), settings=coarse)


def job_of(scans: Path, **info: object) -> SearchJob:
    return search([scans], operating_points=POINT, **info)


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Let the search be interrupted when so many scans were searched; list what was searched."""
    searched: list[str] = []
    real = one_case.detect_nodules

    def search(scan: Scan, *rest: object) -> CaseResult:
        if len(searched) == count:
            raise KeyboardInterrupt
        searched.append(scan.seriesuid)
        return real(scan, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(one_case, "detect_nodules", search)
    return searched


def test_a_stopped_search_leaves_finished_cases_and_goes_on_with_the_others(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_job(job_of(scans), tmp_path / "whole")
    with monkeypatch.context() as patched:
        stop_after(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            run_job(job_of(scans), tmp_path / "out")
    assert [r.seriesuid for r in read_results(tmp_path / "out")] == ["2.25.1", "2.25.2"]
    assert {row["case"] for row in rows_of(tmp_path / "out")} == {"2.25.1", "2.25.2"}
    searched = stop_after(monkeypatch, 9)
    seen: list[tuple[int, int, int]] = []
    again = run_job(
        job_of(scans), tmp_path / "out", resume=True, progress=lambda *numbers: seen.append(numbers)
    )
    assert searched == ["2.25.3"]
    assert seen == [(3, 3, 0)]
    assert [r.candidates for r in again] == [r.candidates for r in whole]
    assert (tmp_path / "out" / "results.csv").read_bytes() == (
        tmp_path / "whole" / "results.csv"
    ).read_bytes()


def test_a_search_killed_while_it_writes_leaves_no_half_of_a_case(
    scans: Path, tmp_path: Path
) -> None:
    run_job(job_of(scans), tmp_path / "out")
    (tmp_path / "out" / ".2.25.2.json.abc.part").write_text("{")
    (tmp_path / "out" / "2.25.2.json").write_text('{"seriesuid": "2.2')  # a disk without barrier
    run_job(job_of(scans), tmp_path / "out", resume=True)
    assert len(read_results(tmp_path / "out")) == 3
    assert not list((tmp_path / "out").glob(".*.part"))


def test_a_finished_search_can_be_resumed_and_searches_nothing(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(job_of(scans), tmp_path / "out", resume=True)  # nothing there is a start too
    searched = stop_after(monkeypatch, 9)
    assert len(run_job(job_of(scans), tmp_path / "out", resume=True)) == 3
    assert searched == []


def test_without_resume_a_folder_that_holds_something_is_refused(
    scans: Path, tmp_path: Path
) -> None:
    run_job(job_of(scans), tmp_path / "out")
    with pytest.raises(SettingsError, match="add --resume"):
        run_job(job_of(scans), tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("keep")
    for resume in (False, True):
        with pytest.raises(SettingsError, match="cannot be written here"):
            run_job(job_of(scans), tmp_path / "other", resume=resume)
    with pytest.raises(SettingsError, match="this is a file"):
        run_job(job_of(scans), tmp_path / "other" / "mine", resume=True)


def test_another_model_other_inputs_or_settings_cannot_go_on(scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_job(job_of(scans), out)
    assert (out / "detect.record").is_file()
    with pytest.raises(SettingsError, match=r"model .sha256"):
        run_job(job_of(scans, licence="another"), out, resume=True)
    other = search([scans / "2.25.1.mhd"], operating_points=POINT)
    with pytest.raises(SettingsError, match=r"(?s)inputs .*number of cases: 3 there, 1 now"):
        run_job(other, out, resume=True)
    job = job_of(scans)
    changed = replace(job, record=replace(job.record, settings={"marks": 7}, medkd_version="9"))
    with pytest.raises(SettingsError, match=r"(?s)marks: 100 there, 7 now.*version of medkd: "):
        run_job(changed, out, resume=True)


def test_an_input_that_changed_is_another_input(tmp_path: Path) -> None:
    path = tmp_path / "a.mhd"
    path.write_text("one")
    before = input_keys([ScanInput(path), ScanInput(path)])
    assert before[0] != before[1]
    assert before == input_keys([ScanInput(path), ScanInput(path)])
    path.write_text("three")
    assert input_keys([ScanInput(path)])[0] not in before


def test_a_mark_of_a_volume_is_told_by_voxel_and_slice(scans: Path, tmp_path: Path) -> None:
    (first, *_) = run_job(job_of(scans), tmp_path / "out")
    row = rows_of(tmp_path / "out")[0]
    assert list(row)[:5] == ["seriesuid", "coordX", "coordY", "coordZ", "probability"]
    place_mm = [float(row[name]) for name in ("coordX", "coordY", "coordZ")]
    grid = read_scan(scans / "2.25.1.mhd").grid
    voxel = np.rint(grid.world_to_voxel(np.array(place_mm))).astype(int).tolist()
    assert [int(row[f"voxel_{axis}"]) for axis in "ijk"] == voxel
    assert int(row["slice_number"]) == voxel[2] + 1
    empty = ("diameter_mm", "instance_number", "frame_number", "sop_instance_uid")
    assert [row[name] for name in empty] == [""] * 4
    assert row["lung_side"] == ("left" if place_mm[0] > 0 else "right")
    assert row["lung_third"] in {"upper", "middle", "lower"}
    assert (row["case"], row["path"]) == ("2.25.1", str(scans / "2.25.1.mhd"))
    above = [(r["threshold"], r["above_threshold"]) for r in rows_of(tmp_path / "out")]
    scores = [m.score for m in first.candidates]
    assert above[: len(scores)] == [("0.5", str(int(score >= 0.5))) for score in scores]


def test_a_model_without_a_frozen_threshold_leaves_it_empty(scans: Path, tmp_path: Path) -> None:
    run_job(search([scans / "2.25.1.mhd"]), tmp_path / "out")
    row = rows_of(tmp_path / "out")[0]
    assert (row["threshold"], row["above_threshold"]) == ("", "")


def test_a_mark_of_a_dicom_series_names_its_image(tmp_path: Path) -> None:
    scan = replace(make_phantom(PhantomSettings(site="a"), 0).scan, seriesuid="2.25.99")
    write_dicom_series(scan, tmp_path / "in", patient_name="DOE^JANE", patient_id="17")
    read = read_scan(tmp_path / "in")
    numbers = [s.instance_number for s in read.slices]
    assert sorted(map(int, numbers)) == list(range(1, read.grid.shape[2] + 1))
    run_job(search([tmp_path / "in"]), tmp_path / "out")
    row = rows_of(tmp_path / "out")[0]
    image = read.slices[int(row["voxel_k"])]
    assert int(row["instance_number"]) == image.instance_number
    assert row["sop_instance_uid"] == image.sop_instance_uid != ""
    assert len(read_marks(tmp_path / "out" / "results.csv")) == len(rows_of(tmp_path / "out"))


@pytest.mark.parametrize("identity", ["keep", "pseudonymise"])
def test_paths_are_told_where_the_identity_is_kept_alone(tmp_path: Path, identity: str) -> None:
    index = write_scan_archive(tmp_path / "DOE^JANE", scans=1)
    archive = read_index(index)
    write_index(index, replace(archive, identity=identity))  # type: ignore[arg-type]
    run_job(search([index]), tmp_path / "out")
    paths = {row["path"] for row in rows_of(tmp_path / "out")}
    kept = {str(tmp_path / "DOE^JANE" / "scans" / f"{number}.mhd") for number in (0, 2)}
    assert paths == (kept if identity == "keep" else {""})
    written = "".join(p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert ("DOE" in written) == (identity == "keep")


class StrangeError(Exception):
    """What no reader is known to raise."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), OUT_OF_MEMORY),
        (torch.OutOfMemoryError("4 GiB"), OUT_OF_MEMORY),
        (StrangeError("DOE^JANE"), "unexpected: StrangeError in test_detect_results.py line"),
        (OSError(5, "DOE^JANE"), "unexpected: OSError"),
        (SeriesError("no", ["why not"]), "why not"),
    ],
)
@pytest.mark.parametrize("step", ["_read", "detect_nodules"])
def test_whatever_one_input_raises_becomes_its_reason_and_the_others_go_on(
    scans: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str, step: str
) -> None:
    real, calls = getattr(one_case, step), iter([error])

    def fail_first(*given: object) -> object:
        for planned in calls:
            raise planned
        return real(*given)

    monkeypatch.setattr(one_case, step, fail_first)
    results = list(
        search_scans(
            find_inputs([scans]).scans,
            ball_model(),
            DetectSettings(step_mm=24.0, proposals=5, refined=0),
        )
    )
    assert [r.status for r in results] == ["not_analysed", "analysed", "analysed"]
    assert results[0].seriesuid == "2.25.1"
    assert results[0].reasons[0].startswith(reason)
    assert "DOE" not in results[0].reasons[0]


def test_a_model_that_cannot_search_is_not_the_fault_of_each_input(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> CaseResult:
        raise CheckpointError("no weights")

    monkeypatch.setattr(one_case, "detect_nodules", fail)
    with pytest.raises(CheckpointError):
        list(
            search_scans(
                find_inputs([scans]).scans,
                ball_model(),
                DetectSettings(step_mm=24.0, proposals=5, refined=0),
            )
        )


def test_two_cases_never_share_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    names = ["a b", "a_b", "a?b"]
    write_results(tmp_path / "out", (CaseResult(name, (), "analysed") for name in names))
    assert {r.seriesuid for r in read_results(tmp_path / "out")} == set(names)


def test_the_table_is_whole_after_any_error(tmp_path: Path) -> None:
    def fail():
        yield CaseResult("1", (Candidate("1", (0.0, 0.0, 0.0), 0.5),), "analysed")
        raise OSError(28, "No space left on device")

    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="No space"):
        write_results(tmp_path / "out", fail(), facts=TableFacts(threshold=0.4))
    assert [row["above_threshold"] for row in rows_of(tmp_path / "out")] == ["1"]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has file names of any bytes")
def test_a_name_whose_bytes_are_no_utf_8_is_spelled_out(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"m\xfcller.mhd")  # noqa: PTH118  # bytes
    Path(os.fsdecode(path)).write_text("no header")
    run_job(search([Path(os.fsdecode(path))]), tmp_path / "out")
    (result,) = read_results(tmp_path / "out")
    assert result.seriesuid == "m\\xfcller"


def test_an_index_that_was_made_anew_is_another_input(tmp_path: Path) -> None:
    index = write_scan_archive(tmp_path, scans=1)
    run_job(search([index]), tmp_path / "out")
    archive = read_index(index)
    cases = tuple(replace(case, content=f"{case.content}x") for case in archive.cases)
    write_index(index, ArchiveIndex(cases))
    with pytest.raises(SettingsError, match="inputs"):
        run_job(search([index]), tmp_path / "out", resume=True)
