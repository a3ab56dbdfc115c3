"""Names of data files in UTF-8 and Latin-1, in the header and on the disk."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from medkd.io.volume import read_volume, write_mhd
from tests.io.volume_files import CONTENT, VOXELS, mhd_text, write_nrrd_text
from tests.io.volume_helper import make_scan, oblique_grid

NAMES = ("Müller.raw", "Größe 2.raw", "名前.raw", "a b.raw", "LIST.raw", "100%.raw", "LOCAL.raw")


def spellings(name: str) -> list[bytes]:
    found = [name.encode(), unicodedata.normalize("NFD", name).encode()]
    return found + (
        [name.encode("latin-1")] if name.isascii() or (name[0] < "Ā" and "名" not in name) else []
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_data_file_is_found_in_every_spelling(tmp_path: Path, name: str) -> None:
    for number, on_disk in enumerate(spellings(name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / os.fsdecode(on_disk)).write_bytes(CONTENT)
        for stated in spellings(name):
            text = mhd_text({"ElementDataFile": "NAME"}).encode().replace(b"NAME", stated)
            (folder / "h.mhd").write_bytes(text)
            np.testing.assert_array_equal(read_volume(folder / "h.mhd").voxels_hu, VOXELS)


def test_names_in_lists_and_of_nrrd_data_are_found_too(tmp_path: Path) -> None:
    names = [f"Schnitt ä{k}.raw" for k in range(5)]
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(VOXELS[:, :, k].T.tobytes())
    for encoding in ("utf-8", "latin-1"):
        text = mhd_text({"ElementDataFile": "LIST\n" + "\n".join(names)})
        (tmp_path / "l.mhd").write_bytes(text.encode(encoding))
        np.testing.assert_array_equal(read_volume(tmp_path / "l.mhd").voxels_hu, VOXELS)
        (tmp_path / "Müller.raw").write_bytes(CONTENT)
        path = write_nrrd_text(tmp_path, {"data file": "Müller.raw"}, b"")
        path.write_bytes(path.read_text("utf-8").encode(encoding))
        np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)


@pytest.mark.parametrize(
    "name", ["Größe.mhd", "名前.mhd", "a b.mhd", "100%.mhd", "LIST.mhd", "é.v2.mhd"]
)
def test_what_is_written_under_any_name_is_read_back_by_itk_too(tmp_path: Path, name: str) -> None:
    scan = make_scan(oblique_grid())
    write_mhd(scan, tmp_path / name)
    back = read_volume(tmp_path / name)
    np.testing.assert_array_equal(back.voxels_hu, scan.voxels_hu)
    assert back.seriesuid == name.removesuffix(".mhd")
    if "%" not in name and not name.startswith("LIST"):  # MetaIO takes these for patterns and lists
        other = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name)))
        np.testing.assert_array_equal(other.T, scan.voxels_hu)


def test_a_name_whose_bytes_are_no_utf8_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode("Größe.mhd".encode("latin-1"))
    scan = make_scan(oblique_grid())
    write_mhd(scan, path)
    np.testing.assert_array_equal(read_volume(path).voxels_hu, scan.voxels_hu)


@pytest.mark.parametrize("name", [" a.mhd", "a%03d.mhd", "a\nb.mhd"])
def test_a_name_that_a_header_cannot_state_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot state the file name"):
        write_mhd(make_scan(oblique_grid()), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_itk_and_medkd_read_each_others_names(tmp_path: Path) -> None:
    """Case 17."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(VOXELS.T))
    for suffix in ("mhd", "nrrd", "nii.gz", "mha"):
        path = tmp_path / f"Müller.{suffix}"
        sitk.WriteImage(image, str(path))
        np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)
