"""The radiographs that a command is given: by content, what is none of them with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from medkd.errors import SettingsError
from medkd.index.image_inputs import is_radiograph, list_images
from medkd.io.volume import write_mhd
from tests.data.archives import write_scan_archive, write_xray_archive
from tests.detect_cases import chest_with_balls


def test_the_images_of_an_index_are_listed_and_its_scans_counted(tmp_path: Path) -> None:
    listed = list_images([write_xray_archive(tmp_path, patients=2)])
    assert [image.name for image in listed.images] == ["c000", "c001", "c002", "c003"]
    with pytest.raises(SettingsError, match="no radiograph in it"):
        list_images([write_scan_archive(tmp_path / "scans", scans=1)])


def test_a_volume_and_a_table_say_why_they_are_no_radiograph(tmp_path: Path) -> None:
    write_mhd(chest_with_balls(), tmp_path / "a.mhd")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    Image.new("L", (64, 64), 90).save(tmp_path / "film.png")
    listed = list_images([tmp_path])
    assert {i.name: i.reason.partition(":")[0] for i in listed.images} == {
        "a": "not_radiograph", "film": "",
    }  # fmt: skip
    assert listed.left_out == 2  # the table and the voxels of the volume
    (named,) = list_images([tmp_path / "notes.csv"]).images
    assert named.reason.startswith("not_radiograph")
    assert [is_radiograph(tmp_path / name) for name in ("film.png", "a.mhd")] == [True, False]
