from __future__ import annotations

from dataclasses import replace

import pytest

from medkd.io.reference.keys import FileNames
from medkd.io.reference.places import ArchiveLookup
from tests.io.reference.oblique import FRAME, SERIESUID, oblique_places


def test_a_slice_is_found_by_its_image_uid_and_by_its_instance_number() -> None:
    places = oblique_places()
    assert places.slices_of_sop(f"{SERIESUID}.2.5") == (5,)
    assert places.slices_of_instance(101 - 5) == (5,)
    assert places.slices_of_sop("1.2.3") == ()


def test_slices_without_uid_are_found_by_no_empty_one() -> None:
    places = replace(oblique_places(), sop_uids=("",) * 24)
    assert places.slices_of_sop("") == ()
    assert ArchiveLookup({SERIESUID: places}).of_sop("") is None


def test_a_repeated_instance_number_gives_every_slice_that_has_it() -> None:
    places = replace(oblique_places(), instance_numbers=(7,) * 24)
    assert len(places.slices_of_instance(7)) == 24


def test_a_frame_of_a_multi_frame_image_is_one_slice() -> None:
    places = replace(
        oblique_places(), sop_uids=("1.9",) * 24, frame_numbers=tuple(range(24, 0, -1))
    )
    assert places.slices_of_sop("1.9", frame=24) == (0,)
    assert len(places.slices_of_sop("1.9")) == 24


def test_a_tuple_that_is_not_one_a_slice_is_an_error() -> None:
    with pytest.raises(ValueError, match="each of 24 slices, got 2"):
        replace(oblique_places(), sop_uids=("1.9", "1.8"))


def test_a_shared_frame_of_reference_means_the_named_series_or_else_all() -> None:
    soft, sharp = oblique_places(), oblique_places(seriesuid="1.2.9")
    finder = ArchiveLookup({s.seriesuid: s for s in (soft, sharp)})
    assert finder.sharing_frame(FRAME, [SERIESUID, "1.7"]) == (soft,)
    assert finder.sharing_frame(FRAME) == (soft, sharp)
    assert finder.sharing_frame("1.7") == ()


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("a.png", ("one/a.png",)),
        ("one/a.png", ("one/a.png",)),
        ("Set-v1/one/a.jpg", ("one/a.png",)),
        ("other/a.png", ()),
        ("b", ("one/b.dcm", "two/b.dcm")),
        ("two/b.png", ("two/b.dcm",)),
        ("1.2.840.17", ("1.2.840.17.dcm",)),
        ("2.840.17", ()),
        ("", ()),
    ],
)
def test_a_key_finds_the_files_whose_path_ends_as_it_does(key: str, found: tuple[str, ...]) -> None:
    names = FileNames(["one/a.png", "one/b.dcm", "two/b.dcm", "1.2.840.17.dcm"])
    assert names.find(key) == found


def test_a_flat_file_is_not_taken_for_a_key_with_folders() -> None:
    assert FileNames(["view1.png"]).find("patient7/study1/view1.png") == ()


def test_of_files_that_agree_equally_the_one_with_the_same_suffix_is_meant() -> None:
    names = FileNames(["x/a.png", "x/a.dcm"])
    assert names.find("a.dcm") == ("x/a.dcm",)
    assert names.find("a") == ("x/a.png", "x/a.dcm")
