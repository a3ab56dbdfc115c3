from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom import sr
from pydicom.sr.codedict import codes

from medkd.io.file_ref import FileRef
from medkd.io.reference import ReferenceRows, SeriesPlaces, read_reference_source
from medkd.io.reference.dicom_sr import SrAnnotations
from tests.io.reference.oblique import CENTER_VOX, DIAMETER_MM, off_by_vox, write_oblique_series
from tests.io.reference.sr_helper import (
    LONG,
    SHORT,
    bare,
    circle_pixels,
    images_by_k,
    in_world,
    num,
    on_image,
    planar,
    volumetric,
    volumetric_surface,
    write_report,
)

COL, ROW, SLICE = CENTER_VOX
LESION = codes.SCT.Nodule._replace(value="52988006", meaning="Lesion")


@dataclass
class Series:
    places: SeriesPlaces
    images: list[pydicom.Dataset]

    @property
    def image(self) -> pydicom.Dataset:
        """The slice through the sphere's centre."""
        return self.images[SLICE]

    def world(self, *offsets_mm: tuple[float, float, float]) -> np.ndarray:
        """Places off the sphere's centre, along rows, columns and the normal."""
        center = self.places.grid.voxel_to_world(CENTER_VOX)
        return center + np.asarray(offsets_mm) @ self.places.grid.direction.T


@pytest.fixture
def series(tmp_path: Path) -> Series:
    places = write_oblique_series(tmp_path / "series")
    return Series(places, images_by_k(tmp_path / "series"))


def read(places: SeriesPlaces, *refs: FileRef, **settings: Any) -> ReferenceRows:
    parsed = SrAnnotations(kind="sr", **settings)
    return read_reference_source(parsed, {places.seriesuid: places}, {"sr": list(refs)})


R = DIAMETER_MM / 2
VOLUME_MM3 = np.pi / 6 * DIAMETER_MM**3
LINE_PX = [[COL - R / 0.7, ROW], [COL + R / 0.7, ROW]]
ACROSS_PX = [[COL, ROW - R / 0.9], [COL, ROW + R / 0.9]]

GROUPS: dict[str, Callable[[Series], Any]] = {
    "SCOORD point and diameter": lambda s: planar(
        on_image("POINT", [[COL, ROW]], s.image),
        measurements=[num(codes.SCT.Diameter, 0.8, codes.UCUM.Centimeter)],
    ),
    "SCOORD line": lambda s: planar(on_image("POLYLINE", LINE_PX, s.image)),
    "SCOORD closed polyline": lambda s: planar(on_image("POLYLINE", circle_pixels(), s.image)),
    "SCOORD ellipse": lambda s: planar(on_image("ELLIPSE", [*LINE_PX, *ACROSS_PX], s.image)),
    "SCOORD3D point and axes": lambda s: planar(
        in_world("POINT", s.world((0, 0, 0)), s.places.frame_of_reference_uid),
        measurements=[num(LONG, 9), num(SHORT, 7)],
    ),
    "SCOORD3D line": lambda s: planar(
        in_world("POLYLINE", s.world((-R, 0, 0), (R, 0, 0)), s.places.frame_of_reference_uid)
    ),
    "SCOORD3D polygon": lambda s: planar(
        in_world(
            "POLYGON",
            s.places.grid.voxel_to_world(np.column_stack([circle_pixels(), [SLICE] * 121])),
            s.places.frame_of_reference_uid,
        )
    ),
    "SCOORD3D ellipsoid": lambda s: volumetric_surface(
        s.world((-R - 1, 0, 0), (R + 1, 0, 0), (0, -R, 0), (0, R, 0), (0, 0, 1 - R), (0, 0, R - 1)),
        s.places.frame_of_reference_uid,
        s.images,
        measurements=[num(codes.SCT.Diameter, DIAMETER_MM)],
    ),
    "two axes below their measurements": lambda s: bare(
        [num(LONG, 8, referenced_coordinates=[_line(LINE_PX, s)]),
         num(SHORT, 8, referenced_coordinates=[_line(ACROSS_PX, s)])]
    ),
    "volume": lambda s: planar(
        on_image("POINT", [[COL, ROW]], s.image),
        measurements=[num(codes.SCT.Volume, VOLUME_MM3, codes.UCUM.CubicMillimeter)],
    ),
}  # fmt: skip


def _line(pixels: list[list[float]], s: Series) -> sr.CoordinatesForMeasurement:
    source = sr.SourceImageForRegion(s.image.SOPClassUID, s.image.SOPInstanceUID)
    return sr.CoordinatesForMeasurement("POLYLINE", np.asarray(pixels) + 0.5, source)


@pytest.mark.parametrize("form", GROUPS)
def test_every_form_of_region_marks_the_sphere_of_an_oblique_series(
    tmp_path: Path, series: Series, form: str
) -> None:
    ref = write_report(tmp_path / "sr", [GROUPS[form](series)], series.images)
    found = read(series.places, ref)
    assert found.unmatched == ()
    (nodule,) = found.nodules
    assert off_by_vox(series.places, nodule.center_mm) < 0.01
    assert nodule.diameter_mm == pytest.approx(DIAMETER_MM, rel=2e-3)


def test_outlines_on_several_slices_give_the_volume_between_them(
    tmp_path: Path, series: Series
) -> None:
    square = [[COL - 2, ROW - 2], [COL + 2, ROW - 2], [COL + 2, ROW + 2], [COL - 2, ROW + 2]]
    closed = [*square, square[0]]
    regions = [on_image("POLYLINE", closed, series.images[SLICE + n]) for n in (-1, 0, 1)]
    ref = write_report(tmp_path / "sr", [volumetric(regions)], series.images)
    (nodule,) = read(series.places, ref).nodules
    # 4 x 4 pixels of .7 x .9 mm on three slices 1.5 mm apart.
    volume_mm3 = 16 * 0.7 * 0.9 * 3 * 1.5
    assert nodule.diameter_mm == pytest.approx((6 * volume_mm3 / np.pi) ** (1 / 3), rel=1e-4)
    assert off_by_vox(series.places, nodule.center_mm) < 0.01


def test_a_newer_report_of_the_same_tracking_uid_supersedes_the_older(
    tmp_path: Path, series: Series
) -> None:
    uid = hd.UID()
    refs = []
    for name, diameter, date in (("new", 6, "20240102"), ("old", 5, "20240101")):
        point = on_image("POINT", [[COL, ROW]], series.image)
        group = planar(point, uid, measurements=[num(codes.SCT.Diameter, diameter)])
        refs.append(write_report(tmp_path / name, [group], series.images, ContentDate=date))
    found = read(series.places, *refs)
    assert [nodule.diameter_mm for nodule in found.nodules] == [6]
    assert [(row.source, row.row) for row in found.unmatched] == [("fold", "group 1")]


def diameter() -> list[sr.Measurement]:
    return [num(codes.SCT.Diameter, 5)]


REFUSED: dict[str, tuple[Callable[[Series], Any], str]] = {
    "another finding": (
        lambda s: planar(
            on_image("POINT", [[COL, ROW]], s.image), finding_type=codes.SCT.LymphNode,
            measurements=diameter(),
        ),
        "its finding (Lymph Node) is not one of the findings in the settings",
    ),
    "a nodule elsewhere": (
        lambda s: planar(
            on_image("POINT", [[COL, ROW]], s.image), finding_type=codes.SCT.ThyroidNodule,
            measurements=diameter(),
        ),
        "its finding (Thyroid Nodule) is not one of the findings in the settings",
    ),
    "another site": (
        lambda s: planar(
            on_image("POINT", [[COL, ROW]], s.image), measurements=diameter(),
            finding_sites=[sr.FindingSite(codes.SCT.LobeOfThyroid)],
        ),
        "its finding site (Lobe of thyroid) is not one of the sites in the settings",
    ),
    "no finding": (
        lambda s: planar(
            on_image("POINT", [[COL, ROW]], s.image), finding_type=None, measurements=diameter()
        ),
        "its finding (not coded) is not one of the findings in the settings",
    ),
    "no diameter": (
        lambda s: planar(on_image("POINT", [[COL, ROW]], s.image)),
        "it states no diameter and its region has none",
    ),
    "an unknown unit": (
        lambda s: planar(
            on_image("POINT", [[COL, ROW]], s.image),
            measurements=[num(codes.SCT.Diameter, 5, codes.UCUM.HounsfieldUnit)],
        ),
        "it states no diameter and its region has none",
    ),
    "another frame": (
        lambda s: planar(in_world("POINT", s.world((0, 0, 0)), "1.7"), measurements=diameter()),
        "no series of the archive is in its frame of reference",
    ),
    "outside": (
        lambda s: planar(on_image("POINT", [[COL, 32]], s.image), measurements=diameter()),
        "outside the volume: voxel (13, 32, 9) of (40, 32, 24)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_a_group_that_is_no_nodule_here_is_listed_with_its_reason(
    tmp_path: Path, series: Series, fault: str
) -> None:
    make, reason = REFUSED[fault]
    found = read(series.places, write_report(tmp_path / "sr", [make(series)], series.images))
    assert found.nodules == ()
    assert reason in [row.reason for row in found.unmatched]
    assert "Doe" not in str(found)


def test_asked_for_everything_a_group_of_any_finding_at_any_site_is_taken(
    tmp_path: Path, series: Series
) -> None:
    groups = [REFUSED[name][0](series) for name in ("another finding", "another site")]
    ref = write_report(tmp_path / "sr", groups, series.images)
    assert len(read(series.places, ref, findings=(), sites=()).nodules) == 2


@pytest.mark.parametrize(
    ("finding", "site", "taken"),
    [
        (None, codes.SCT.Lung, 1),
        (LESION, codes.SCT.Lung, 1),
        (LESION, None, 0),
        (codes.SCT.LymphNode, codes.SCT.Lung, 0),
        (codes.SCT.Nodule, codes.SCT.LobeOfThyroid, 0),
    ],
)
def test_a_vague_finding_is_a_nodule_where_its_site_is_the_lung(
    tmp_path: Path, series: Series, finding: Any, site: Any, taken: int
) -> None:
    group = planar(
        on_image("POINT", [[COL, ROW]], series.image),
        finding_type=finding,
        finding_sites=[sr.FindingSite(site)] if site else None,
        measurements=diameter(),
    )
    found = read(series.places, write_report(tmp_path / "sr", [group], series.images))
    assert (len(found.nodules), len(found.unmatched)) == (taken, 1 - taken)


def test_a_finding_in_a_site_s_own_words_is_not_told(tmp_path: Path, series: Series) -> None:
    words = codes.SCT.Nodule._replace(value="own", scheme_designator="99OWN", meaning="as Doe^Jane")
    point = on_image("POINT", [[COL, ROW]], series.image)
    ref = write_report(tmp_path / "sr", [planar(point, finding_type=words)], series.images)
    (row,) = read(series.places, ref).unmatched
    assert row.reason == "its finding (not coded) is not one of the findings in the settings"


def test_an_image_of_another_archive_is_listed(tmp_path: Path, series: Series) -> None:
    ref = write_report(tmp_path / "sr", [GROUPS["SCOORD line"](series)], series.images)
    stranger = SeriesPlaces("1.2.9", series.places.grid)
    (row,) = read(stranger, ref).unmatched
    assert row.reason == "the image on which it is drawn is in no series of the archive"
    assert row.key == series.places.seriesuid


def test_a_report_of_words_alone_is_listed(tmp_path: Path, series: Series) -> None:
    ref = write_report(tmp_path / "sr", [GROUPS["SCOORD line"](series)], series.images)
    report = pydicom.dcmread(ref.path)
    report.ContentSequence = [i for i in report.ContentSequence if i.ValueType != "CONTAINER"]
    report.save_as(ref.path)
    (row,) = read(series.places, ref).unmatched
    assert (row.source, row.row) == ("fsr", "object")
    assert row.reason == "it has no measurement group of TID 1500"
