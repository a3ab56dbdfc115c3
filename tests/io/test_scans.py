"""One table of readers; every reader keeps the same contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from medkd.errors import SeriesError
from medkd.io.scans import FOLDER, READERS, find_scans, read_scan
from medkd.io.volume import write_mhd
from medkd.types import Scan
from tests.contracts import check_reader
from tests.io.dicom_helper import write_ct_series
from tests.io.volume_helper import make_scan, oblique_grid


def write_sample(kind: str, folder: Path, scan: Scan) -> Path:
    if kind == FOLDER:
        write_ct_series(folder / "series", scan.voxels_hu, scan.grid)
        return folder / "series"
    path = folder / f"sample{kind}"
    write_mhd(scan, folder / "source.mhd")
    sitk.WriteImage(sitk.ReadImage(str(folder / "source.mhd")), str(path))
    return path


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_keeps_the_contract(tmp_path: Path, kind: str) -> None:
    scan = make_scan(oblique_grid())
    check_reader(READERS[kind], write_sample(kind, tmp_path, scan), scan)


def test_a_path_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scan.xyz").write_text("")
    with pytest.raises(SeriesError, match=r"ends in one of \.mhd"):
        read_scan(tmp_path / "scan.xyz")


def test_scans_below_a_folder_are_found(tmp_path: Path) -> None:
    scan = make_scan(oblique_grid())
    write_mhd(scan, tmp_path / "subset0" / "a.mhd")
    write_ct_series(tmp_path / "series", scan.voxels_hu, scan.grid)
    (tmp_path / "notes.csv").write_text("x")
    assert find_scans(tmp_path) == (tmp_path / "series", tmp_path / "subset0" / "a.mhd")
    assert find_scans(tmp_path / "subset0" / "a.mhd") == (tmp_path / "subset0" / "a.mhd",)
