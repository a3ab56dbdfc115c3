"""Indexing an archive: every file accounted for, nobody named, nothing done twice or lost."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.fileset import FileSet

from medkd.archive.check import check_index
from medkd.errors import SeriesError, SettingsError
from medkd.index.case_store import open_image, open_scan
from medkd.index.pseudonyms import LinkTable, private_folder_of
from medkd.index.table import (
    IndexedFile,
    read_index,
    read_index_record,
    read_indexed_files,
)
from medkd.types import Radiograph, Scan
from tests.archive.archives import (
    FAMILY,
    GIVEN,
    PATIENT_ID,
    chest,
    index_of,
    read_unmatched,
    write_patient,
    write_picture,
)


def fates(out: Path) -> dict[str, IndexedFile]:
    return {row.file: row for row in read_indexed_files(out)}


def public_text(out: Path) -> str:
    """Return everything that an index shows."""
    files = [p for p in out.parent.iterdir() if p.is_file()]
    assert len(files) >= 6
    return "\n".join(p.read_text() for p in files)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients (one in a zip archive), pictures, a volume's broken header, other things."""
    root = tmp_path_factory.mktemp("archive") / f"{FAMILY}_{GIVEN}"
    write_patient(root / "a" / "nested" / "deep", 0)
    packed = write_patient(root / "packed", 1)
    with zipfile.ZipFile(root / "cd.zip", "w") as archive:
        for path in packed:
            archive.write(path, f"{FAMILY}/{path.name}")
    shutil.rmtree(root / "packed")
    write_picture(root / "films" / f"{FAMILY}.png")
    write_picture(root / "films" / "copy.png")
    (root / "notes.txt").write_text("seen by Dr. Mustermann")
    (root / "empty").touch()
    (root / "broken.dcm").write_bytes(b"no dicom at all")
    (root / f"{FAMILY}.mhd").write_text(f"NDims = 3\nElementDataFile = {GIVEN}.raw\n")
    (root / "table.csv").write_text("a,b\n1,2\n")
    return root


@pytest.fixture(scope="module")
def indexed(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("work") / "index.csv"
    index_of(mixed, out)
    return out


def test_every_file_is_a_case_or_has_a_reason(mixed: Path, indexed: Path) -> None:
    on_disk = sum(1 for p in mixed.rglob("*") if p.is_file())
    members = len(zipfile.ZipFile(mixed / "cd.zip").namelist())
    rows = list(read_indexed_files(indexed))
    assert len(rows) == on_disk + members == read_index_record(indexed)["counts"]["files"]
    assert all(row.case_id if row.became == "case" else row.reason for row in rows)


def test_cases_on_disk_and_in_a_zip_archive_are_read_back(indexed: Path) -> None:
    index = read_index(indexed)
    ready = [case for case in index.cases if case.status == "ready"]
    assert sorted(case.kind for case in ready) == ["image", "image", "scan", "scan"]
    volumes = {c.case_id: c for c in ready if c.kind == "scan"}
    for case_id, case in volumes.items():
        scan = open_scan(indexed, case_id)
        assert isinstance(scan, Scan)
        assert scan.voxels_hu.shape == case.shape
        assert scan.patient_id == case.patient_id
        assert case.synthetic
    shapes = sorted(chest(number)[0].voxels_hu.shape for number in (0, 1))
    assert sorted(case.shape for case in volumes.values()) == shapes
    image = next(c for c in ready if c.kind == "image")
    assert isinstance(open_image(indexed, image.case_id), Radiograph)


def test_nothing_public_names_a_patient_a_uid_or_a_path(mixed: Path, indexed: Path) -> None:
    text = public_text(indexed).lower()
    planted = [FAMILY, GIVEN, PATIENT_ID, "ACC99887766", "19480229", "Elsewhere", str(mixed),
               chest(0)[0].seriesuid, "2.25."]  # fmt: skip
    assert [word for word in planted if word.lower() in text] == []


def test_the_private_folder_is_private_and_leads_back(mixed: Path, indexed: Path) -> None:
    private = private_folder_of(indexed)
    modes = {path.name: path.stat().st_mode & 0o777 for path in private.iterdir()}
    assert private.stat().st_mode & 0o777 == 0o700
    assert {name: mode for name, mode in modes.items() if mode != 0o600} == {}
    links = LinkTable(private)
    patients = {c.patient_id for c in read_index(indexed).cases if c.kind == "scan" and c.content}
    found = {link.value for p in patients for link in links.look_up(p, who="a", why="test")}
    assert found == {f"{PATIENT_ID}-0", f"{PATIENT_ID}-1"}
    files = [row.file for row in read_indexed_files(indexed)]
    places = {link.value for f in files for link in links.look_up(f, who="a", why="test")}
    assert "films/copy.png" in places
    assert len(places) == len(files)


def test_equal_pixels_have_equal_content(indexed: Path) -> None:
    images = [c for c in read_index(indexed).cases if c.kind == "image"]
    scans = [c for c in read_index(indexed).cases if c.status == "ready" and c.kind == "scan"]
    assert len({case.content for case in images}) == 1
    assert len({case.content for case in scans}) == 2


def never(_: object) -> None:
    raise AssertionError("nothing has changed: nothing is to be read again")


def test_a_second_run_changes_nothing_and_reads_nothing(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "index.csv"
    first = index_of(mixed, out)
    tables = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    for work in ("medkd.archive.find.classify_batch", "medkd.archive.build.assess_groups"):
        monkeypatch.setattr(work, never)
    assert index_of(mixed, out) == first
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == tables


def test_new_changed_and_gone_files_are_noticed(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    for number in range(3):
        write_picture(root / f"{number}.png", number)
    before = {c.case_id: c.content for c in index_of(root, out, identity="keep").cases}
    (root / "0.png").unlink()
    write_picture(root / "1.png", 7, size=40)
    write_picture(root / "3.png", 8)
    after = {c.case_id: c.content for c in index_of(root, out, identity="keep").cases}
    assert sorted(after) == ["1", "2", "3"]
    assert after["2"] == before["2"]
    assert after["1"] != before["1"]


def test_what_is_said_of_many_files_is_said_once(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    for path in write_patient(root, 0):
        path.write_bytes(path.read_bytes()[:-100])  # each is cut short
    (case,) = index_of(root, out).cases
    assert len(case.reasons) <= 2
    assert re.search(r": (f\d{6}, ){2}f\d{6} and \d+ more: ", case.reasons[0])


def test_a_dicomdir_says_which_of_its_files_are_absent(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    numbers = {"StudyDate": "20200101", "StudyTime": "10", "StudyID": "1", "SeriesNumber": "1",
               "InstanceNumber": "1", "StudyInstanceUID": "1.2.3.4"}  # fmt: skip
    medium = FileSet()
    for path in write_patient(tmp_path / "files", 0, extra=numbers)[:3]:
        medium.add(path)
    medium.write(root)
    index_of(root, out, identity="keep")
    assert fates(out)["DICOMDIR"].reason == "the directory of a DICOM medium"
    next(p for p in root.rglob("*") if p.is_file() and p.name != "DICOMDIR").unlink()
    index_of(root, out, identity="keep")
    assert "1 of 3 files that it lists are absent" in fates(out)["DICOMDIR"].reason


def test_a_zip_archive_that_changes_is_read_again(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    for number in range(3):
        write_picture(tmp_path / "films" / f"{number}.png", number)
    root.mkdir()
    for names in (("0", "1"), ("1", "2")):
        with zipfile.ZipFile(root / "films.zip", "w") as archive:
            for name in names:
                archive.write(tmp_path / "films" / f"{name}.png", f"{name}.png")
        index = index_of(root, out, identity="keep")
        assert [case.case_id for case in index.cases] == list(names)
    assert fates(out)["films.zip"].reason == "a zip archive of 2 files"


def test_a_slice_that_is_taken_away_turns_the_series_down(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    paths = write_patient(root, 0)
    assert index_of(root, out).cases[0].status == "ready"
    paths[20].unlink()
    case = index_of(root, out).cases[0]
    assert case.status == "not_analysed"
    assert any(reason.startswith("missing_slices:") for reason in case.reasons)


def test_other_settings_assess_again_and_are_written_into_the_reasons(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    write_patient(root, 0, extra={"SliceThickness": "5"})
    refused = index_of(root, out).cases[0]
    passed = index_of(root, out, gate={"allow": ["slice_thickness"]}).cases[0]
    assert refused.status == "not_analysed"
    assert passed.status == "ready"
    assert any(text.startswith("slice_thickness: 5 mm") for text in passed.allowed)
    scan = open_scan(out, passed.case_id)
    assert isinstance(scan, Scan)
    assert any("slice_thickness" in note for note in scan.notes)


def test_annotations_become_nodules_of_cases(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    write_patient(root, 0)
    nodules = chest(0)[1]
    table = tmp_path / "annotations.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"])
        for nodule in nodules:
            uid = index_of(root, tmp_path / "keep" / "index.csv", identity="keep").cases[0].case_id
            writer.writerow([uid, *nodule.center_mm, nodule.diameter_mm])
        writer.writerow(["1.2.3.4", 0, 0, 0, 5])
    source = {"kind": "luna16", "annotations": str(table)}
    index = index_of(root, out, annotations=[source])
    assert len(index.nodules) == len(nodules) > 0
    assert {n.seriesuid for n in index.nodules} == {index.cases[0].case_id}
    assert len(read_unmatched(out)) == 1
    assert "1.2.3.4" not in public_text(out)
    assert "1.2.3.4" in (private_folder_of(out) / "unmatched.csv").read_text()


def test_an_annotation_of_a_refused_series_says_so(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    write_patient(root, 0, extra={"SliceThickness": "5", "SeriesInstanceUID": "1.2.3.4.5.6"})
    table = tmp_path / "annotations.csv"
    table.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3.4.5.6,0,0,0,5\n")
    index_of(root, out, annotations=[{"kind": "luna16", "annotations": str(table)}])
    assert read_unmatched(out)[0].reason == "its series is not analysed: slice_thickness"


def test_days_count_from_the_first_study_of_a_patient(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    for name, date in (("a", "20200110"), ("b", "20200105")):
        write_patient(root / name, 0, extra={
            "StudyDate": date, "SeriesInstanceUID": f"1.2.3.{date}"})  # fmt: skip
    index = index_of(root, out)
    assert sorted(case.day for case in index.cases if case.day is not None) == [0, 5]
    assert len({case.patient_id for case in index.cases}) == 1
    assert "20200110" not in public_text(out)


def test_folders_say_what_they_say_of_a_split(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    for folder in ("train", "valid", "test", "subset3", "other"):
        write_picture(root / folder / f"{folder}.png")
    cases = {c.case_id: c.origin for c in index_of(root, out, identity="keep").cases}
    assert cases == {"train": "train", "valid": "val", "test": "test", "subset3": "subset3",
                     "other": ""}  # fmt: skip


def test_namesakes_in_two_folders_are_two_cases(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    write_picture(root / "a" / "film.png", 1)
    write_picture(root / "b" / "film.png", 2)
    index = index_of(root, out, identity="keep")
    assert [case.case_id for case in index.cases] == ["a__film", "b__film"]


def test_links_odd_names_and_damaged_zips_are_listed(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "work" / "index.csv"
    write_picture(root / "film.png")
    (root / "link.png").symlink_to(root / "film.png")
    (root / "nowhere").symlink_to(root / "absent")
    (root / "loop").symlink_to(root)
    (root / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    os.mkfifo(root / "pipe")
    odd = os.fsencode(root) + b"/\xff\xfe.txt"
    Path(os.fsdecode(odd)).write_text("odd")
    index_of(root, out, identity="keep")
    found = fates(out)
    assert found["film.png"].became == "case"
    assert found["link.png"].reason == "a link to another file of the archive"
    assert found["pipe"].reason == "not a regular file"
    assert found["cut.zip"].became == "unreadable"
    assert found["nowhere"].became == "unreadable"
    assert len(found) == 6


def test_the_index_may_lie_in_the_archive_itself(tmp_path: Path) -> None:
    write_picture(tmp_path / "film.png")
    for _ in range(2):
        index_of(tmp_path, tmp_path / "index.csv", identity="keep")
    assert list(fates(tmp_path / "index.csv")) == ["film.png"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, "identity keep"), ({"annotations": [{"kind": "luna16", "annotations": "no.csv"}]},
                             "no such file")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_work(
    tmp_path: Path, settings: dict[str, object], expected: str
) -> None:
    write_picture(tmp_path / "archive" / "film.png")
    out = tmp_path / "index.csv"
    index_of(tmp_path / "archive", out, identity="keep")
    with pytest.raises(SettingsError, match=expected):
        index_of(tmp_path / "archive", out, **settings)


def test_another_archive_does_not_overwrite_an_index(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_picture(tmp_path / name / "film.png")
    index_of(tmp_path / "a", tmp_path / "index.csv")
    with pytest.raises(SeriesError, match="not the archive of this index"):
        index_of(tmp_path / "b", tmp_path / "index.csv")


_RUN = """
import sys
from pathlib import Path
from tests.archive.archives import index_of
if __name__ == "__main__":
    index_of(Path(sys.argv[1]), Path(sys.argv[2]), identity="keep", workers=2)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    for number in range(400):
        write_picture(root / f"{number % 7}" / f"{number}.png", number)
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    whole = index_of(root, tmp_path / "whole" / "index.csv", identity="keep")
    out = tmp_path / "killed" / "index.csv"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for delay_s in (1.5, 3.0, 3.5):
        run = subprocess.Popen(  # noqa: S603  # our own script
            [sys.executable, str(script), str(root), str(out)], env=environment
        )
        time.sleep(delay_s)
        run.send_signal(signal.SIGKILL)
        run.wait()
    resumed = index_of(root, out, identity="keep")
    cases = tuple(replace(case, path=out) for case in whole.cases)
    assert resumed == replace(whole, cases=cases)
    assert len(fates(out)) == 400


def test_cases_whose_study_stands_for_the_patient_are_told(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "work" / "index.csv"
    for number in range(3):
        for path in write_patient(root / f"p{number}", number):
            dataset = dcmread(path)
            dataset.PatientID, dataset.StudyInstanceUID = "", f"1.2.{number}"
            dataset.save_as(path)
    checked = check_index(index_of(root, out))
    (notice,) = [n for n in checked.warnings if n.code == "no_patient_id"]
    assert len(notice.ids) == 3
    assert "study" in notice.text
    assert checked.divisible


def test_one_study_without_a_patient_is_not_called_one_patient_id(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "work" / "index.csv"
    for number in range(2):
        for path in write_patient(root / f"p{number}", number):
            dataset = dcmread(path)
            dataset.PatientID, dataset.StudyInstanceUID = "", "1.2.3"
            dataset.save_as(path)
    (notice,) = [n for n in check_index(index_of(root, out)).warnings if n.code == "cannot_split"]
    assert "one study and name no patient" in notice.text


def test_a_real_scan_in_the_folder_of_a_set_of_phantoms_is_real(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "work" / "index.csv"
    for number in range(2):
        paths = write_patient(root / f"p{number}", number)
        for path in paths:
            dataset = dcmread(path)
            dataset.Manufacturer, dataset.SoftwareVersions = "SIEMENS", "1"
            dataset.save_as(path)
    listed = str(dataset.SeriesInstanceUID)
    record = {"generator_version": "5", "difficulty": "0" * 16, "scans": [{"seriesuid": listed}]}
    (root / "phantom.json").write_text(json.dumps(record))
    index = index_of(root, out, identity="keep", gate={"allow": ["coarse_voxels"]})
    assert {case.case_id: case.synthetic for case in index.cases}[listed]
    assert sorted(case.synthetic for case in index.cases) == [False, True]


def test_an_index_of_an_earlier_version_is_made_again_in_its_place(tmp_path: Path) -> None:
    write_picture(tmp_path / "archive" / "film.png")
    out = tmp_path / "work" / "index.csv"
    made = index_of(tmp_path / "archive", out)
    record = json.loads(out.with_suffix(".json").read_text())
    out.with_suffix(".json").write_text(json.dumps(record | {"format_version": 2}))
    with pytest.raises(SeriesError, match=r"earlier medkd .*make it again with `medkd index ROOT"):
        read_index(out)
    assert index_of(tmp_path / "archive", out) == made
    assert read_index(out) == made
    out.with_suffix(".json").write_text(json.dumps(record | {"format_version": 99}))
    with pytest.raises(SeriesError, match="update medkd"):
        index_of(tmp_path / "archive", out)
