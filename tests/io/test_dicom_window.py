"""The display window of a header: the first usable pair, and nothing that refuses a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medkd.io.dicom.series import read_dicom_folder
from medkd.types import DisplayWindow
from tests.io.dicom_helper import write_ct_series, write_enhanced_ct
from tests.io.volume_helper import make_scan, oblique_grid

SCAN = make_scan(oblique_grid())


def window_of_series(folder: Path, **header: object) -> DisplayWindow | None:
    def edit(dataset: Dataset, k: int) -> None:
        for name, value in header.items():
            setattr(dataset, name, value)

    write_ct_series(folder, SCAN.voxels_hu, SCAN.grid, edit=edit)
    return read_dicom_folder(folder).window


@pytest.mark.parametrize(
    ("center", "width", "expected"),
    [
        ("-600", "1500", DisplayWindow(-600.0, 1500.0)),
        (["40", "-600"], ["400", "1500"], DisplayWindow(40.0, 400.0)),
        (["40", "-600"], ["0", "1500"], DisplayWindow(-600.0, 1500.0)),  # no width below 1
        ("40", None, None),
        (None, "400", None),
        ("40", "-400", None),
        ("99999", "400", None),
        (None, None, None),
    ],
)
def test_the_first_usable_pair_of_the_header_is_read(tmp_path, center, width, expected):
    assert window_of_series(tmp_path, WindowCenter=center, WindowWidth=width) == expected


def test_a_window_that_is_no_number_is_ignored(tmp_path):
    write_ct_series(tmp_path, SCAN.voxels_hu, SCAN.grid, edit=_write_words)
    scan = read_dicom_folder(tmp_path)
    assert scan.window is None
    assert not any("Window" in note for note in scan.notes)


def _write_words(dataset: Dataset, k: int) -> None:
    dataset.add_new("WindowCenter", "LO", "wide")
    dataset.add_new("WindowWidth", "LO", "400")


@pytest.mark.parametrize("group", ["Shared", "PerFrame"])
def test_the_window_of_an_enhanced_image_is_that_of_its_groups(tmp_path, group):
    def edit(dataset: Dataset) -> None:
        item = Dataset()
        item.WindowCenter, item.WindowWidth = "-600", "1500"
        groups = dataset[f"{group}FunctionalGroupsSequence"].value
        groups[0].FrameVOILUTSequence = Sequence([item])

    write_enhanced_ct(tmp_path / "a.dcm", SCAN, edit=edit)
    scan = read_dicom_folder(tmp_path)
    assert scan.window == DisplayWindow(-600.0, 1500.0)
    assert np.all([fact.frame_number for fact in scan.slices])
