"""Every byte of a volume is counted and checked: nothing but the file's own voxels is shown."""

from __future__ import annotations

import gzip
import resource
import zlib
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.io.volume import read_volume
from tests.io.volume_files import (
    CONTENT,
    PACKED,
    VOXELS,
    Changes,
    write_mhd_text,
    write_nifti,
    write_nrrd_text,
    write_packed,
)

SLICES = {f"s{k}.raw": VOXELS[:, :, k].T.tobytes() for k in range(5)}
LIST = "LIST\n" + "\n".join(SLICES)


def codes_of(path: Path) -> set[str]:
    with pytest.raises(SeriesError) as refusal:
        read_volume(path)
    return {reason.partition(": ")[0] for reason in refusal.value.reasons}


@pytest.mark.parametrize("kind", PACKED)
def test_a_compressed_volume_is_read(tmp_path: Path, kind: str) -> None:
    np.testing.assert_array_equal(read_volume(write_packed(tmp_path, kind)[0]).voxels_hu, VOXELS)


@pytest.mark.parametrize("kind", PACKED)
def test_every_cut_of_a_compressed_stream_is_refused(tmp_path: Path, kind: str) -> None:
    path, stream = write_packed(tmp_path, kind)
    content = stream.read_bytes()
    start = 0 if path != stream or kind == "nii.gz" else len(content) - 60
    for size in range(start, len(content), 7):
        stream.write_bytes(content[:size])
        assert codes_of(path) <= {"truncated_pixels", "damaged_pixels", "unreadable"}


@pytest.mark.parametrize("kind", PACKED)
def test_every_flipped_bit_of_a_checksum_is_refused(tmp_path: Path, kind: str) -> None:
    path, stream = write_packed(tmp_path, kind)
    content = stream.read_bytes()
    # zlib ends with 4 bytes of Adler-32; gzip with CRC-32 and size; bzip2 holds its CRC before
    # up to 7 bits of padding.
    for place in range(1, 5 if kind in ("zraw", "mha") else 9):
        for bit in range(8) if kind != "bzip2" or place > 1 else ():
            changed = bytearray(content)
            changed[-place] ^= 1 << bit
            stream.write_bytes(bytes(changed))
            assert codes_of(path) == {"damaged_pixels"}


@pytest.mark.parametrize("kind", PACKED)
def test_bytes_behind_a_compressed_stream_are_refused(tmp_path: Path, kind: str) -> None:
    path, stream = write_packed(tmp_path, kind)
    content = stream.read_bytes()
    for tail in (b"\0", b"more", content[-40:], bytes(9) + b"more"):
        if tail != b"\0" or kind not in ("nii.gz", "gzip"):
            stream.write_bytes(content + tail)
            assert codes_of(path) == {"damaged_pixels"}


@pytest.mark.parametrize("kind", ["nii.gz", "gzip"])
def test_zeros_behind_a_gzip_stream_are_ignored_as_gzip_does(tmp_path: Path, kind: str) -> None:
    path, stream = write_packed(tmp_path, kind)
    content = stream.read_bytes()
    expected = read_volume(path).voxels_hu
    for size in (1, 512, 1 << 21):
        stream.write_bytes(content + bytes(size))
        np.testing.assert_array_equal(read_volume(path).voxels_hu, expected)


@pytest.mark.parametrize("size", [len(CONTENT) - 2, len(CONTENT) + 2, 0, 2 * len(CONTENT)])
def test_a_stream_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    content = (CONTENT * 2)[:size]
    zraw: Changes = {"CompressedData": "True", "ElementDataFile": "a.zraw"}
    for path in (
        write_mhd_text(tmp_path, zraw, {"a.zraw": zlib.compress(content)}),
        write_nrrd_text(tmp_path, {"encoding": "gzip"}, gzip.compress(content)),
        write_nifti(tmp_path, packed=True, content=content),
    ):
        assert codes_of(path) <= {"damaged_pixels", "truncated_pixels"}


def test_several_gzip_members_are_one_stream(tmp_path: Path) -> None:
    members = gzip.compress(CONTENT[:50]) + gzip.compress(CONTENT[50:])
    path = write_nrrd_text(tmp_path, {"encoding": "gzip"}, members)
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)


@pytest.mark.parametrize("wrong", [-3, 3])
def test_a_stated_compressed_size_is_held_to(tmp_path: Path, wrong: int) -> None:
    stream = zlib.compress(CONTENT)
    changes: Changes = {
        "CompressedData": "True", "CompressedDataSize": str(len(stream) + wrong),
        "ElementDataFile": "a.zraw",
    }  # fmt: skip
    path = write_mhd_text(tmp_path, changes, {"a.zraw": stream})
    assert codes_of(path) <= {"truncated_pixels", "damaged_pixels"}
    changes["CompressedDataSize"] = str(len(stream))
    path = write_mhd_text(tmp_path, changes, {"a.zraw": stream})
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)


@pytest.mark.parametrize(
    "stated",
    [LIST, LIST.replace("LIST", "LIST 2"), "s%d.raw 0 4 1", "s%01d.raw 0 4", "s%d.raw 0"],
)
def test_slices_in_files_of_their_own_are_read(tmp_path: Path, stated: str) -> None:
    path = write_mhd_text(tmp_path, {"ElementDataFile": stated}, SLICES)
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("LIST\ns0.raw\ns1.raw", "truncated_pixels"),
        ("LIST", "truncated_pixels"),
        (LIST + "\ns0.raw", "damaged_pixels"),
        (LIST.replace("s4.raw", "s3.raw"), "damaged_pixels"),
        (LIST.replace("s4.raw", "./s0.raw"), "damaged_pixels"),
        ("s%d.raw 0 3 1", "truncated_pixels"),
        ("s%d.raw 0 9 1", "damaged_pixels"),
        ("s%d.raw", "truncated_pixels"),  # counts 1 to 5: there is no s5.raw
        ("s%d.raw 0 4 0", "unreadable"),
        ("s%d.raw 0 4 -1", "unreadable"),
        ("s%d.raw 0 999999999 1", "unreadable"),
        ("LIST 3\ns0.raw", "unreadable"),
        ("LIST\n" + "\n".join(["s0.raw", "s1.raw", "s2.raw", "s3.raw", "gone.raw"]),
         "truncated_pixels"),
    ],
)  # fmt: skip
def test_too_few_and_too_many_slices_are_refused(tmp_path: Path, stated: str, code: str) -> None:
    assert codes_of(write_mhd_text(tmp_path, {"ElementDataFile": stated}, SLICES)) == {code}


@pytest.mark.parametrize("stated", [LIST, "s%d.raw 0 4 1"])
@pytest.mark.parametrize(("size", "code"), [(22, "truncated_pixels"), (26, "damaged_pixels"),
                                            (0, "truncated_pixels")])  # fmt: skip
def test_each_slice_is_counted(tmp_path: Path, stated: str, size: int, code: str) -> None:
    files = {**SLICES, "s3.raw": (CONTENT * 2)[:size]}
    assert codes_of(write_mhd_text(tmp_path, {"ElementDataFile": stated}, files)) == {code}


@pytest.mark.parametrize(("content", "code"), [(CONTENT[:-1], "truncated_pixels"),
                                               (b"", "truncated_pixels"),
                                               (CONTENT + b"\0", "damaged_pixels")])  # fmt: skip
def test_raw_voxels_of_another_size_are_refused(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "d.raw").write_bytes(content)
    local: Changes = {"ElementDataFile": "LOCAL"}
    for path in (
        write_mhd_text(tmp_path, {}, {"a.raw": content}),
        write_mhd_text(tmp_path, local, {"unused": content}, "a.mha"),
        write_nrrd_text(tmp_path, {}, content),
        write_nifti(tmp_path, content=content),
    ):
        assert codes_of(path) == {code}, path.name
    assert codes_of(write_nrrd_text(tmp_path, {"data file": "d.raw"}, b"")) == {code}


@pytest.mark.parametrize("value", ["s%d.raw 0 4 1", "s%d.raw 0 4 1 2", LIST])
def test_nrrd_slices_in_files_of_their_own_are_read(tmp_path: Path, value: str) -> None:
    for name, content in SLICES.items():
        (tmp_path / name).write_bytes(content)
    path = write_nrrd_text(tmp_path, {"data file": value}, b"")
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)
    (tmp_path / "s2.raw").write_bytes(b"\0")
    assert codes_of(path) == {"truncated_pixels"}


@pytest.mark.parametrize("value", ["s%d.raw 0 3 1", "LIST\ns0.raw"])
def test_too_few_nrrd_slices_are_refused(tmp_path: Path, value: str) -> None:
    for name, content in SLICES.items():
        (tmp_path / name).write_bytes(content)
    path = write_nrrd_text(tmp_path, {"data file": value}, b"")
    assert codes_of(path) == {"truncated_pixels"}
    doubled = write_nrrd_text(tmp_path, {"data file": LIST.replace("s4.raw", "s3.raw")}, b"")
    assert codes_of(doubled) == {"damaged_pixels"}


@pytest.mark.parametrize(("skip", "before"), [("3", b"123"), ("-1", b"1234567")])
def test_bytes_before_the_voxels_are_skipped(tmp_path: Path, skip: str, before: bytes) -> None:
    path = write_mhd_text(tmp_path, {"HeaderSize": skip}, {"a.raw": before + CONTENT})
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)
    path = write_nrrd_text(tmp_path, {"data file": "a.raw", "byte skip": skip}, b"")
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)
    (tmp_path / "a.raw").write_bytes(CONTENT[1:])
    assert codes_of(path) == {"truncated_pixels"}


HUGE = ("32000 32000 32000", "100000 100000 100000", "999999999999999999 2 2")


@pytest.mark.parametrize("sizes", HUGE)
def test_a_header_that_claims_more_than_the_file_is_refused_before_memory_is_taken(
    tmp_path: Path, sizes: str
) -> None:
    zraw: Changes = {"DimSize": sizes, "CompressedData": "True", "ElementDataFile": "a.zraw"}
    packed = {"sizes": sizes, "encoding": "gzip"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    paths = [
        write_mhd_text(tmp_path, {"DimSize": sizes}, name="b.mhd"),
        write_mhd_text(tmp_path, zraw, {"a.zraw": zlib.compress(CONTENT)}),
        write_nrrd_text(tmp_path, {"sizes": sizes}),
    ]
    assert [codes_of(path) for path in paths] == [{"truncated_pixels"}] * 3
    assert codes_of(write_nrrd_text(tmp_path, packed, gzip.compress(CONTENT))) == {
        "truncated_pixels"
    }
    dim = (3, 32000, 32000, 32000, 1, 1, 1, 1)
    for is_packed in (False, True):
        path = write_nifti(tmp_path, packed=is_packed, dim=dim)
        assert "truncated_pixels" in codes_of(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_claim_above_the_memory_in_bzip2_is_refused(tmp_path: Path) -> None:
    import bz2

    sizes: Changes = {"sizes": "100000 100000 100000", "encoding": "bzip2"}
    path = write_nrrd_text(tmp_path, sizes, bz2.compress(CONTENT))
    assert codes_of(path) <= {"unreadable", "damaged_pixels"}


def test_what_lay_in_memory_is_never_shown(tmp_path: Path) -> None:
    """Case 01: half of a compressed volume, after another patient's was read."""
    other = np.full((64, 64, 64), 77, np.int16).tobytes()
    changes: Changes = {
        "DimSize": "64 64 64", "CompressedData": "True", "ElementDataFile": "a.zraw",
    }  # fmt: skip
    stream = zlib.compress(np.random.default_rng(0).bytes(len(other)))
    path = write_mhd_text(tmp_path, changes, {"a.zraw": zlib.compress(other)})
    assert (read_volume(path).voxels_hu == 77).all()
    for cut in (len(stream) // 2, len(stream) - 1, len(stream) - 4):
        (tmp_path / "a.zraw").write_bytes(stream[:cut])
        assert codes_of(path) <= {"damaged_pixels", "truncated_pixels", "hu_range"}


@pytest.mark.parametrize(
    ("name", "head"), [("plain.nii.gz", b""), ("gzip.nii", b"gzip"), ("text.nii.gz", b"text")]
)
def test_a_nifti_of_the_other_kind_is_refused_with_the_remedy(
    tmp_path: Path, name: str, head: bytes
) -> None:
    content = write_nifti(tmp_path, packed=head == b"gzip").read_bytes()
    (tmp_path / name).write_bytes(head if head == b"text" else content)
    with pytest.raises(SeriesError, match="rename it"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("offset", [160.0, 0.0, -352.0, 348.0, 351.5, float("nan"), 1e30, 356.0])
def test_a_nifti_whose_offset_is_wrong_is_refused(tmp_path: Path, offset: float) -> None:
    for packed in (False, True):
        path = write_nifti(tmp_path, packed=packed, vox_offset=offset)
        assert codes_of(path) <= {"unreadable", "truncated_pixels", "damaged_pixels"}


@pytest.mark.parametrize("magic", [b"n\0001\0", b"ni1\0", b"\0\0\0\0", b"n+2\0"])
def test_a_nifti_with_another_magic_is_refused(tmp_path: Path, magic: bytes) -> None:
    assert codes_of(write_nifti(tmp_path, magic=magic)) == {"unreadable"}


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.raw", "b/../../a.raw", "C:\\a.raw", "..\\a"])
def test_files_outside_the_folder_of_the_header_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "a.raw").write_bytes(CONTENT)
    path = write_mhd_text(folder, {"ElementDataFile": name}, {})
    with pytest.raises(SeriesError, match="not below the header's folder"):
        read_volume(path)
    with pytest.raises(SeriesError, match="not below the header's folder"):
        read_volume(write_nrrd_text(folder, {"data file": name}, b""))


def test_files_in_a_folder_below_are_read(tmp_path: Path) -> None:
    path = write_mhd_text(tmp_path, {"ElementDataFile": "v/a.raw"}, {"v/a.raw": CONTENT})
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)


@pytest.mark.parametrize(
    "changes",
    [
        {"BinaryData": "False"}, {"NDims": "4"},
        {"DimSize": "4 3 5 1", "NDims": "4"}, {"ElementType": "MET_SHORT_ARRAY"},
        {"ElementNumberOfChannels": "0"}, {"ElementToIntensityFunctionSlope": "2"},
        {"ElementToIntensityFunctionOffset": "-1024"}, {"HeaderSizePerSlice": "8"},
        {"ObjectType": "Scene"}, {"ElementDataFile": None}, {"ElementDataFile": ""},
        {"DimSize": "4 3 1_5"}, {"DimSize": "4 3 5.0"}, {"CompressedData": "Maybe"},
        {"CompressedDataSize": "inf"}, {"CompressedDataSize": "-1"},
        {"HeaderSize": "x"}, {"HeaderSize": "-2"}, {"ElementType": None}, {"NDims": None},
        {"CompressedData": "True", "HeaderSize": "-1"},
        {"DimSize": "4 3 5\nDimSize = 3 4 5"},
        {"BinaryDataByteOrderMSB": "False\nElementByteOrderMSB = True"},
    ],
)  # fmt: skip
def test_what_a_metaimage_may_state_but_is_not_read_is_refused(
    tmp_path: Path, changes: Changes
) -> None:
    allowed = {"pixel_format", "unreadable", "missing_attribute"}
    assert codes_of(write_mhd_text(tmp_path, changes)) <= allowed


@pytest.mark.parametrize(
    "changes",
    [
        {"endian": None}, {"encoding": "ascii"}, {"encoding": "hex"}, {"encoding": "txt"},
        {"type": "block"}, {"block size": "8"}, {"old min": "0"}, {"dimension": "4"},
        {"kinds": "vector domain domain"}, {"kinds": "domain domain time"}, {"sizes": "4 3"},
        {"sizes": "4 3 0"}, {"sizes": None}, {"type": None}, {"encoding": None},
        {"line skip": "1"}, {"byte skip": "-1"}, {"byte skip": "-2"}, {"spacingz": "1 1 1"},
        {"sizes": "4 3 5\nsizes: 5 3 4"}, {"endian": "middle"},
    ],
)  # fmt: skip
def test_what_an_nrrd_may_state_but_is_not_read_is_refused(
    tmp_path: Path, changes: Changes
) -> None:
    allowed = {"pixel_format", "unreadable", "missing_attribute"}
    assert codes_of(write_nrrd_text(tmp_path, changes)) <= allowed


@pytest.mark.parametrize(
    "changes",
    [
        {"datatype": 128, "bitpix": 24}, {"datatype": 32, "bitpix": 64}, {"bitpix": 8},
        {"dim": (4, 4, 3, 5, 2, 1, 1, 1)}, {"dim": (4, 4, 3, 5, 1, 1, 1, 1)},
        {"dim": (5, 4, 3, 1, 1, 5, 1, 1)}, {"dim": (0, 4, 3, 5, 1, 1, 1, 1)},
        {"dim": (3, 4, -3, 5, 1, 1, 1, 1)}, {"sizeof": 999}, {"order": ">"},
    ],
)  # fmt: skip
def test_what_a_nifti_may_state_but_is_not_read_is_refused(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = write_nifti(tmp_path, **changes)
    if changes == {"order": ">"}:  # big-endian throughout is read
        path = write_nifti(tmp_path, content=VOXELS.T.astype(">i2").tobytes(), order=">")
        np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)
        return
    assert codes_of(path) <= {"pixel_format", "unreadable"}


@pytest.mark.parametrize("intercept", [float("nan"), float("inf")])
def test_a_scaling_without_a_finite_intercept_is_refused(tmp_path: Path, intercept: float) -> None:
    assert codes_of(write_nifti(tmp_path, scaling=(2, intercept))) == {"missing_rescale"}


def test_a_scaling_that_is_no_number_is_noted(tmp_path: Path) -> None:
    (note,) = read_volume(write_nifti(tmp_path, scaling=(float("inf"), 0))).notes
    assert note.startswith("scl_slope inf and scl_inter 0 are ignored")


@pytest.mark.parametrize(("scaling", "expected"), [((2, -5), 2), ((0, 9), 1), ((1, 0), 1)])
def test_a_nifti_is_scaled_as_it_states(
    tmp_path: Path, scaling: tuple[int, int], expected: int
) -> None:
    small = (VOXELS // 4).astype(np.int16)
    path = write_nifti(tmp_path, content=small.T.tobytes(), scaling=scaling)
    offset = scaling[1] if scaling[0] else 0
    scan = read_volume(path)
    np.testing.assert_array_equal(scan.voxels_hu, small * expected + offset)
    expected = "HU are 2 x the stored values + -5, as the header states"
    assert scan.notes == ((expected,) if scaling == (2, -5) else ())


def test_slices_of_a_detached_header_are_counted(tmp_path: Path) -> None:
    fields: Changes = {"data file": "s%02d.raw 1 5 1 2"}
    path = write_nrrd_text(tmp_path, fields, b"").rename(tmp_path / "a.nhdr")
    size = len(CONTENT) // 5
    for number in range(5):
        part = CONTENT[number * size : (number + 1) * size]
        (tmp_path / f"s{number + 1:02d}.raw").write_bytes(part)
    np.testing.assert_array_equal(read_volume(path).voxels_hu, VOXELS)
    (tmp_path / "s05.raw").write_bytes(part[:-1])
    assert codes_of(path) == {"truncated_pixels"}
    (tmp_path / "s05.raw").unlink()
    assert codes_of(path)
