"""Voxels in the body: lungs and soft tissue, without the air around the patient and padding."""

from dataclasses import replace

import numpy as np
import pytest

from medkd.geometry import VoxelGrid
from medkd.lungs import sample_body
from medkd.types import Scan
from tests.lungs.scans import stored_as


def tube(size: int = 40, *, outside_hu: int = -1000) -> Scan:
    """A cylinder of 40 HU along k, 4 mm voxels, with a core of -800 HU in air."""
    place = np.arange(size) - (size - 1) / 2
    radius = np.hypot(place[:, None], place[None, :])
    slice_hu = np.where(radius < 6, -800, np.where(radius < 12, 40, outside_hu))
    voxels = np.repeat(slice_hu[:, :, None], 10, axis=2).astype(np.int16)
    grid = VoxelGrid(voxels.shape, np.diag([4.0, 4.0, 4.0, 1.0]))
    return Scan("1.2", voxels, grid, patient_id="p")


@pytest.mark.parametrize("outside_hu", [-1000, -2000])
def test_the_body_is_soft_tissue_and_lung_but_not_what_is_around_it(outside_hu):
    scan = tube(outside_hu=outside_hu)

    found = sample_body(scan)

    assert set(found.tolist()) == {-800, 40}
    assert (found == -800).sum() == (scan.voxels_hu == -800).sum()
    assert (found == 40).sum() == (scan.voxels_hu == 40).sum()


def test_storage_order_does_not_matter():
    scan = tube()
    turned = stored_as(scan, (2, 0, 1), (True, False, True))

    assert sorted(sample_body(turned)) == sorted(sample_body(scan))


def test_a_scan_of_air_has_no_body():
    scan = tube()
    empty = replace(scan, voxels_hu=np.full_like(scan.voxels_hu, -1000))

    assert len(sample_body(empty)) == 0


def test_the_body_of_a_phantom_has_lung_and_soft_tissue(phantom):
    found = sample_body(phantom.scan)

    share = {"lung": (found < -500).mean(), "tissue": (found > -200).mean()}
    assert 0.1 < share["lung"] < 0.6
    assert 0.3 < share["tissue"] < 0.9
