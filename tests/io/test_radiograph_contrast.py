"""A picture that shows nothing is refused before it is masked; odd tables and bits are noted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medkd.errors import SeriesError
from medkd.io.radiograph.read import read_radiograph, read_radiograph_header
from tests.archive.archives import index_of
from tests.io.radiograph_helper import write_dx

RAMP = np.tile(np.arange(64) * 60, (64, 1)).astype(np.uint16)
NOISE = np.random.default_rng(0)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def blank(value: float, *, noise: float = 0.0, size: int = 256) -> np.ndarray:
    noisy = value + NOISE.normal(0, noise, (size, size))
    return np.clip(noisy.round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize("value", [0, 1, 77, 128, 254, 255])
@pytest.mark.parametrize("size", [64, 256, 300])
def test_a_blank_png_is_refused_whatever_its_value(
    tmp_path: Path, value: int, noise: float, size: int
) -> None:
    with pytest.raises(SeriesError, match="no_contrast"):
        read_radiograph(save(tmp_path / "a.png", blank(value, noise=noise, size=size)))


@pytest.mark.parametrize("value", [0, 3, 32768, 65000, 65535])
def test_a_blank_png_of_16_bits_is_refused(tmp_path: Path, value: int) -> None:
    with pytest.raises(SeriesError, match="no_contrast"):
        read_radiograph(save(tmp_path / "a.png", np.full((128, 96), value, np.uint16)))


@pytest.mark.parametrize("value", [0, 90, 250, 255])
def test_a_blank_jpeg_with_its_noise_is_refused(tmp_path: Path, value: int) -> None:
    path = save(tmp_path / "a.jpg", blank(value, noise=3.0), quality=70)
    with pytest.raises(SeriesError, match="no_contrast"):
        read_radiograph(path)


@pytest.mark.parametrize("frame", [0, 255])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_blank_picture_in_a_frame_or_with_a_letter_is_refused(
    tmp_path: Path, frame: int, value: int
) -> None:
    pixels = blank(value)
    pixels[10:24, 10:20] = 255 - value
    framed = np.pad(pixels, 40, constant_values=frame)
    for name, picture in (("a", pixels), ("b", framed)):
        with pytest.raises(SeriesError, match="no_contrast"):
            read_radiograph(save(tmp_path / f"{name}.png", picture))


def test_a_mask_is_refused_and_a_film_with_a_dark_rim_is_not(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[30:90, 40:80] = 255
    with pytest.raises(SeriesError, match="black or white"):
        read_radiograph(save(tmp_path / "mask.png", mask))
    film = np.pad(RAMP[:, ::2] // 16, 8).astype(np.uint8)
    assert read_radiograph(save(tmp_path / "film.png", film)).notes == ()


@pytest.mark.parametrize("tone", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("value", [0, 2000, 4095])
@pytest.mark.parametrize("noise", [0, 3])
def test_blank_stored_values_are_refused_even_where_a_window_stretches_their_noise(
    tmp_path: Path, tone: str, value: int, noise: int
) -> None:
    stored = np.clip(value + NOISE.integers(-noise, noise + 1, (96, 96)), 0, 4095)
    window = {"WindowCenter": str(value), "WindowWidth": "6"}
    path = write_dx(
        tmp_path / "a", stored.astype(np.uint16), PhotometricInterpretation=tone, **window
    )
    with pytest.raises(SeriesError, match="no_contrast"):
        read_radiograph(path)


@pytest.mark.parametrize("tone", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("center", ["-3000", "20000"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_beside_the_values_is_refused(
    tmp_path: Path, tone: str, center: str, function: str
) -> None:
    header = {"WindowCenter": center, "WindowWidth": "400", "VOILUTFunction": function}
    path = write_dx(tmp_path / "a", RAMP, PhotometricInterpretation=tone, **header)
    with pytest.raises(SeriesError, match="no_contrast"):
        read_radiograph(path)


def test_a_window_that_leaves_black_and_white_is_refused_and_a_narrow_one_noted(
    tmp_path: Path,
) -> None:
    with pytest.raises(SeriesError, match="black or white"):
        read_radiograph(write_dx(tmp_path / "a", RAMP, WindowCenter="2000", WindowWidth="2"))
    narrow = read_radiograph(write_dx(tmp_path / "b", RAMP, WindowCenter="1900", WindowWidth="700"))
    assert [note.partition(":")[0] for note in narrow.notes] == ["saturated"]


def test_padding_and_what_a_shutter_hides_do_not_make_contrast(tmp_path: Path) -> None:
    stored = np.full((64, 64), 3000, np.uint16)
    stored[:20] = 0
    padded = write_dx(tmp_path / "a", stored, PixelPaddingValue=0)
    stored[:20] = RAMP[:20]
    shut = write_dx(
        tmp_path / "b", stored, ShutterShape="RECTANGULAR", ShutterUpperHorizontalEdge="20",
        ShutterLowerHorizontalEdge="65", ShutterLeftVerticalEdge="0",
        ShutterRightVerticalEdge="65",
    )  # fmt: skip
    for path in (padded, shut):
        with pytest.raises(SeriesError, match="no_contrast"):
            read_radiograph(path)


def test_the_index_refuses_blank_pictures_and_keeps_notes(tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    save(root / "white.png", np.full((256, 256), 255, np.uint8))
    save(root / "dim.png", RAMP)  # 12 bits in a file of 16
    white, dim = sorted(
        index_of(root, tmp_path / "i.csv", identity="keep").cases, key=lambda case: case.status
    )
    assert (white.status, dim.status) == ("not_analysed", "ready")
    assert white.reasons[0].startswith("no_contrast")
    assert dim.notes[0].startswith("faint")


def voi(bits: int, entries: np.ndarray, *, first: int = 0, packed: bool = False) -> dict[str, Any]:
    item = Dataset()
    count = len(entries) if len(entries) < 65536 else 0
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, bits])
    kind = "<u1" if packed else "<u2"
    item.add_new("LUTData", "OW", entries.astype(kind).tobytes())
    return {"VOILUTSequence": Sequence([item])}


@pytest.mark.parametrize("bits", [12, 13, 16])
def test_a_table_narrower_than_declared_is_scaled_by_its_own_range(
    tmp_path: Path, bits: int
) -> None:
    film = read_radiograph(write_dx(tmp_path / "a", RAMP, **voi(bits, np.arange(4096))))
    np.testing.assert_allclose(film.pixels, RAMP / 4095, atol=1e-6)
    expected = f"VOI LUT declares {bits} bits and its largest entry is 4095: scaled to that"
    assert film.notes == ((expected,) if bits > 12 else ())


@pytest.mark.parametrize("largest", [4000, 2200, 2048])
@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_is_scaled_by_its_largest_entry_not_by_a_power_of_two(
    tmp_path: Path, kind: str, largest: int
) -> None:
    entries = np.rint(np.arange(4096) * largest / 4095)
    table = {kind: voi(16, entries)["VOILUTSequence"]}
    film = read_radiograph(write_dx(tmp_path / "a", RAMP, **table))
    np.testing.assert_allclose(film.pixels, RAMP / 4095, atol=1 / largest)
    assert f"its largest entry is {largest}" in film.notes[0]


def test_a_table_that_fills_its_bits_is_shown_as_the_standard_says(tmp_path: Path) -> None:
    entries = np.rint(np.arange(4096) * 2200 / 4095)
    film = read_radiograph(write_dx(tmp_path / "a", RAMP, **voi(12, entries)))
    # The first two columns are darker than 1 %: a black frame, set to 0.
    shown, wanted = film.pixels[:, 2:], RAMP[:, 2:] / 4095 * 2200 / 4095
    np.testing.assert_allclose(shown, wanted, atol=1 / 4095)


def test_a_narrow_modality_table_is_scaled_where_its_range_is_shown(tmp_path: Path) -> None:
    tables = {"ModalityLUTSequence": voi(16, np.arange(4096))["VOILUTSequence"]}
    film = read_radiograph(write_dx(tmp_path / "a", RAMP, **tables))
    np.testing.assert_allclose(film.pixels, RAMP / 4095, atol=1e-6)
    assert film.notes[0].startswith("modality LUT declares 16 bits")
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    assert read_radiograph(write_dx(tmp_path / "b", RAMP, **tables, **window)).notes == ()


def test_a_narrow_presentation_table_is_applied_and_scaled(tmp_path: Path) -> None:
    table = voi(16, np.arange(4096)[::-1])["VOILUTSequence"]
    film = read_radiograph(write_dx(tmp_path / "a", RAMP, PresentationLUTSequence=table))
    # The first column is white: a frame, set to 0.
    np.testing.assert_allclose(film.pixels[:, 1:], 1 - RAMP[:, 1:] / 4095, atol=1e-3)
    assert film.notes[0].startswith("presentation LUT")


def test_a_table_wider_than_declared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="bad_lut: a look-up table of 12 bits with entries up to"):
        read_radiograph(write_dx(tmp_path / "a", RAMP, **voi(12, np.arange(4096) * 4)))


def test_a_table_of_zeros_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="bad_lut"):
        read_radiograph(write_dx(tmp_path / "a", RAMP, **voi(12, np.zeros(4096))))


def test_0_entries_mean_65536(tmp_path: Path) -> None:
    stored = RAMP * 16
    film = read_radiograph(write_dx(tmp_path / "a", stored, bits=16, **voi(16, np.arange(65536))))
    np.testing.assert_allclose(film.pixels, stored / 65535, atol=1e-6)


@pytest.mark.parametrize("count", [256, 255])
def test_entries_of_8_bits_stand_two_in_a_word(tmp_path: Path, count: int) -> None:
    stored = RAMP // 16
    ramp = np.arange(256) if count == 256 else np.minimum(np.arange(256), 254)
    table = voi(8, ramp[: count + count % 2], packed=True)
    table["VOILUTSequence"][0].LUTDescriptor = [count, 0, 8]
    film = read_radiograph(write_dx(tmp_path / "a", stored, **table))
    np.testing.assert_allclose(film.pixels, stored / 255, atol=1e-6)


def test_a_first_value_is_read_with_the_sign_that_fits_the_pixels(tmp_path: Path) -> None:
    signed = RAMP.astype(np.int16) - 2048
    below = read_radiograph(
        write_dx(tmp_path / "a", signed, **voi(12, np.arange(4096), first=-2048))
    )
    np.testing.assert_allclose(below.pixels, RAMP / 4095, atol=1e-6)
    high = (RAMP + 40000).astype(np.uint16)
    table = voi(12, np.arange(4096), first=40000 - 65536)
    above = read_radiograph(write_dx(tmp_path / "b", high, bits=16, **table))
    np.testing.assert_allclose(above.pixels, RAMP / 4095, atol=1e-6)


def test_values_above_bits_stored_are_noted_unless_an_overlay_explains_them(
    tmp_path: Path,
) -> None:
    stored = RAMP.copy()
    stored[3, 5] |= 0x1000
    film = read_radiograph(write_dx(tmp_path / "a", stored))
    assert film.notes[0].startswith("1 pixels have values above the 12 bits")
    path = write_dx(tmp_path / "b", stored)
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x0100), "US", 16)
    dataset.add_new((0x6000, 0x0102), "US", 12)
    dataset.save_as(path)
    assert read_radiograph(path).notes == ()


def test_the_sign_of_a_negative_value_is_no_value_above_bits_stored(tmp_path: Path) -> None:
    assert read_radiograph(write_dx(tmp_path / "a", RAMP.astype(np.int16) - 2048)).notes == ()


def test_a_picture_larger_than_memory_allows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", NOISE.integers(0, 255, (64, 64)).astype(np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for read in (read_radiograph, read_radiograph_header):
        with pytest.raises(SeriesError, match=r"a\.png: cannot be read.*\n.*DecompressionBomb"):
            read(path)


@pytest.mark.parametrize("error", [MemoryError(), AssertionError("x"), RecursionError()])
def test_whatever_a_decoder_raises_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    png = save(tmp_path / "a.png", NOISE.integers(0, 255, (64, 64)).astype(np.uint8))
    dx = write_dx(tmp_path / "b", RAMP)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    monkeypatch.setattr("medkd.io.radiograph.dicom.pixel_array", fail)
    for path in (png, dx):
        with pytest.raises(SeriesError, match="bad_pixels"):
            read_radiograph(path)
