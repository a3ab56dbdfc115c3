"""The share of bright pixels is read from the images, of a sample of those with labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medkd.archive.brightness import bright_share, measure_brightness
from medkd.index.table import ArchiveIndex
from tests.archive.archives import index_of

IMAGES = 6


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ArchiveIndex]:
    """Six images with bright squares of 10, 12, ... 20 of 64 pixels; the last has no label."""
    folder = tmp_path_factory.mktemp("squares")
    root = folder / "images"
    root.mkdir()
    for number in range(IMAGES):
        side = 10 + 2 * number
        pixels = np.random.default_rng(number).integers(0, 60, (64, 64)).astype(np.uint8)
        pixels[:side, :side] = 200
        Image.fromarray(pixels).save(root / f"{number}.png")
    rows = "".join(f"{number}.png,{number % 2}\n" for number in range(IMAGES - 1))
    (folder / "labels.csv").write_text(f"file,mass\n{rows}", encoding="utf-8")
    table = {"kind": "table", "path": folder / "labels.csv", "key": "file",
             "labels": {"mass": "mass"}}  # fmt: skip
    index = folder / "index.csv"
    return root, index, index_of(root, index, identity="keep", annotations=[table])


def test_the_share_is_the_area_of_what_is_brighter_than_half_of_the_brightest_pixel() -> None:
    pixels = np.full((10, 10), 0.2, np.float32)
    pixels[:3, :4] = 0.5
    assert bright_share(pixels) == pytest.approx(0.12)
    assert bright_share(np.zeros((4, 4), np.float32)) == 0.0


def test_images_with_a_known_label_are_measured(archive: tuple[Path, Path, ArchiveIndex]) -> None:
    _, path, index = archive
    seen: list[tuple[int, int]] = []

    found = measure_brightness(path, index, most=100, progress=lambda *step: seen.append(step))

    expected = {str(number): (10 + 2 * number) ** 2 / 64**2 for number in range(IMAGES - 1)}
    assert found.shares == pytest.approx(expected)
    assert found.notes == ()
    assert seen == [(done, IMAGES - 1) for done in range(1, IMAGES)]


def test_a_sample_is_drawn_by_the_seed_and_noted(archive: tuple[Path, Path, ArchiveIndex]) -> None:
    _, path, index = archive
    draws = {seed: tuple(measure_brightness(path, index, most=3, seed=seed).shares)
             for seed in range(8)}  # fmt: skip
    assert len(set(draws.values())) > 1
    assert draws[0] == tuple(measure_brightness(path, index, most=3).shares)
    assert "on 3 of 5 labelled" in measure_brightness(path, index, most=3).notes[0]
    assert not measure_brightness(path, index, most=0).shares


def test_an_image_that_is_gone_is_counted_and_not_fatal(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for name in "ab":
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{name}.png")
    (tmp_path / "t.csv").write_text("file,mass\na.png,1\nb.png,0\n", encoding="utf-8")
    table = {"kind": "table", "path": tmp_path / "t.csv", "key": "file", "labels": {"m": "mass"}}
    index = index_of(root, tmp_path / "i.csv", identity="keep", annotations=[table])
    (root / "a.png").unlink()

    found = measure_brightness(tmp_path / "i.csv", index, most=10)

    assert list(found.shares) == ["b"]
    assert "of 1 radiographs could not be read" in found.notes[-1]
