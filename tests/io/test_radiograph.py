"""Radiographs in 0..1 with bright = dense, whatever file they come in; all else refused."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medkd.errors import SeriesError
from medkd.io.file_ref import FileRef
from medkd.io.radiograph.read import read_radiograph, read_radiograph_header, to_unit, to_xrv
from medkd.io.radiograph.values import mask_border
from medkd.types import DisplayWindow
from tests.io.radiograph_helper import STORED, lut, write_dx
from tests.real_data import needs_data


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def shown(path: Path) -> np.ndarray:
    return read_radiograph(path).pixels


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_full_scale_of_a_png_is_one_whatever_the_depth(
    tmp_path: Path, dtype: type, full: int
) -> None:
    pixels = np.zeros((3, 5), dtype)
    pixels[1, 2] = full
    film = read_radiograph(save(tmp_path / "film.png", pixels))
    assert (film.pixels.shape, film.pixels.dtype) == ((3, 5), np.float32)
    assert (film.pixels[1, 2], film.pixels[0, 0]) == (1.0, 0.0)
    assert (film.imageuid, film.patient_id) == ("film", "film")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_equal_channels_count_as_grey(tmp_path: Path, channels: int) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) + 9
    pixels = np.repeat(grey[..., None], channels, axis=2)
    if channels in (2, 4):
        pixels[..., -1] = 255
    np.testing.assert_allclose(shown(save(tmp_path / "a.png", pixels)), grey / 255, atol=1e-7)


def test_colour_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((3, 4, 3), np.uint8)
    pixels[0, 0] = [9, 8, 7]
    with pytest.raises(SeriesError, match="colour: expected a grey picture"):
        shown(save(tmp_path / "a.png", pixels))


def test_a_palette_of_greys_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.save(tmp_path / "a.png")
    np.testing.assert_allclose(shown(tmp_path / "a.png") * 255, [[10, 200]], atol=1e-3)


def test_a_jpeg_reads_and_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.linspace(30, 220, 64 * 48).reshape(64, 48).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    plain = shown(save(tmp_path / "a.jpg", pixels, quality=95))
    turned = shown(save(tmp_path / "b.jpg", np.ascontiguousarray(pixels[::-1, ::-1]), exif=exif))
    np.testing.assert_allclose(plain * 255, pixels, atol=8)
    np.testing.assert_allclose(turned, plain, atol=0.03)


def test_a_grey_jpeg_stored_in_colour_counts_as_grey(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    film = shown(save(tmp_path / "a.jpg", np.repeat(grey[..., None], 3, axis=2), quality=60))
    assert np.corrcoef(film.ravel(), grey.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("content", "code"), [(None, "unreadable"), (b"no picture", "unreadable"), (b"cut", "bad_pix")]
)
def test_what_is_no_whole_picture_is_refused(
    tmp_path: Path, content: bytes | None, code: str
) -> None:
    path = tmp_path / "a.png"
    if content == b"cut":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
        path.write_bytes(save(path, noise).read_bytes()[:-900])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SeriesError, match=code):
        read_radiograph(path)


def test_a_blank_picture_and_a_bitmap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="no_contrast"):
        shown(save(tmp_path / "a.png", np.full((8, 8), 77, np.uint8)))
    with pytest.raises(SeriesError, match="8 or 16 bits"):
        shown(save(tmp_path / "b.png", np.ones((3, 4), bool)))


def test_without_a_window_the_bits_stored_are_the_range(tmp_path: Path) -> None:
    film = read_radiograph(write_dx(tmp_path / "a"))
    np.testing.assert_allclose(film.pixels, STORED / 4095, atol=1e-6)
    assert film.patient_id.startswith("p")
    assert "hospital" not in film.patient_id


def test_signed_values_are_read_with_their_sign(tmp_path: Path) -> None:
    stored = np.array([[-2048, 0], [1000, 2047]], np.int16)
    film = shown(write_dx(tmp_path / "a", stored))
    np.testing.assert_allclose(film, (stored + 2048.0) / 4095, atol=1e-6)


def test_bits_beside_those_stored_are_dropped(tmp_path: Path) -> None:
    high = (STORED << 4) | 0xB  # 12 bits in the high end, an overlay's below
    low = STORED | 0xA000
    for name, stored, top in (("a", high, 15), ("b", low, 11)):
        film = shown(write_dx(tmp_path / name, stored.astype(np.uint16), HighBit=top))
        np.testing.assert_allclose(film, STORED / 4095, atol=1e-6)


# A window of centre 2000.5 and width 2001 runs from 1000 to 3000 (PS3.3 C.11.2.1.2.1).
LINEAR = {"WindowCenter": "2000.5", "WindowWidth": "2001"}


def test_a_linear_window_runs_as_the_standard_says(tmp_path: Path) -> None:
    film = shown(write_dx(tmp_path / "a", **LINEAR))
    np.testing.assert_allclose(film, [[0, 0, 0.5], [1, 1, 1]], atol=1e-6)


def test_a_linear_exact_window_has_no_half_steps(tmp_path: Path) -> None:
    window = {"WindowCenter": "2000", "WindowWidth": "4000", "VOILUTFunction": "LINEAR_EXACT"}
    film = shown(write_dx(tmp_path / "a", **window))
    np.testing.assert_allclose(film, [[0, 0.25, 0.5], [0.75, 1, 1]], atol=1e-6)


def test_a_sigmoid_window_follows_its_formula(tmp_path: Path) -> None:
    window = {"WindowCenter": "2000", "WindowWidth": "4000", "VOILUTFunction": "SIGMOID"}
    film = shown(write_dx(tmp_path / "a", **window))
    # 1 / (1 + exp(-4 (x - 2000) / 4000)) at x = 1000: 1 / (1 + e) = .26894
    np.testing.assert_allclose(film[0], [1 / (1 + np.e**2), 0.268941, 0.5], atol=1e-5)


def test_the_first_of_several_windows_is_taken(tmp_path: Path) -> None:
    film = shown(write_dx(tmp_path / "a", WindowCenter=["2000.5", "9"], WindowWidth=["2001", "2"]))
    np.testing.assert_allclose(film, [[0, 0, 0.5], [1, 1, 1]], atol=1e-6)


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    # 2 x - 1000: the window 1000 to 3000 of the result is 1000 to 2000 of the stored values.
    film = shown(write_dx(tmp_path / "a", RescaleSlope="2", RescaleIntercept="-1000", **LINEAR))
    np.testing.assert_allclose(film, [[0, 0, 1], [1, 1, 1]], atol=1e-6)


def test_monochrome1_is_inverted_after_the_window(tmp_path: Path) -> None:
    film = shown(write_dx(tmp_path / "a", PhotometricInterpretation="MONOCHROME1", **LINEAR))
    np.testing.assert_allclose(film, [[1, 1, 0.5], [0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_look_up_tables_are_applied_in_order(tmp_path: Path, syntax: str | None) -> None:
    # modality: 0..999 -> 5, 1000.. -> 6, 1001 and above -> 7; VOI: 5 -> 0, 6 -> 51, 7 -> 255
    modality = lut(999, [5, 6, 7], 8)
    voi = lut(5, [0, 51, 255], 8)
    path = write_dx(
        tmp_path / "a",
        **({} if syntax is None else {"syntax": syntax}),
        ModalityLUTSequence=Sequence([modality]),
        VOILUTSequence=Sequence([voi]),
        **LINEAR,  # the table goes before the window
    )
    np.testing.assert_allclose(shown(path), [[0, 0.2, 1], [1, 1, 1]], atol=1e-6)


def test_a_table_that_begins_below_zero_is_understood(tmp_path: Path) -> None:
    stored = np.array([[-2, -1, 0, 1], [1, 0, -1, -2]], np.int16)
    table = lut(65534, [0, 51, 102, 255], 8)  # -2 as two bytes
    path = write_dx(tmp_path / "a", stored, VOILUTSequence=Sequence([table]))
    np.testing.assert_allclose(shown(path)[0], [0, 0.2, 0.4, 1], atol=1e-6)


@pytest.mark.parametrize(
    "header",
    [
        {"WindowCenter": "10", "WindowWidth": "0"},
        {"WindowCenter": "10", "WindowWidth": "5", "VOILUTFunction": "CUBIC"},
        {"RescaleSlope": "0", "RescaleIntercept": "0"},
        {"VOILUTSequence": Sequence([lut(0, [0, 300], 8)])},
        {"BitsStored": 1, "HighBit": 0},
    ],
)
def test_a_header_that_cannot_be_applied_is_refused(tmp_path: Path, header: dict[str, Any]) -> None:
    with pytest.raises(SeriesError, match="bad_lut"):
        shown(write_dx(tmp_path / "a", **header))


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
@pytest.mark.parametrize("tone", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_dark_whatever_the_polarity(
    tmp_path: Path, tone: str, syntax: str | None
) -> None:
    stored = np.array([[-2000, -1990, 100, 2000]], np.int16)
    header: dict[str, Any] = {} if syntax is None else {"syntax": syntax}
    path = write_dx(tmp_path / "a", stored, PhotometricInterpretation=tone,
                    PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1980, **header)  # fmt: skip
    film = shown(path)
    assert film[0, :2].tolist() == [0, 0]
    assert (film[0, 2:] > 0).all()


@pytest.mark.parametrize("level", [0, 255])
def test_a_burned_in_frame_becomes_dark(tmp_path: Path, level: int) -> None:
    inner = np.random.default_rng(0).integers(60, 200, (40, 50)).astype(np.uint8)
    framed = np.pad(inner, ((4, 6), (3, 7)), constant_values=level)
    film = shown(save(tmp_path / "a.png", framed))
    np.testing.assert_allclose(film[4:-6, 3:-7] * 255, inner, atol=1e-4)
    assert film.sum() == pytest.approx(film[4:-6, 3:-7].sum())


@given(arrays(np.float32, (9, 8), elements=st.floats(0, 1, width=32)))
def test_masking_a_frame_only_ever_darkens_its_outer_quarters(film: np.ndarray) -> None:
    masked = mask_border(film)
    assert ((masked == film) | (masked == 0)).all()
    np.testing.assert_array_equal(masked[2:-2, 2:-2], film[2:-2, 2:-2])


def test_what_a_display_shutter_hides_is_dark(tmp_path: Path) -> None:
    stored = np.full((8, 8), 4000, np.uint16)
    stored[3, 3] = 2000
    path = write_dx(
        tmp_path / "a", stored, ShutterShape="RECTANGULAR", ShutterUpperHorizontalEdge="1",
        ShutterLowerHorizontalEdge="8", ShutterLeftVerticalEdge="2", ShutterRightVerticalEdge="9",
    )  # fmt: skip
    film = shown(path)
    assert np.argwhere(film > 0).min(axis=0).tolist() == [1, 2]
    assert np.argwhere(film > 0).max(axis=0).tolist() == [6, 7]


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless,
     JPEG2000Lossless],
)  # fmt: skip
@pytest.mark.parametrize("signed", [False, True])
def test_every_lossless_syntax_shows_the_same_picture(
    tmp_path: Path, syntax: str, signed: bool
) -> None:
    stored = np.random.default_rng(1).integers(0, 4096, (64, 48)) - 2048 * signed
    stored = stored.astype(np.int16 if signed else np.uint16)
    plain = shown(write_dx(tmp_path / "a", stored))
    path = write_dx(tmp_path / "b", stored, syntax=syntax)
    np.testing.assert_array_equal(shown(path), plain)
    assert read_radiograph_header(path).reasons == ()


def test_big_endian_files_read(tmp_path: Path) -> None:
    table = Sequence([lut(0, [0, 51, 255], 8)])
    path = write_dx(tmp_path / "a", syntax=ExplicitVRBigEndian, VOILUTSequence=table)
    np.testing.assert_allclose(shown(path), [[0, 1, 1], [1, 1, 1]])


def test_a_capture_in_equal_channels_reads_and_one_in_colour_is_refused(tmp_path: Path) -> None:
    sc = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4)[..., None], 3, axis=2)
    np.testing.assert_allclose(
        shown(write_dx(tmp_path / "a", grey, bits=8, **sc)), grey[..., 0] / 255, atol=1e-6
    )
    grey[1, 1, 0] = 99
    with pytest.raises(SeriesError, match="colour"):
        shown(write_dx(tmp_path / "b", grey, bits=8, **sc))


def test_pixels_that_are_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="bad_pixels"):
        shown(write_dx(tmp_path / "a", Rows=300))


def test_no_text_of_the_header_stands_in_a_refusal(tmp_path: Path) -> None:
    path = write_dx(tmp_path / "a", Modality="DOE", BodyPartExamined="JANE DOE",
                    NumberOfFrames="2", StudyDescription="Doe, Jane")  # fmt: skip
    with pytest.raises(SeriesError) as caught:
        read_radiograph(FileRef(path, label="f000001"))
    assert "doe" not in str(caught.value).lower()
    assert str(caught.value).startswith("f000001:")


@pytest.mark.parametrize(
    ("header", "spacing"),
    [
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.5, 0.5]}, (0.2, 0.3)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.14, 0.15]}, (0.14, 0.15)),
        ({}, None),
    ],
)
def test_spacing_is_the_bodys_else_the_detectors(
    tmp_path: Path, header: dict[str, Any], spacing: tuple[float, float] | None
) -> None:
    assert read_radiograph(write_dx(tmp_path / "a", **header)).pixel_spacing_mm == spacing


def test_a_member_of_a_zip_reads_like_a_file(tmp_path: Path) -> None:
    path = write_dx(tmp_path / "a", ViewPosition="PA")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(path, "deep/a")
    ref = FileRef(tmp_path / "x.zip", "deep/a")
    np.testing.assert_array_equal(read_radiograph(ref).pixels, shown(path))
    header = read_radiograph_header(ref)
    assert (header.view, header.shape) == ("PA", (2, 3))
    assert "hospital-17" not in repr(header)


def test_the_two_ranges_convert_both_ways() -> None:
    unit = np.array([0.0, 0.25, 1.0], np.float32)
    assert to_xrv(unit).tolist() == [-1024.0, -512.0, 1024.0]
    assert to_unit(to_xrv(unit)).tolist() == unit.tolist()


def test_the_xrv_range_is_that_of_torchxrayvision() -> None:
    import torchxrayvision as xrv

    pixels = np.array([[0, 51, 255]], np.uint8)
    np.testing.assert_allclose(
        to_xrv((pixels / 255).astype(np.float32)), xrv.utils.normalize(pixels, 255), atol=1e-3
    )


@needs_data
def test_real_pngs_read() -> None:
    path = sorted((Path(os.environ["MEDKD_DATA"]) / "nih1000").rglob("*.png"))[0]
    film = read_radiograph(path)
    assert film.pixels.shape == (64, 64)
    assert 0.05 < film.pixels.mean() < 0.95


@needs_data
@pytest.mark.slow
def test_the_real_chest_film_shows_bright_bones_on_dark_air_in_all_its_encodings() -> None:
    folder = Path(os.environ["MEDKD_DATA"]) / "dicom_edge" / "wg04_chest_cr_rg1"
    plain = read_radiograph(folder / "RG1_UNCR.dcm")
    np.testing.assert_array_equal(plain.pixels, read_radiograph(folder / "RG1_J2KR.dcm").pixels)
    for lossy in ("RG1_J2KI.dcm", "RG1_JLSN"):
        assert np.abs(read_radiograph(folder / lossy).pixels - plain.pixels).max() < 0.02
    spine, lung, air = plain.pixels[1200, 900], plain.pixels[400, 600], plain.pixels[150, 40]
    assert spine > lung + 0.2 > air + 0.2
    assert (plain.view, plain.pixel_spacing_mm) == ("PA", None)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (["L", "F"], ("L", "F")), (["P", "FL"], ("P", "FL")), (["LR", "F"], None),
        (["LE", "V"], None), (["L"], None), ("L", None), (None, None),
    ],
)  # fmt: skip
def test_the_orientation_of_the_patient_is_read_from_the_header(tmp_path, stated, expected):
    film = read_radiograph(write_dx(tmp_path / "a", PatientOrientation=stated))
    assert film.orientation == expected


def test_the_window_that_a_film_is_shown_with_is_recorded(tmp_path):
    several = {"WindowCenter": ["2000.5", "9"], "WindowWidth": ["2001", "2"]}
    film = read_radiograph(write_dx(tmp_path / "a", **several))
    assert film.window == DisplayWindow(2000.5, 2001.0)
    assert read_radiograph(write_dx(tmp_path / "b")).window is None
    assert read_radiograph(write_dx(tmp_path / "c", WindowCenter="2000")).window is None
