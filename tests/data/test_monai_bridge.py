"""Our scans in MONAI's hands: RAS affines, the same places, and no second reader."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name
import torch
from hypothesis import given, settings
from PIL import Image

from medkd.data.monai_bridge import MedkdReader, scan_grid, to_meta_tensor
from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.axial import to_axial
from medkd.io.volume import write_mhd
from medkd.types import Scan
from tests.io.volume_helper import grids, make_scan, oblique_grid

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:monai")
RAS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))


def load(path: Path) -> object:
    from monai.transforms import LoadImaged

    transform = LoadImaged("image", reader=MedkdReader(), ensure_channel_first=True)
    return transform({"image": path})["image"]


@given(grids())
@settings(deadline=None, max_examples=15)
def test_a_loaded_scan_has_the_affine_that_monai_expects(tmp_path_factory, grid) -> None:
    path = tmp_path_factory.mktemp("load") / "a.mhd"
    scan = make_scan(grid)
    write_mhd(scan, path)
    image = load(path)
    turned = to_axial(scan)  # what is not stored as axial slices is read as such
    # RAS from LPS by hand: x and y change sign.
    expected = turned.grid.affine_lps_mm * np.array([[-1.0], [-1.0], [1.0], [1.0]])
    np.testing.assert_allclose(image.affine, expected, atol=1e-9)
    np.testing.assert_array_equal(image.numpy()[0], turned.voxels_hu)
    affine = scan_grid(image).affine_lps_mm
    np.testing.assert_allclose(affine, turned.grid.affine_lps_mm, atol=1e-9)


def test_monai_reads_the_same_place_from_nifti_by_itself(tmp_path: Path) -> None:
    """MONAI's own reader is the oracle of what "RAS as MONAI expects" means."""
    from monai.transforms import LoadImaged

    scan = make_scan(oblique_grid(flip=True))
    write_mhd(scan, tmp_path / "a.mhd")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.mhd")), str(tmp_path / "a.nii"))
    theirs = LoadImaged("image", reader="NibabelReader", ensure_channel_first=True)(
        {"image": tmp_path / "a.nii"}
    )["image"]
    ours = load(tmp_path / "a.mhd")
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    assert torch.equal(ours.as_tensor(), theirs.as_tensor())


def test_the_metadata_names_the_series(tmp_path: Path) -> None:
    write_mhd(make_scan(oblique_grid()), tmp_path / "1.2.3.mhd")
    meta = load(tmp_path / "1.2.3.mhd").meta
    assert (meta["seriesuid"], meta["patient_id"], meta["notes"]) == ("1.2.3", "1.2.3", [])


@given(grids(largest=12))
@settings(deadline=None, max_examples=25)
def test_monais_orientation_and_spacing_keep_a_place(grid: VoxelGrid) -> None:
    from monai.transforms import Compose, Orientationd, Spacingd

    place_vox = tuple(size // 3 for size in grid.shape)  # off the centre
    hu = np.zeros(grid.shape, np.int16)
    hu[place_vox] = 1000
    image = to_meta_tensor(Scan("1", hu, grid, patient_id="p"))
    chain = Compose(
        [
            Orientationd("image", axcodes="RAS", labels=RAS_LABELS),
            Spacingd("image", pixdim=grid.spacing_mm.min() / 2, mode="bilinear"),
        ]
    )
    moved = chain({"image": image})["image"]
    peak_vox = np.unravel_index(moved.numpy()[0].argmax(), moved.shape[1:])
    error_mm = scan_grid(moved).voxel_to_world(peak_vox) - grid.voxel_to_world(place_vox)
    assert np.linalg.norm(error_mm) < np.linalg.norm(scan_grid(moved).spacing_mm)


def test_a_refused_file_is_not_read_by_another_reader(tmp_path: Path) -> None:
    """MONAI's NibabelReader would read this file, NaN and all."""
    voxels = np.zeros((4, 4, 4), np.float32)
    voxels[1, 2, 3] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / "a.nii"))
    with pytest.raises(SeriesError, match="NaN"):
        load(tmp_path / "a.nii")


def test_several_paths_at_once_are_refused(tmp_path: Path) -> None:
    reader = MedkdReader()
    with pytest.raises(SeriesError, match="one path"):
        reader.get_data(reader.read([tmp_path / "a.mhd", tmp_path / "b.mhd"]))


def test_a_radiograph_loads_as_rows_and_columns(tmp_path: Path) -> None:
    pixels = np.zeros((5, 7), np.uint8)
    pixels[4, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = load(tmp_path / "a.png")
    assert image.shape == (1, 5, 7)
    assert (image[0, 4, 1], image.sum()) == (1.0, 1.0)


def test_the_reader_is_one_of_monai_and_can_be_sent_to_workers() -> None:
    from monai.data.image_reader import ImageReader

    reader = pickle.loads(pickle.dumps(MedkdReader()))  # noqa: S301  # our own bytes
    assert isinstance(reader, ImageReader)
    assert reader.verify_suffix("anything")


def test_no_transform_can_change_the_scan() -> None:
    scan = make_scan(oblique_grid())
    before = scan.voxels_hu.copy()
    to_meta_tensor(scan).zero_()
    np.testing.assert_array_equal(scan.voxels_hu, before)


def test_an_image_that_says_lps_is_not_flipped() -> None:
    from monai.data import MetaTensor

    affine = torch.diag(torch.tensor([2.0, 2, 3, 1], dtype=torch.float64))
    image = MetaTensor(torch.zeros(1, 2, 2, 2), meta={"affine": affine, "space": "LPS"})
    np.testing.assert_array_equal(scan_grid(image).affine_lps_mm, affine)
    with pytest.raises(ValueError, match="expected an image"):
        scan_grid(image[0])
    image.meta["space"] = "SCANNER"
    with pytest.raises(ValueError, match="RAS or LPS"):
        scan_grid(image)
