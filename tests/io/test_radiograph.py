"""PNG radiographs: grey in 0..1 by bit depth, everything else refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medkd.errors import SeriesError
from medkd.io.radiograph import read_radiograph

needs_data = pytest.mark.skipif("MEDKD_DATA" not in os.environ, reason="MEDKD_DATA is not set")


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535)])
def test_full_scale_is_one_whatever_the_depth(tmp_path: Path, dtype: type, full: int) -> None:
    pixels = np.zeros((3, 5), dtype)
    pixels[1, 4] = full
    film = read_radiograph(save(tmp_path / "film.png", pixels))
    assert film.pixels.shape == (3, 5)
    assert film.pixels.dtype == np.float32
    assert (film.pixels[1, 4], film.pixels[0, 0]) == (1.0, 0.0)
    assert (film.imageuid, film.patient_id) == ("film", "film")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_equal_channels_count_as_grey(tmp_path: Path, channels: int) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    pixels = np.repeat(grey[..., None], channels, axis=2)
    if channels in (2, 4):
        pixels[..., -1] = 255
    film = read_radiograph(save(tmp_path / "a.png", pixels))
    np.testing.assert_allclose(film.pixels, grey / 255, atol=1e-7)


def test_colour_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((3, 4, 3), np.uint8)
    pixels[0, 0] = [9, 8, 7]
    with pytest.raises(SeriesError, match="in colour"):
        read_radiograph(save(tmp_path / "a.png", pixels))


def test_a_palette_of_greys_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.save(tmp_path / "a.png")
    film = read_radiograph(tmp_path / "a.png")
    np.testing.assert_allclose(film.pixels * 255, [[10, 200]], atol=1e-3)


def test_black_and_white_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeriesError, match="8 or 16 bits"):
        read_radiograph(save(tmp_path / "a.png", np.ones((3, 4), bool)))


@pytest.mark.parametrize("content", [None, b"no picture", b"cut"])
def test_what_is_no_whole_png_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.png"
    if content == b"cut":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
        path.write_bytes(save(path, noise).read_bytes()[:-900])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SeriesError, match=r"no such file|expected a PNG|cannot be read"):
        read_radiograph(path)


@needs_data
def test_a_real_radiograph_reads() -> None:
    path = sorted((Path(os.environ["MEDKD_DATA"]) / "nih1000").rglob("*.png"))[0]
    film = read_radiograph(path)
    assert film.pixels.shape == (64, 64)
    assert 0.05 < film.pixels.mean() < 0.95
