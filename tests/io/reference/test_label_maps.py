from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its own customary name

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.reference import ReferenceRows, SeriesPlaces, read_reference_source
from medkd.io.reference.label_maps import LabelMapAnnotations
from tests.io.reference.oblique import (
    CENTER_VOX,
    DIAMETER_MM,
    SERIESUID,
    oblique_places,
    off_by_vox,
    rotation,
    write_oblique_series,
)
from tests.spheres import sphere_mask


def write_labels(path: Path, labels: np.ndarray, grid: VoxelGrid) -> None:
    """Write [i, j, k] through ITK, whose world is LPS mm as ours is."""
    image = sitk.GetImageFromArray(labels.transpose(2, 1, 0))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def other_grid() -> VoxelGrid:
    """A finer grid around the sphere, turned another way than the series."""
    center = oblique_places().grid.voxel_to_world(CENTER_VOX)
    turned = rotation(-40, 8, 60) * 0.5
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned, center - turned @ np.full(3, 15.3)
    return VoxelGrid((32, 31, 30), affine)


def read(path: Path, places: SeriesPlaces, **settings: Any) -> ReferenceRows:
    parsed = LabelMapAnnotations(kind="label_map", path=path, **settings)
    return read_reference_source(parsed, {places.seriesuid: places})


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz", ".mha"])
def test_a_label_map_on_another_grid_marks_the_sphere_of_the_dicom_series(
    tmp_path: Path, suffix: str
) -> None:
    places = write_oblique_series(tmp_path / "series")
    grid = other_grid()
    mask = sphere_mask(grid, places.grid.voxel_to_world(CENTER_VOX), DIAMETER_MM)
    write_labels(tmp_path / f"{SERIESUID}_seg{suffix}", mask.astype(np.uint8), grid)
    (nodule,) = read(tmp_path / f"{SERIESUID}_seg{suffix}", places).nodules
    assert off_by_vox(places, nodule.center_mm) < 0.05
    assert nodule.diameter_mm == pytest.approx(DIAMETER_MM, rel=0.01)


def two_values() -> np.ndarray:
    """Value 1: two voxels at a corner of each other, and one far off; value 7: one voxel."""
    labels = np.zeros((8, 7, 6), dtype=np.uint8)
    labels[1, 1, 1] = labels[2, 2, 2] = labels[6, 1, 1] = 1
    labels[4, 5, 4] = 7
    return labels


@pytest.mark.parametrize(
    ("settings", "voxels"),
    [
        ({}, [2, 1, 1]),
        ({"split": "values"}, [3, 1]),
        ({"values": [7]}, [1]),
    ],
)
def test_components_or_values_are_nodules(
    tmp_path: Path, settings: dict[str, Any], voxels: list[int]
) -> None:
    grid = VoxelGrid.from_parts((8, 7, 6), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    write_labels(tmp_path / "a.nrrd", two_values(), grid)
    places = SeriesPlaces("a", grid)
    found = read(tmp_path / "a.nrrd", places, **settings)
    expected = [(6 * count / np.pi) ** (1 / 3) for count in voxels]
    assert [n.diameter_mm for n in found.nodules] == pytest.approx(expected)


def test_a_folder_is_read_by_names_and_what_fits_nothing_is_listed(tmp_path: Path) -> None:
    grid = oblique_places().grid
    labels = np.zeros(grid.shape, dtype=np.uint8)
    write_labels(tmp_path / f"{SERIESUID}-empty.nrrd", labels, grid)
    labels[3, 4, 5] = 1
    for name in (f"{SERIESUID}.nrrd", f"{SERIESUID}4.nrrd", f"{SERIESUID}.4.nrrd", "other.nrrd"):
        write_labels(tmp_path / "deep" / name, labels, grid)
    write_labels(tmp_path / f"{SERIESUID} x.nrrd", labels.astype(np.float32) / 2, grid)
    (tmp_path / f"{SERIESUID}_bad.nrrd").write_text("no volume")
    found = read(tmp_path, oblique_places())
    assert len(found.nodules) == 1
    strange = "its name does not begin with the name of a series of the archive"
    reasons = sorted((row.key, row.reason.split(":")[0]) for row in found.unmatched)
    assert reasons == [
        (SERIESUID, "expected whole numbers as labels, got fractions"),
        (SERIESUID, "no voxel is labelled"),
        (f"{SERIESUID}.4.nrrd", strange),
        (f"{SERIESUID}4.nrrd", strange),
        (f"{SERIESUID}_bad.nrrd", "unreadable"),
        ("other.nrrd", strange),
    ]
    assert str(tmp_path) not in str([row.reason for row in found.unmatched])


def test_a_region_outside_the_series_is_listed(tmp_path: Path) -> None:
    grid = oblique_places().grid
    shifted = VoxelGrid(grid.shape, grid.cropped((0, 0, 24), grid.shape).affine_lps_mm)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[3, 4, 5] = 1
    write_labels(tmp_path / f"{SERIESUID}.nrrd", labels, shifted)
    (row,) = read(tmp_path, oblique_places()).unmatched
    assert row.reason == "outside the volume: voxel (3, 4, 29) of (40, 32, 24)"


def test_a_folder_without_label_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="no label map"):
        read(tmp_path, oblique_places())
