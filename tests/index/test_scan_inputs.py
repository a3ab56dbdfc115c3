"""The scans that a command is given: files, folders, an INDEX, each known by its content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from medkd.errors import SeriesError, SettingsError
from medkd.index import scan_inputs
from medkd.index.scan_inputs import ScanInput, find_inputs
from medkd.io.scans import read_place
from medkd.io.synthetic_mark import PHANTOM, stamp_of
from medkd.io.volume import write_mhd
from tests.data.archives import write_scan_archive, write_xray_archive
from tests.detect_cases import chest_with_balls
from tests.io.dicom_helper import SERIESUID, write_ct_series
from tests.io.reference.oblique import oblique_places
from tests.io.test_find_scans import write_series
from tests.io.test_synthetic_mark import STAMP, write_record


def test_slices_named_one_by_one_are_their_series(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    (scan,) = find_inputs(paths).scans
    assert scan.name == SERIESUID


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: Image.new("L", (4, 4)).save(p)])
def test_what_holds_no_scan_is_refused_with_what_is_expected(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    place = tmp_path / "input.png"
    make(place)
    with pytest.raises(SettingsError, match="expected DICOM CT, or volumes") as refused:
        find_inputs([place])
    assert str(place) in refused.value.reasons[0]


@pytest.mark.parametrize(("name", "hint"), [("a.zip", "unpack it"), ("notes.txt", "expected DICOM"),
                                            ("x.dcm", "expected DICOM")])  # fmt: skip
def test_a_file_that_is_no_scan_says_what_to_do(tmp_path: Path, name: str, hint: str) -> None:
    path = tmp_path / name
    if name == "a.zip":
        write_series(tmp_path / "s")
        shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "s")
    else:
        path.write_text("text")
    (scan,) = find_inputs([path]).scans
    assert scan.place is not None
    assert hint in scan.place.reasons[0]


def test_a_name_that_is_no_utf8_is_found_and_shown_escaped(tmp_path: Path) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    write_series(place)
    odd = Path(os.fsdecode(os.fsencode(place) + b"/\xe9.mhd"))
    odd.write_bytes(b"")
    series, volume = sorted(find_inputs([tmp_path]).scans, key=lambda scan: scan.name)
    assert (series.name, volume.name) == (SERIESUID, "\\xe9")
    assert series.place is not None
    assert read_place(series.place).seriesuid == SERIESUID
    with pytest.raises(SeriesError, match=r"M\\xfcller"):
        raise SeriesError(f"{series.path}: named")


def test_only_the_series_that_a_record_lists_are_synthetic(tmp_path: Path) -> None:
    rows = [{"seriesuid": "1.2.3"}, {"seriesuid": "1.2.4"}]
    write_record(tmp_path, generator_version="1", scans=rows)
    assert ScanInput(tmp_path / "subset0" / "1.2.3.mhd").generator == "medkd phantom 1"
    assert ScanInput(tmp_path / "subset0" / "9.9.9.mhd").generator == ""
    assert stamp_of(tmp_path / "annotations.csv") == "medkd phantom 1"


@pytest.mark.parametrize("scans", [None, [], "many", [{"uid": 3}], ["1.2.3"]])
def test_a_record_that_lists_no_series_stands_for_all_below(tmp_path: Path, scans: object) -> None:
    write_record(tmp_path, generator_version="1", scans=scans)
    assert ScanInput(tmp_path / "9.9.9.mhd").generator == "medkd phantom 1"


@pytest.mark.parametrize("made_by", ["medkd phantom", "Scanner & Sons"])
def test_a_copy_of_a_phantom_is_known_by_its_header_alone(tmp_path: Path, made_by: str) -> None:
    def edit(dataset: Dataset, _k: int) -> None:
        dataset.Manufacturer, dataset.SoftwareVersions = made_by, STAMP

    grid = oblique_places().grid
    write_ct_series(tmp_path, np.zeros(grid.shape, np.int16), grid, edit=edit)
    (scan,) = find_inputs([tmp_path]).scans
    assert scan.generator == (STAMP if made_by == PHANTOM else "")
    write_record(tmp_path, generator_version="1", scans=[{"seriesuid": scan.name}])
    assert find_inputs([tmp_path]).scans[0].generator == "medkd phantom 1"


def test_pictures_among_scans_are_counted_by_a_model_of_scans(tmp_path: Path) -> None:
    write_mhd(chest_with_balls(), tmp_path / "scan.mhd")
    Image.new("L", (64, 64), 90).save(tmp_path / "beside.png")
    found = find_inputs([tmp_path])
    assert (len(found.scans), found.left_out) == (1, 1)


def test_an_index_of_radiographs_holds_no_scan(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no scan in it"):
        find_inputs([write_xray_archive(tmp_path, patients=2)])


def test_inputs_without_a_scan_are_refused_all_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError) as refused:
        find_inputs([tmp_path / "empty", tmp_path / "absent"])
    assert len(refused.value.reasons) == 2


def test_the_scans_of_an_index_are_listed_whatever_the_table_is_called(tmp_path: Path) -> None:
    index = write_scan_archive(tmp_path, scans=1)
    for path in index.parent.glob("index.*"):
        path.rename(path.with_name(path.name.replace("index.", "study.")))
    renamed = index.with_name("study.csv").rename(index.with_name("study.table"))
    listed = find_inputs([renamed]).scans
    assert [given.name for given in listed] == ["s0", "s1", "s2"]
    assert all(given.path == renamed and given.synthetic for given in listed)


def test_a_table_that_is_no_index_holds_no_scan(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("name,value\na,1\n")
    (scan,) = find_inputs([tmp_path / "index.csv"]).scans
    assert scan.case is None
    assert scan.place is not None
    assert "expected DICOM" in scan.place.reasons[0]


def test_what_made_a_scan_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path)
    (scan,) = find_inputs([tmp_path]).scans
    read: list[object] = []
    monkeypatch.setattr(
        scan_inputs, "generator_of_files", lambda files: (read.append(files), "medkd phantom 9")[1]
    )
    assert [scan.generator for _ in range(3)] == ["medkd phantom 9"] * 3
    assert scan.synthetic
    assert len(read) == 1
