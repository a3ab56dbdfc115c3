"""Other scans of a patient: their order, what is said of their time, and how they are aligned."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkd.geometry import VoxelGrid
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, write_index
from medkd.review.opened import Review
from medkd.review.place_words import lungs_of
from medkd.review.priors import (
    Alignment,
    align_scans,
    find_other_scans,
    index_of,
    lung_box,
    start_offset_mm,
)
from medkd.types import RunCase, Scan
from tests.viewer.two_scans import build_scans, nodules

HERE = Case("here", "p1", "scan", day=100)


def archive(*others):
    return ArchiveIndex((HERE, *others))


def other(name, day, **changes):
    return replace(HERE, case_id=name, day=day, **changes)


def test_the_latest_earlier_scan_comes_first_and_refused_ones_last():
    found = find_other_scans(
        archive(
            other("later", 130), other("unknown", None), other("oldest", 0), other("same", 100),
            other("last", 93), other("refused", 99, status="not_analysed"),
        ),
        "here",
    )  # fmt: skip
    names = [scan.case.case_id for scan in found]
    assert names == ["last", "oldest", "same", "later", "unknown", "refused"]
    words = [scan.time_words for scan in found]
    assert words == [
        "7 days before", "100 days (3 months) before", "same day", "30 days after",
        "time not recorded", "1 day before",
    ]  # fmt: skip
    assert [scan.is_earlier for scan in found] == [True, True, False, False, False, True]


def test_without_the_time_of_the_current_scan_no_order_is_claimed():
    cases = (replace(HERE, day=None), other("a", 0), other("b", 50))
    found = find_other_scans(ArchiveIndex(cases), "here")
    assert [scan.time_words for scan in found] == ["time not recorded"] * 2


def test_only_whole_scans_of_the_same_patient_are_offered():
    found = find_other_scans(
        archive(
            other("stranger", 0, patient_id="p2"),
            other("patch", 0, extent="patch"),
            replace(other("image", 0), kind="image"),
        ),
        "here",
    )
    assert found == []
    nameless = ArchiveIndex((replace(HERE, patient_id=""), other("a", 0, patient_id="")))
    assert find_other_scans(nameless, "here") == []
    assert find_other_scans(nameless, "unknown") == []


def test_a_choice_says_how_a_scan_was_made_and_never_a_date():
    case = other("a", 93, shape=(512, 512, 133), slice_thickness_mm=2.5, kernel="B70f")
    (found,) = find_other_scans(archive(case), "here")
    assert found.words == "7 days before, 133 slices, 2.5 mm, B70f"
    (refused,) = find_other_scans(archive(other("a", 93, status="not_analysed")), "here")
    assert refused.words == "7 days before, refused"


def test_only_a_case_that_is_read_through_an_index_has_other_scans(tmp_path):
    index = tmp_path / "index.csv"
    write_index(index, archive())
    case = RunCase("here", "", "scan", "scan.mhd", "", None, None, None, "analysed")
    (tmp_path / "scan.mhd").write_text("ObjectType = Image")
    assert index_of(Review("INDEX", index), case) == index
    assert index_of(Review("RESULTS", tmp_path, index), case) == index
    assert index_of(Review("RUN", tmp_path), case) is None
    assert index_of(Review("RUN", tmp_path), replace(case, path="index.csv")) == index
    assert index_of(Review("RESULTS", tmp_path), replace(case, path="")) is None


def test_the_lungs_of_both_scans_are_aligned():
    here, there, _ = build_scans()
    boxes = lung_box(lungs_of(here)), lung_box(lungs_of(there))
    alignment = align_scans(here.grid, there.grid, lungs=boxes)
    assert alignment.by == "lungs"
    nodule, smaller, _ = nodules()
    # Both are a quarter of the lungs' height above their middle; voxels have up to 7 mm.
    found = np.add(nodule.center_mm, start_offset_mm(nodule.center_mm, alignment))
    np.testing.assert_allclose(found, smaller.center_mm, atol=4)


def test_where_lungs_are_missing_the_whole_scans_are_aligned():
    grid = VoxelGrid.from_parts((5, 6, 11), spacing_mm=(1, 1, 2), origin_mm=(0, 0, 0))
    longer = VoxelGrid.from_parts((5, 6, 41), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 100))
    assert lung_box(lungs_of(Scan("s", np.zeros((5, 6, 11), np.int16), grid, "p"))) is None
    alignment = align_scans(grid, longer, lungs=(None, ((0, 0, 0), (1, 1, 1))))
    assert alignment.by == "scans"
    # Slice 5 of 0 to 10 is in the middle, at 10 mm; so is slice 20 of 0 to 40, at 120 mm.
    assert start_offset_mm((2.0, 2.5, 10.0), alignment) == (0, 0, 110)


@pytest.mark.parametrize(
    ("z_mm", "wanted"), [(-30.0, -80.0), (0.0, -50.0), (200.0, 250.0), (210.0, 260.0)]
)
def test_beyond_the_lungs_the_distance_to_them_counts(z_mm, wanted):
    boxes = Alignment("lungs", ((0, 0, 0), (1, 1, 200)), ((0, 0, -50), (1, 1, 250)))
    assert z_mm + start_offset_mm((0.0, 0.0, z_mm), boxes)[2] == wanted


@given(st.floats(0, 200), st.floats(0, 200))
def test_higher_in_one_scan_is_never_lower_in_the_other(one, other_z):
    boxes = Alignment("lungs", ((0, 0, 0), (1, 1, 200)), ((0, 0, 30), (1, 1, 180)))
    paired = [z + start_offset_mm((0.0, 0.0, z), boxes)[2] for z in sorted((one, other_z))]
    assert paired == sorted(paired)
