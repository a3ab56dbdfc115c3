"""Scans as DICOM series: a series reads back the same; the header holds the given values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import UID

from medkd.io.dicom.series import read_dicom_folder
from medkd.io.dicom.write import write_dicom_series
from tests.io.volume_helper import grids, make_scan, oblique_grid


def write(folder: Path, scan, **keywords):
    return write_dicom_series(scan, folder, patient_name="A^B", patient_id="17", **keywords)


@pytest.mark.parametrize("lowest_hu", [-1024, -3000])
def test_a_series_reads_back_as_it_was(tmp_path: Path, lowest_hu: int) -> None:
    scan = make_scan(oblique_grid((40, 36, 4)))
    scan.voxels_hu[3, 2, 1] = lowest_hu
    write(tmp_path, scan)
    back = read_dicom_folder(tmp_path)
    np.testing.assert_array_equal(back.voxels_hu, scan.voxels_hu)
    np.testing.assert_allclose(back.grid.affine_lps_mm, scan.grid.affine_lps_mm, atol=1e-8)


@given(grids(largest=5), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_any_grid_keeps_every_voxel_in_its_place(tmp_path_factory, grid, seed: int) -> None:
    """Left-handed grids come back with k reversed: each voxel still lies where it lay."""
    scan = make_scan(grid, seed)
    folder = tmp_path_factory.mktemp("series")
    write(folder, scan)
    if grid.shape[2] == 1:
        return
    back = read_dicom_folder(folder)
    places_vox = np.argwhere(np.ones(grid.shape, bool))
    found_vox = np.rint(back.grid.world_to_voxel(grid.voxel_to_world(places_vox))).astype(int)
    np.testing.assert_array_equal(back.voxels_hu[tuple(found_vox.T)], scan.voxels_hu.reshape(-1))


def test_the_same_scan_gives_the_same_files_under_names_in_no_order(tmp_path: Path) -> None:
    scan = make_scan(oblique_grid((4, 4, 8)))
    first, second = write(tmp_path / "a", scan), write(tmp_path / "b", scan)
    assert [p.name for p in first] == [p.name for p in second]
    assert [p.name for p in first] != sorted(p.name for p in first)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_given_values_are_in_every_header(tmp_path: Path) -> None:
    scan = make_scan(oblique_grid((4, 4, 3)), uid="not a UID")
    paths = write(tmp_path, scan, extra={"StudyDate": "20200102"})
    headers = [pydicom.dcmread(path) for path in paths]
    assert {(str(h.PatientName), h.PatientID, h.StudyDate) for h in headers} == {
        ("A^B", "17", "20200102")
    }
    assert len({h.SeriesInstanceUID for h in headers}) == 1
    assert UID(headers[0].SeriesInstanceUID).is_valid
    assert len({h.SOPInstanceUID for h in headers}) == 3
