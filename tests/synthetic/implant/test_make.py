"""Synthetic nodules in one scan."""

import dataclasses

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.lungs import find_lungs
from medkd.synthetic.implant.kept import NoduleRow, ScanRow, views_of
from medkd.synthetic.implant.make import ImplantedScan, implant_scan
from medkd.synthetic.implant.measured import PlaceFinder, slice_axis
from medkd.synthetic.implant.settings import ImplantSettings
from medkd.types import Scan


def test_pixels_differ_only_around_the_nodules(implanted: ImplantedScan):
    changed = np.argwhere(implanted.scan.voxels_hu != implanted.original.voxels_hu)
    where = implanted.scan.grid.voxel_to_world(changed)
    inside = np.zeros(len(where), dtype=bool)
    for implant in implanted.implants:
        away = np.linalg.norm(where - implant.center_mm, axis=1)
        inside |= away <= implant.changed_mm + 1e-6
    assert len(changed) > 100
    assert inside.all()


def test_the_original_is_left_as_it_was(chest: Scan, implanted: ImplantedScan):
    assert implanted.original is chest
    assert not np.shares_memory(implanted.scan.voxels_hu, chest.voxels_hu)


def test_nodules_are_in_the_lungs_and_apart(chest: Scan, implanted: ImplantedScan):
    centers = np.array([implant.center_mm for implant in implanted.implants])
    assert find_lungs(chest).contains(centers).all()
    apart = np.linalg.norm(centers[:, None] - centers[None], axis=2)[np.triu_indices(2, 1)]
    assert apart.min() > 8.0


def test_sizes_are_in_the_requested_range(implanted: ImplantedScan):
    for implant in implanted.implants:
        cut = implant.kind.attachment == "pleura"
        assert implant.diameter_mm <= 8.1
        assert implant.diameter_mm >= (2.0 if cut else 4.9)


def test_the_same_seed_gives_the_same_nodules(chest: Scan, implanted: ImplantedScan):
    again = implant_scan(chest, ImplantSettings(n=2, sizes="5-8"))
    np.testing.assert_array_equal(again.scan.voxels_hu, implanted.scan.voxels_hu)


def test_another_scan_gets_other_nodules(chest: Scan):
    other = dataclasses.replace(chest, seriesuid="1.2.3")
    made, again = (implant_scan(s, ImplantSettings(n=1, sizes="5-6")) for s in (chest, other))
    assert not np.allclose(made.implants[0].center_mm, again.implants[0].center_mm)


def test_slices_may_be_along_any_axis(chest: Scan):
    order = [2, 0, 1]
    affine = chest.grid.affine_lps_mm[:, [*order, 3]]
    thick = chest.voxels_hu.transpose(order)[::2]
    affine = affine @ np.diag([2.0, 1.0, 1.0, 1.0])
    turned = Scan("1.2.3", thick, VoxelGrid(thick.shape, affine), "p")
    made = implant_scan(turned, ImplantSettings(n=1, sizes="5-8"))
    assert made.scan.voxels_hu.shape == thick.shape
    assert find_lungs(turned).contains([made.implants[0].center_mm]).all()
    (views,) = views_of(made, row_of(made))
    rows, columns = views.across_after.shape  # rows are slices, 2 pixels apart
    assert rows < columns
    assert views.aspect > 1.0


def row_of(made: ImplantedScan) -> ScanRow:
    """Describe the single nodule of a scan."""
    (implant,) = made.implants
    place = (float(v) for v in implant.center_mm)
    nodule = NoduleRow(tuple(place), implant.diameter_mm, "solid", "round", "free", 0, 0, 9.0)
    return ScanRow("1.2.3", "source", "volume", 1.0, 0.0, 1, 1.0, 1.0, (nodule,))


@pytest.mark.parametrize(
    ("spacing_mm", "axis"),
    [
        ((0.7, 0.7, 0.625), 2), ((0.7, 0.7, 3.0), 2), ((1.0, 1.0, 1.0), 2),
        ((0.625, 0.7, 0.7), 0), ((0.7, 3.0, 0.7), 1),
    ],
)  # fmt: skip
def test_the_slice_axis_is_the_one_whose_other_spacings_are_equal(spacing_mm, axis):
    grid = VoxelGrid.from_parts((8, 8, 8), spacing_mm=spacing_mm, origin_mm=(0, 0, 0))
    assert slice_axis(grid) == axis


def test_a_scan_without_room_reports_how_many_nodules_fit(
    chest: Scan, monkeypatch: pytest.MonkeyPatch
):
    find = PlaceFinder.find
    monkeypatch.setattr(PlaceFinder, "find", lambda *args, **kwargs: find(*args, **kwargs)[:0])
    with pytest.raises(SeriesError, match="0 of 5 nodules fit"):
        implant_scan(chest, ImplantSettings(n=5, sizes="5-6"))


def test_progress_is_reported_to_its_end(chest: Scan):
    calls: dict[str, list[tuple[int, int]]] = {}
    implant_scan(
        chest, ImplantSettings(n=2, sizes="5-6"),
        progress=lambda what, done, total: calls.setdefault(what, []).append((done, total)),
    )  # fmt: skip
    assert calls == {"adding nodules": [(1, 2), (2, 2)]}


@pytest.mark.parametrize("sizes", ["2-5", "9-4", "4-60", "big"])
def test_invalid_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="expected luna16"):
        ImplantSettings(sizes=sizes)
