from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
from pydicom.sr.codedict import codes

from medkd.io.file_ref import FileRef
from medkd.io.reference import ReferenceRows, SeriesPlaces, read_reference_source
from medkd.io.reference.dicom_seg import SegAnnotations
from tests.io.reference.oblique import (
    CENTER_VOX,
    DIAMETER_MM,
    SERIESUID,
    oblique_grid,
    off_by_vox,
    write_oblique_series,
)
from tests.spheres import sphere_mask

VOXEL_MM = (6 * 0.7 * 0.9 * 1.5 / np.pi) ** (1 / 3)
"""Diameter of a sphere of one voxel."""


def segments(folder: Path, masks: dict[str, np.ndarray], kind: str = "BINARY") -> Segmentation:
    """Draw masks [i, j, k] on a series, one segment a label, empty frames left out."""
    images = [pydicom.dcmread(path) for path in folder.iterdir()]
    images.sort(key=lambda image: -image.InstanceNumber)
    structure = codes.SCT.MorphologicallyAbnormalStructure
    types = {"nodule": codes.SCT.Nodule, "lung": codes.SCT.Lung}
    described = [
        SegmentDescription(
            number, label, structure, types.get(label, structure), SegmentAlgorithmTypeValues.MANUAL
        )
        for number, label in enumerate(masks, start=1)
    ]
    drawn = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], axis=-1)
    return Segmentation(
        images, drawn, kind, described, hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "1"
    )


def sphere() -> np.ndarray:
    grid = oblique_grid()
    return sphere_mask(grid, grid.voxel_to_world(CENTER_VOX), DIAMETER_MM).astype(np.uint8)


def dots(*places: tuple[int, int, int]) -> np.ndarray:
    mask = np.zeros(oblique_grid().shape, dtype=np.uint8)
    for place in places:
        mask[place] = 1
    return mask


def read(
    dataset: pydicom.Dataset, folder: Path, places: SeriesPlaces, **settings: Any
) -> ReferenceRows:
    dataset.save_as(folder / "seg", enforce_file_format=True)
    parsed = SegAnnotations(kind="seg", **settings)
    refs = {"seg": [FileRef(folder / "seg", label="f000007")]}
    return read_reference_source(parsed, {places.seriesuid: places}, refs)


@pytest.fixture
def places(tmp_path: Path) -> SeriesPlaces:
    return write_oblique_series(tmp_path / "series")


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segment_marks_the_sphere_of_an_oblique_series(
    tmp_path: Path, places: SeriesPlaces, kind: str
) -> None:
    mask = sphere() * 0.8 if kind == "FRACTIONAL" else sphere()
    found = read(segments(tmp_path / "series", {"nodule": mask}, kind), tmp_path, places)
    (nodule,) = found.nodules
    assert off_by_vox(places, nodule.center_mm) < 0.01
    assert nodule.diameter_mm == pytest.approx(sphere().sum() ** (1 / 3) * VOXEL_MM, rel=1e-6)
    assert found.unmatched == ()


def test_a_fraction_below_the_threshold_is_not_inside(tmp_path: Path, places: SeriesPlaces) -> None:
    fractional = segments(tmp_path / "series", {"nodule": sphere() * 0.4}, "FRACTIONAL")
    (row,) = read(fractional, tmp_path, places).unmatched
    assert row.reason == "it is empty"
    assert len(read(fractional, tmp_path, places, threshold=0.3).nodules) == 1


@pytest.mark.parametrize(("split", "count"), [("components", 2), ("segments", 1)])
def test_components_or_whole_segments_are_nodules(
    tmp_path: Path, places: SeriesPlaces, split: str, count: int
) -> None:
    drawn = segments(tmp_path / "series", {"nodule": dots((3, 4, 5), (4, 5, 6), (20, 9, 14))})
    found = read(drawn, tmp_path, places, split=split)
    diameters = [n.diameter_mm / VOXEL_MM for n in found.nodules]
    assert len(diameters) == count
    assert sum(d**3 for d in diameters) == pytest.approx(3)


@pytest.mark.parametrize("stated", [True, False])
def test_frames_left_out_do_not_make_slices_thicker(
    tmp_path: Path, places: SeriesPlaces, stated: bool
) -> None:
    drawn = segments(tmp_path / "series", {"nodule": dots((3, 4, 5), (3, 4, 8), (3, 4, 11))})
    measures = drawn.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if not stated:
        del measures.SpacingBetweenSlices
    found = read(drawn, tmp_path, places)
    centers = [places.grid.world_to_voxel(n.center_mm) for n in found.nodules]
    assert sorted(float(center[2]) for center in centers) == pytest.approx([5, 8, 11])
    assert [n.diameter_mm for n in found.nodules] == pytest.approx([VOXEL_MM] * 3)


def test_segments_of_other_things_are_listed_by_number(
    tmp_path: Path, places: SeriesPlaces
) -> None:
    drawn = segments(tmp_path / "series", {"lung": dots((1, 1, 1)), "nodule": dots((3, 4, 5))})
    found = read(drawn, tmp_path, places)
    assert len(found.nodules) == 1
    assert [(r.source, r.row) for r in found.unmatched] == [("f000007", "segment 1")]
    assert len(read(drawn, tmp_path, places, findings=()).nodules) == 2


def test_a_series_of_the_same_frame_of_reference_gets_the_nodule_where_none_is_named(
    tmp_path: Path, places: SeriesPlaces
) -> None:
    drawn = segments(tmp_path / "series", {"nodule": dots((3, 4, 5))})
    other = SeriesPlaces("1.2.9", places.grid, places.frame_of_reference_uid)
    assert [n.seriesuid for n in read(drawn, tmp_path, other).nodules] == ["1.2.9"]
    stranger = SeriesPlaces("1.2.9", places.grid, "1.7")
    (row,) = read(drawn, tmp_path, stranger).unmatched
    assert row.reason == "none of its referenced series and frames is in the archive"
    assert row.key == SERIESUID


def test_a_segmentation_without_its_pixels_is_listed(tmp_path: Path, places: SeriesPlaces) -> None:
    drawn = segments(tmp_path / "series", {"nodule": dots((3, 4, 5))})
    del drawn.PixelData
    found = read(drawn, tmp_path, places)
    assert found.nodules == ()
    assert found.unmatched[0].reason.startswith("its content is damaged")
    assert found.unmatched[0].key == str(drawn.SOPInstanceUID)


def test_a_ct_slice_is_no_segmentation(tmp_path: Path, places: SeriesPlaces) -> None:
    ref = FileRef(next((tmp_path / "series").iterdir()))
    found = read_reference_source(SegAnnotations(kind="seg"), {SERIESUID: places}, {"seg": [ref]})
    assert found.notes == ("1 files are not DICOM SEG",)
