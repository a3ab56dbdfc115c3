"""A series that cannot be written again is refused before any work is done for it."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from medkd.errors import SeriesError
from medkd.index.scan_inputs import find_inputs
from medkd.io.dicom.gate import GateSettings
from medkd.io.volume import write_mhd
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.synthetic.implant.write import write_implant_set
from tests.io.dicom_helper import write_ct_series
from tests.io.volume_helper import make_scan, oblique_grid

GRID = oblique_grid((12, 10, 24))


def test_a_series_without_sop_instance_uids_is_refused_at_once(tmp_path: Path, monkeypatch) -> None:
    for path in write_ct_series(tmp_path / "scan", make_scan(GRID).voxels_hu, GRID):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = ""
        dataset.save_as(path)

    def make(*args: object, **values: object) -> None:
        raise AssertionError("nodules were made")

    monkeypatch.setattr("medkd.synthetic.implant.write.implant_scan", make)
    sources = find_inputs([tmp_path / "scan"]).scans
    with pytest.raises(SeriesError, match="expected a valid SOPInstanceUID"):
        write_implant_set(tmp_path / "out", sources, ImplantSettings(n=1), gate=GateSettings())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["nowhere.nii", "a.nii"])  # the second is a link to itself
def test_a_broken_link_does_not_stop_the_other_scans(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.nii").symlink_to(folder / target)
    write_mhd(make_scan(GRID), folder / "b.mhd")
    sources = find_inputs([folder]).scans
    with pytest.raises(SeriesError) as refused:
        write_implant_set(tmp_path / "out", sources, ImplantSettings(n=1), gate=GateSettings())
    reasons = refused.value.reasons
    assert f"in {folder / 'a.nii'}" in reasons
    assert f"in {folder / 'b.mhd'}" in reasons
