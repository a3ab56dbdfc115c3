from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from medkd.errors import SeriesError
from medkd.io.file_ref import FileRef
from medkd.io.reference import ReferenceRows, SeriesPlaces, read_reference_source
from medkd.io.reference.rtstruct import RtstructAnnotations
from tests.io.reference.oblique import (
    CENTER_VOX,
    DIAMETER_MM,
    FRAME,
    SERIESUID,
    oblique_places,
    off_by_vox,
    write_oblique_series,
)

Outline = tuple[np.ndarray, str | None]
"""Points [N, 3] LPS mm, and the image they are drawn on, if it is said."""


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def write_rtstruct(
    path: Path, rois: dict[str, Sequence[Outline]], frame: str, kind: str = "CLOSED_PLANAR"
) -> FileRef:
    dataset = item(
        SOPClassUID=RTStructureSetStorage, SOPInstanceUID=generate_uid(), Modality="RTSTRUCT"
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StructureSetROISequence = [
        item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame)
        for n, name in enumerate(rois, start=1)
    ]
    dataset.ROIContourSequence = [
        item(ReferencedROINumber=n, ContourSequence=[_contour(o, kind) for o in outlines])
        for n, outlines in enumerate(rois.values(), start=1)
    ]
    dataset.save_as(path, enforce_file_format=True)
    return FileRef(path, label="f000001")


def _contour(outline: Outline, kind: str) -> Dataset:
    points, sop_uid = outline
    if len(points) < 3 and kind == "CLOSED_PLANAR":
        kind = "POINT" if len(points) == 1 else "OPEN_PLANAR"
    contour = item(
        ContourGeometricType=kind,
        NumberOfContourPoints=len(points),
        ContourData=[f"{value:.8g}" for value in points.ravel()],
    )
    if sop_uid:
        contour.ContourImageSequence = [item(ReferencedSOPInstanceUID=sop_uid)]
    return contour


def circles(places: SeriesPlaces) -> list[Outline]:
    """The outlines of the sphere on each slice that it crosses."""
    center = places.grid.voxel_to_world(CENTER_VOX)
    across, down = places.grid.direction[:, 0], places.grid.direction[:, 1]
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)[:, None]
    outlines = []
    for k in range(places.grid.shape[2]):
        along = (k - CENTER_VOX[2]) * places.grid.spacing_mm[2]
        radius = np.sqrt(max((DIAMETER_MM / 2) ** 2 - along**2, 0))
        if radius > 0:
            middle = center + along * places.grid.direction[:, 2]
            ring = middle + radius * (np.cos(angles) * across + np.sin(angles) * down)
            outlines.append((ring, places.sop_uids[k]))
    return outlines


def read(ref: FileRef, *places: SeriesPlaces, **settings: Any) -> ReferenceRows:
    parsed = RtstructAnnotations(kind="rtstruct", **settings)
    return read_reference_source(parsed, {p.seriesuid: p for p in places}, {"rtstruct": [ref]})


def test_contours_on_oblique_slices_give_the_sphere_they_outline(tmp_path: Path) -> None:
    places = write_oblique_series(tmp_path / "series")
    ref = write_rtstruct(tmp_path / "rt", {"Nodule 1": circles(places)}, "")
    (nodule,) = read(ref, places).nodules
    assert off_by_vox(places, nodule.center_mm) < 0.05
    # Five slices 1.5 mm apart sample the sphere: their sum is within 2 % of its volume.
    assert nodule.diameter_mm == pytest.approx(DIAMETER_MM, rel=0.02)


def square(side: float, at: float = 0.0) -> np.ndarray:
    """A square in the plane of slice 4, its centre on voxel (20, 16) and `at` mm along a row."""
    grid = oblique_places().grid
    corners = np.asarray([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side / 2
    across, down = grid.direction[:, 0], grid.direction[:, 1]
    middle = grid.voxel_to_world([20, 16, 4]) + at * across
    return middle + corners[:, :1] * across + corners[:, 1:] * down


@pytest.mark.parametrize(
    ("squares", "area_mm2"),
    [
        ([square(6)], 36),
        ([square(6), square(2)], 32),
        ([square(6), square(4), square(2)], 36 - 16 + 4),
        ([square(2, -4), square(2, 4)], 8),
        ([square(6)[::-1]], 36),
    ],
    ids=["one", "a hole", "an island in the hole", "two side by side", "drawn backwards"],
)
def test_the_area_of_one_plane_is_that_within_its_contours(
    tmp_path: Path, squares: list[np.ndarray], area_mm2: float
) -> None:
    ref = write_rtstruct(tmp_path / "rt", {"nodule": [(s, None) for s in squares]}, FRAME)
    (nodule,) = read(ref, oblique_places()).nodules
    # One plane alone is as thick as the series' slices are apart, 1.5 mm.
    assert nodule.diameter_mm == pytest.approx((6 * area_mm2 * 1.5 / np.pi) ** (1 / 3), rel=1e-4)
    center = oblique_places().grid.world_to_voxel(nodule.center_mm)
    assert center == pytest.approx([20, 16, 4], abs=1e-4)


def test_regions_of_other_names_are_listed_by_number_since_a_name_may_be_a_patient_s(
    tmp_path: Path,
) -> None:
    rois = {"Heart Doe^Jane": [(square(6), None)], "GTV-1": [(square(6), None)]}
    ref = write_rtstruct(tmp_path / "rt", rois, FRAME)
    found = read(ref, oblique_places())
    assert len(found.nodules) == 1
    (row,) = found.unmatched
    assert (row.source, row.row) == ("f000001", "region 1")
    assert "Doe" not in str(found)
    assert len(read(ref, oblique_places(), findings=()).nodules) == 2


def test_a_frame_of_reference_means_every_series_in_it(tmp_path: Path) -> None:
    ref = write_rtstruct(tmp_path / "rt", {"nodule": [(square(6), None)]}, FRAME)
    found = read(ref, oblique_places(), oblique_places(seriesuid="1.2.9"))
    assert [nodule.seriesuid for nodule in found.nodules] == [SERIESUID, "1.2.9"]


def test_a_series_named_by_the_object_goes_before_others_of_its_frame(tmp_path: Path) -> None:
    ref = write_rtstruct(tmp_path / "rt", {"nodule": [(square(6), None)]}, FRAME)
    dataset = pydicom.dcmread(ref.path)
    study = item(RTReferencedSeriesSequence=[item(SeriesInstanceUID="1.2.9")])
    dataset.ReferencedFrameOfReferenceSequence = [
        item(FrameOfReferenceUID=FRAME, RTReferencedStudySequence=[study])
    ]
    dataset.save_as(ref.path)
    found = read(ref, oblique_places(), oblique_places(seriesuid="1.2.9"))
    assert [nodule.seriesuid for nodule in found.nodules] == ["1.2.9"]


@pytest.mark.parametrize(
    ("outlines", "kind", "frame", "reason"),
    [
        ([(square(6), None)], "CLOSED_PLANAR", "1.7", "none of its referenced series and frames"),
        ([(square(6)[:1], None)], "POINT", FRAME, "expected closed planar contours, got POINT"),
        ([], "CLOSED_PLANAR", FRAME, "expected closed planar contours, got none"),
        ([(square(0), None)], "CLOSED_PLANAR", FRAME, "its outlines enclose no area"),
        ([(square(6) + 500, None)], "CLOSED_PLANAR", FRAME, "outside the volume"),
        (
            [(np.add(square(6), np.diag([0, 0, 0, 9])[:, 1:]), None)],
            "CLOSED_PLANAR", FRAME, "expected outlines in parallel planes",
        ),
    ],
)  # fmt: skip
def test_a_region_that_gives_no_nodule_is_listed_with_its_reason(
    tmp_path: Path, outlines: list[Outline], kind: str, frame: str, reason: str
) -> None:
    ref = write_rtstruct(tmp_path / "rt", {"nodule": outlines}, frame, kind)
    found = read(ref, oblique_places())
    assert found.nodules == ()
    assert found.unmatched[0].reason.startswith(reason)


def test_a_folder_of_the_user_is_searched_and_other_files_are_counted(tmp_path: Path) -> None:
    ref = write_rtstruct(tmp_path / "rt", {"nodule": [(square(6), None)]}, FRAME)
    (tmp_path / "again").write_bytes(ref.path.read_bytes())
    (tmp_path / "text.txt").write_text("no DICOM")
    settings = RtstructAnnotations(kind="rtstruct", path=tmp_path)
    found = read_reference_source(settings, {SERIESUID: oblique_places()})
    assert len(found.nodules) == 1
    assert found.notes == ("1 files are not DICOM RTSTRUCT",)
    assert found.unmatched[0].reason == "the same object was read from another file"


def test_an_object_without_dicom_s_preamble_is_read(tmp_path: Path) -> None:
    ref = write_rtstruct(tmp_path / "rt", {"nodule": [(square(6), None)]}, FRAME)
    ref.path.write_bytes(ref.path.read_bytes()[132:])
    assert len(read(ref, oblique_places()).nodules) == 1


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    settings = RtstructAnnotations(kind="rtstruct", path=tmp_path / "absent")
    with pytest.raises(SeriesError, match="no such file or folder"):
        read_reference_source(settings, {})


def test_a_structure_set_that_does_not_hold_together_is_listed(tmp_path: Path) -> None:
    ref = write_rtstruct(tmp_path / "rt", {"nodule": [(square(6)[:, :2], None)]}, FRAME)
    (row,) = read(ref, oblique_places()).unmatched
    assert row.reason == "its content is damaged (ValueError)"


@pytest.mark.parametrize("points", [1, 2])
def test_a_point_or_a_line_beside_closed_contours_is_lost_and_not_the_nodule(
    tmp_path: Path, points: int
) -> None:
    plain = write_rtstruct(tmp_path / "a", {"Nodule": [(square(6), None)]}, FRAME)
    (expected,) = read(plain, oblique_places()).nodules
    odd = [(square(20, at=9)[:points], None), (square(6), None)]
    found = read(write_rtstruct(tmp_path / "b", {"Nodule": odd}, FRAME), oblique_places())
    assert found.nodules == (expected,)
    kind = "POINT" if points == 1 else "OPEN_PLANAR"
    assert any(note.startswith(f"contours of type {kind} beside") for note in found.notes)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR", " closed_planar "])
def test_a_contour_that_is_repeated_counts_once(tmp_path: Path, kind: str) -> None:
    plain = write_rtstruct(tmp_path / "a", {"Nodule": [(square(6), None)]}, FRAME)
    (expected,) = read(plain, oblique_places()).nodules
    twice = [(square(6), None), (np.roll(square(6), 1, axis=0)[::-1], None)]
    found = read(write_rtstruct(tmp_path / "b", {"Nodule": twice}, FRAME, kind), oblique_places())
    assert found.nodules[0].diameter_mm == pytest.approx(expected.diameter_mm)
    assert "contours that are drawn twice count once" in found.notes
