"""Geometry that a header does not state is not assumed, by one rule for MHD, NRRD and NIfTI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.io.metaimage import orientation_of
from medkd.io.volume import read_grid, read_volume, write_mhd
from tests.io.volume_files import CONTENT, VOXELS, write_mhd_text, write_nifti, write_nrrd_text
from tests.io.volume_helper import make_scan, oblique_grid

Writer = Callable[[Path], Path]


def refusal_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(SeriesError) as refusal:
        read_volume(path)
    with pytest.raises(SeriesError):
        read_grid(path)
    return refusal.value.reasons


def mhd(**changes: str | None) -> Writer:
    return lambda folder: write_mhd_text(folder, changes)


def nrrd(changes: dict[str, str | None]) -> Writer:
    return lambda folder: write_nrrd_text(folder, changes)


def nifti(**changes: object) -> Writer:
    return lambda folder: write_nifti(folder, **changes)


NO_CODES = {"codes": (0, 0)}
NO_PIXDIM = (1, 0, 0, 0, 0, 0, 0, 0)
FLIP = (-0.7, 0, 0, 10, 0, 0.8, 0, -20, 0, 0, 2, -30)

NOT_STATED = [
    ("spacing_not_stated", mhd(ElementSpacing=None)),
    ("spacing_not_stated", nrrd({"space directions": None, "space": "LPS"})),
    ("spacing_not_stated", nifti(pixdim=NO_PIXDIM)),
    ("placement_not_stated", mhd(TransformMatrix=None)),
    ("placement_not_stated", mhd(Offset=None)),
    ("placement_not_stated", mhd(TransformMatrix=None, AnatomicalOrientation="LPS")),
    ("placement_not_stated", nrrd({"space": None})),
    ("placement_not_stated", nrrd({"space": None, "space dimension": "3"})),
    ("placement_not_stated", nrrd({"space": "scanner-xyz"})),
    ("placement_not_stated", nrrd({"space": "3D-right-handed"})),
    ("placement_not_stated", nrrd({"space": "3D-left-handed"})),
    ("placement_not_stated", nrrd({"space": "left-posterior"})),
    ("placement_not_stated", nrrd({"space": "left-posterior-superior-time"})),
    ("placement_not_stated", nrrd({"space origin": None})),
    ("placement_not_stated", nrrd({"space directions": None, "spacings": "0.7 0.8 2"})),
    ("placement_not_stated", nifti(**NO_CODES)),
    ("other_units", mhd(DistanceUnits="um")),
    ("other_units", mhd(DistanceUnits="cm")),
    ("other_units", mhd(DistanceUnits="m")),
    ("other_units", nrrd({"space units": '"m" "m" "m"'})),
    ("other_units", nrrd({"space units": '"microns" "microns" "microns"'})),
    ("other_units", nrrd({"space units": '"cm" "cm" "cm"'})),
    ("other_units", nrrd({"space units": "cm cm cm"})),
    ("other_units", nrrd({"units": '"um" "um" "um"'})),
    ("other_units", nifti(units=1)),
    ("other_units", nifti(units=3)),
    ("other_units", nifti(units=3 + 8)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "write"), NOT_STATED, ids=lambda v: v if isinstance(v, str) else ""
)
def test_what_is_not_stated_is_refused_or_accepted_by_its_code(
    tmp_path: Path, code: str, write: Writer
) -> None:
    path = write(tmp_path)
    assert code in {reason.partition(": ")[0] for reason in refusal_of(path)}
    codes = {"spacing_not_stated", "placement_not_stated"} | {code}
    scan = read_volume(path, allow=codes)
    np.testing.assert_array_equal(scan.voxels_hu, VOXELS)
    assert any(note.startswith(f"allowed: {code}: ") for note in scan.notes)
    with pytest.raises(SeriesError, match=code):
        read_volume(path, allow=("slice_thickness", "few_slices"))


TURNED = "0.995 0.1 0 -0.1 0.995 0 0 0 1"


@pytest.mark.parametrize(
    "write",
    [
        mhd(AnatomicalOrientation="LPI"), mhd(AnatomicalOrientation="RSA"),
        mhd(AnatomicalOrientation="RRI"),
        mhd(AnatomicalOrientation="ARI", TransformMatrix=TURNED),
        mhd(TransformMatrix="-1 0 0 0 -1 0 0 0 1", AnatomicalOrientation="RAI"),
    ],
)  # fmt: skip
def test_an_orientation_in_letters_that_contradicts_the_matrix_is_noted(
    tmp_path: Path, write: Writer
) -> None:
    scan = read_volume(write(tmp_path))
    np.testing.assert_array_equal(scan.voxels_hu, VOXELS)
    assert ["contradicts TransformMatrix" in note for note in scan.notes] == [True]


def test_a_byte_order_that_is_not_stated_is_noted(tmp_path: Path) -> None:
    for odd in ("Tvue", "", "yes"):
        path = write_mhd_text(tmp_path, {"BinaryDataByteOrderMSB": odd})
        with pytest.raises(SeriesError, match="expected True or False, got BinaryDataByteOrderMSB"):
            read_volume(path)
    scan = read_volume(write_mhd_text(tmp_path, {"BinaryDataByteOrderMSB": None}))
    np.testing.assert_array_equal(scan.voxels_hu, VOXELS)
    assert scan.notes == ("the header states no byte order: read as little endian",)


ONE_FORM = nifti(sform=FLIP, pixdim=(-1, 0.7, 0.8, 2, 0, 0, 0, 0), codes=(0, 1))


@pytest.mark.parametrize("write", [mhd(), nrrd({}), nifti(), ONE_FORM])
def test_a_complete_header_has_no_notes(tmp_path: Path, write: Writer) -> None:
    assert read_volume(write(tmp_path)).notes == ()


@pytest.mark.parametrize(
    ("write", "spacing"),
    [
        (mhd(DistanceUnits="cm"), (7, 8, 20)),
        (nrrd({"space units": '"m" "m" "m"'}), (700, 800, 2000)),
        (nifti(units=3), (0.0007, 0.0008, 0.002)),
        (mhd(ElementSpacing=None), (1, 1, 1)),
        (nifti(**NO_CODES), (0.7, 0.8, 2)),
        (nifti(**NO_CODES, pixdim=NO_PIXDIM), (1, 1, 1)),
        (nrrd({"space directions": None, "spacings": "0.7 0.8 2"}), (0.7, 0.8, 2)),
    ],
)
def test_an_accepted_header_is_converted_or_filled_as_its_note_says(
    tmp_path: Path, write: Writer, spacing: tuple[float, ...]
) -> None:
    every = ("other_units", "spacing_not_stated", "placement_not_stated")
    grid = read_grid(write(tmp_path), allow=every)
    np.testing.assert_allclose(grid.spacing_mm, spacing, rtol=1e-6)


def test_the_default_place_is_lps_at_the_origin(tmp_path: Path) -> None:
    path = write_mhd_text(tmp_path, {"Offset": None, "TransformMatrix": None})
    grid = read_grid(path, allow=["placement_not_stated"])
    np.testing.assert_allclose(grid.affine_lps_mm, np.diag([0.7, 0.8, 2, 1]))


def test_an_unknown_unit_is_refused_whatever_is_allowed(tmp_path: Path) -> None:
    for write in (mhd(DistanceUnits="furlong"), nifti(units=5),
                  nrrd({"space units": '"mm" "mm" "s"'})):  # fmt: skip
        with pytest.raises(SeriesError, match="bad_geometry"):
            read_volume(write(tmp_path), allow=["other_units"])


@pytest.mark.parametrize("unit", ["mm", "millimeters", "MM"])
def test_millimetres_are_accepted_in_any_spelling(tmp_path: Path, unit: str) -> None:
    assert read_volume(write_mhd_text(tmp_path, {"DistanceUnits": unit})).notes == ()
    stated = f'"{unit}" "{unit}" "{unit}"'
    assert read_volume(write_nrrd_text(tmp_path, {"space units": stated})).notes == ()


def test_a_nifti_without_a_unit_counts_as_mm_with_a_note(tmp_path: Path) -> None:
    scan = read_volume(write_nifti(tmp_path, units=0))
    assert scan.notes == ("the header states no unit of length: mm are assumed",)
    np.testing.assert_allclose(scan.grid.spacing_mm, (0.7, 0.8, 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)), ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)), ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)), ("las", (1, -1, 1)),
    ],
)  # fmt: skip
def test_each_known_space_of_nrrd_becomes_lps(
    tmp_path: Path, space: str, signs: tuple[int, ...]
) -> None:
    grid = read_grid(write_nrrd_text(tmp_path, {"space": space}))
    turned = np.diag(signs)
    np.testing.assert_allclose(grid.direction, turned)
    np.testing.assert_allclose(grid.origin_mm, turned @ [-10, 20, -30])


def sform(**changes: float) -> tuple[float, ...]:
    """The sform of `nifti_header` with single entries changed, named by row and column."""
    rows = np.array([0.7, 0, 0, 10, 0, 0.8, 0, -20, 0, 0, 2, -30]).reshape(3, 4)
    for place, value in changes.items():
        rows[int(place[1]), int(place[2])] = value
    return tuple(rows.ravel().tolist())


@pytest.mark.parametrize(
    "rows",
    [
        sform(a03=30.0),  # moved by 20 mm
        sform(a00=-0.7),  # mirrored
        sform(a00=1.05, a11=1.2, a22=3.0),  # 1.5 times larger
        sform(a22=2.2),  # .2 mm a slice, .8 mm at the last one
        tuple((np.array(sform()).reshape(3, 4)[[1, 0, 2]]).ravel().tolist()),  # axes exchanged
        sform(a23=float("nan")),
        sform(a01=0.3),  # sheared
    ],
)
def test_conflicting_sform_and_qform_are_refused(tmp_path: Path, rows: tuple[float, ...]) -> None:
    codes = {reason.partition(": ")[0] for reason in refusal_of(write_nifti(tmp_path, sform=rows))}
    assert codes & {"contradictory_geometry", "bad_geometry"}
    every = ["contradictory_geometry", "placement_not_stated", "spacing_not_stated"]
    with pytest.raises(SeriesError):
        read_volume(tmp_path / "a.nii", allow=every)


def test_a_small_conflict_is_named_with_the_form_that_is_used(tmp_path: Path) -> None:
    scan = read_volume(write_nifti(tmp_path, sform=sform(a03=10.3)))
    assert scan.notes == (
        "sform and qform differ by up to 0.3 mm in this volume: the sform is used",
    )
    assert scan.grid.origin_mm[0] == pytest.approx(-10.3)


@pytest.mark.parametrize("codes", [(0, 2), (1, 0)])
def test_one_form_alone_is_used(tmp_path: Path, codes: tuple[int, int]) -> None:
    moved = sform(a03=40.0)
    grid = read_grid(write_nifti(tmp_path, codes=codes, sform=moved))
    assert grid.origin_mm[0] == pytest.approx(-40 if codes[1] else -10)


def test_an_sform_that_contradicts_the_spacings_is_refused(tmp_path: Path) -> None:
    larger = sform(a00=1.05, a11=1.2, a22=3.0)
    path = write_nifti(tmp_path, codes=(0, 1), sform=larger)
    assert refusal_of(path)[0].startswith("contradictory_geometry: sform and pixdim differ")


@pytest.mark.parametrize(
    "changes",
    [
        {"spacings": "0.7 0.8 5"}, {"spacings": "0.7 0.8 2.1"}, {"spacings": "0.7 0.8 0"},
        {"spacings": "2 0.8 0.7"}, {"spacings": "0.7 0.8 inf"}, {"spacings": "0,7 0,8 2"},
        {"spacings": "0.7 0.8"}, {"space dimension": "4"}, {"space dimension": "2"},
        {"space dimension": "4", "space": None},
    ],
)  # fmt: skip
def test_a_nrrd_that_states_two_geometries_is_refused(
    tmp_path: Path, changes: dict[str, str | None]
) -> None:
    path = write_nrrd_text(tmp_path, changes)
    reason = next(r for r in refusal_of(path) if r.startswith("contradictory_geometry: "))
    name = "space dimension" if "space dimension" in changes else "spacings"
    assert f"{name}: {changes[name]}" in reason
    assert "correct" in reason
    with pytest.raises(SeriesError, match="contradictory_geometry"):
        read_volume(path, allow=["placement_not_stated", "spacing_not_stated"])


@pytest.mark.parametrize(
    "changes",
    [
        {"spacings": "0.7 0.8 2"}, {"spacings": "0.7003 0.8 2.0"}, {"spacings": "nan nan nan"},
        {"spacings": "-0.7 0.8 2"}, {"space dimension": "3"},
    ],
)  # fmt: skip
def test_a_nrrd_that_states_its_geometry_twice_alike_is_read(
    tmp_path: Path, changes: dict[str, str | None]
) -> None:
    scan = read_volume(write_nrrd_text(tmp_path, changes))
    np.testing.assert_allclose(scan.grid.spacing_mm, (0.7, 0.8, 2))
    assert scan.notes == ()


@pytest.mark.parametrize("field", ["space units", "units"])
@pytest.mark.parametrize(
    "stated", ['"Millimeters" "mm" "mm"', '"mm" "MM" "millimetre"', '"mm" "mm" ""']
)
def test_one_unit_in_several_spellings_is_one_unit(tmp_path: Path, field: str, stated: str) -> None:
    assert read_volume(write_nrrd_text(tmp_path, {field: stated})).notes == ()


def test_two_spellings_of_another_unit_are_converted(tmp_path: Path) -> None:
    path = write_nrrd_text(tmp_path, {"space units": '"cm" "Centimeters" "cm"'})
    grid = read_grid(path, allow=["other_units"])
    np.testing.assert_allclose(grid.spacing_mm, (7, 8, 20))


@pytest.mark.parametrize("stated", ['"mm" "mm" "cm"', '"mm" "mm" "s"', '"cm" "um" "mm"'])
def test_several_units_are_refused(tmp_path: Path, stated: str) -> None:
    path = write_nrrd_text(tmp_path, {"space units": stated})
    assert "bad_geometry: expected one unit, got " in refusal_of(path)[0]


@pytest.mark.parametrize(
    "write",
    [
        mhd(ElementSpacing="0,7 0,8 2,0"), mhd(Offset="0,7 0,8 2,0"),
        mhd(TransformMatrix="0,7 0,8 2,0"),
        nrrd({"space directions": None, "spacings": "0,7 0,8 2,0"}),
        nrrd({"space origin": "0,7 0,8 2,0"}), nrrd({"space origin": "(0;7 0,7 0,8 2,0)"}),
    ],
)  # fmt: skip
def test_what_are_no_numbers_is_shown_as_the_header_states_it(
    tmp_path: Path, write: Writer
) -> None:
    (reason,) = [r for r in refusal_of(write(tmp_path)) if r.startswith("bad_geometry: ")]
    assert "0,7 0,8 2,0" in reason
    assert reason.endswith("correct the header")


@pytest.mark.parametrize(
    "write",
    [
        mhd(ElementSpacing="0.7 0 2"), mhd(ElementSpacing="0.7 -1 2"), mhd(ElementSpacing="1 1"),
        mhd(ElementSpacing="0,7 0,8 2"), mhd(ElementSpacing="1_0 1 1"), mhd(Offset="1 2"),
        mhd(ElementSpacing="1 1 2e17"), mhd(Offset="1e9 0 0"), mhd(ElementSpacing="1 1e-9 1"),
        mhd(ElementSpacing="nan 1 1"), mhd(Offset="inf 0 0"), mhd(TransformMatrix="1 0 0 0 1 0"),
        mhd(TransformMatrix="1 0.2 0 0 1 0 0 0 1"), mhd(TransformMatrix="1 0 0 1 0 0 0 0 1"),
        mhd(TransformMatrix="2 0 0 0 2 0 0 0 2"),
        nrrd({"space directions": "(0.7,0,0) (0,0.8,0) none"}),
        nrrd({"space directions": "(nan,nan,nan) (0,0.8,0) (0,0,2)"}),
        nrrd({"space directions": "(0.7,0.2,0) (0,0.8,0) (0,0,2)"}),
        nrrd({"space directions": "(0.7,0,0) (0.7,0,0) (0,0,2)"}),
        nrrd({"space directions": "(0,0,0) (0,0.8,0) (0,0,2)"}),
        nrrd({"space directions": "(0.7,0) (0,0.8) (0,2)"}),
        nrrd({"space origin": "none"}), nrrd({"space origin": "(1,2)"}),
        nifti(pixdim=(1, -0.7, 0.8, 2, 0, 0, 0, 0)), nifti(quaternion=(1, 1, 0, 10, -20, -30)),
        nifti(pixdim=(0.5, 0.7, 0.8, 2, 0, 0, 0, 0)), nifti(codes=(1, 77)),
        nifti(codes=(0, 1), sform=sform(a01=0.3)), nifti(codes=(0, 1), sform=(0,) * 12),
    ],
)  # fmt: skip
def test_what_is_no_regular_grid_is_refused(tmp_path: Path, write: Writer) -> None:
    codes = {reason.partition(": ")[0] for reason in refusal_of(write(tmp_path))}
    assert codes & {"bad_geometry", "contradictory_geometry"}


@pytest.mark.parametrize("spacing", ["ElementSize", "elementspacing"])
def test_metaio_has_two_names_for_the_spacing(tmp_path: Path, spacing: str) -> None:
    path = write_mhd_text(tmp_path, {"ElementSpacing": None, spacing: "0.7 0.8 2"})
    np.testing.assert_allclose(read_grid(path).spacing_mm, (0.7, 0.8, 2))


def test_medkd_writes_the_orientation_that_it_accepts(tmp_path: Path) -> None:
    for flip in (False, True):
        grid = oblique_grid(flip=flip)
        write_mhd(make_scan(grid), tmp_path / "a.mhd")
        assert read_volume(tmp_path / "a.mhd").notes == ()
        letters = orientation_of(grid.direction)
        assert f"AnatomicalOrientation = {letters}" in (tmp_path / "a.mhd").read_text()
        assert letters == ("RAS" if flip else "RAI")


def test_an_unknown_orientation_states_nothing(tmp_path: Path) -> None:
    path = write_mhd_text(tmp_path, {"AnatomicalOrientation": "???"})
    assert read_volume(path).notes == ()
    assert len(CONTENT) == read_volume(path).voxels_hu.nbytes
