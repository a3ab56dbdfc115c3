"""Whether the lungs of a scan are complete."""

from dataclasses import replace

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.lungs import find_lungs, lungs_in_view
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Scan
from tests.lungs.scans import WHOLE, part


@pytest.mark.parametrize("site", ["a", "b"])
def test_whole_lungs_are_in_view_however_the_axes_run(site):
    scan = make_phantom(PhantomSettings(site=site), 1).scan
    assert lungs_in_view(scan) == []
    turned = VoxelGrid(scan.grid.shape[::-1], scan.grid.affine_lps_mm[:, [2, 1, 0, 3]])
    assert lungs_in_view(Scan("t", scan.voxels_hu.transpose(2, 1, 0), turned, "p")) == []


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        ((WHOLE, WHOLE, slice(0, 55)), "cut off at the top"),
        ((WHOLE, WHOLE, slice(45, None)), "cut off at the bottom"),
        ((WHOLE, WHOLE, slice(40, 60)), "cut off at the"),
        ((slice(45, None), WHOLE, WHOLE), "touch a side of the field of view"),
        ((WHOLE, WHOLE, slice(0, 8)), "no lungs found"),
    ],
)
def test_lungs_that_are_cut_off_are_not_in_view(phantom, cut, words):
    reasons = lungs_in_view(part(phantom.scan, *cut))
    assert reasons
    assert all(reason.startswith("lungs_not_in_view: ") for reason in reasons)
    assert any(words in reason for reason in reasons)


def test_top_and_bottom_are_named_by_the_world(phantom):
    scan = part(phantom.scan, WHOLE, WHOLE, slice(45, None))
    affine = scan.grid.affine_lps_mm.copy()
    affine[:3, 2] *= -1
    upside_down = replace(scan, grid=VoxelGrid(scan.grid.shape, affine))
    assert "at the top" in lungs_in_view(upside_down)[0]


def test_lungs_cut_by_a_round_field_of_view_are_not_in_view(phantom):
    scan = phantom.scan
    i, j = np.indices(scan.grid.shape[:2])
    middle = (np.asarray(scan.grid.shape[:2]) - 1) / 2
    narrow = np.hypot(i - middle[0], j - middle[1]) > 0.36 * scan.grid.shape[0]
    padded = np.where(narrow[..., None], np.int16(-2000), scan.voxels_hu)
    assert "touch a side" in lungs_in_view(replace(scan, voxels_hu=padded))[0]


def test_a_box_8_mm_around_the_lungs_shows_them_completely(phantom):
    box = find_lungs(phantom.scan).box
    assert lungs_in_view(part(phantom.scan, *box)) == []
