"""Heat maps on disk: what is written is read back, and another file is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io import heat_maps
from medkd.io.heat_maps import HeatMap, read_heat_map, to_bytes_range, write_heat_map

GRID = VoxelGrid.from_parts((4, 3, 2), spacing_mm=(2, 2, 2.5), origin_mm=(-7, 8, 9))


def build_map(label: str = "nodule") -> HeatMap:
    values = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    return HeatMap(values, GRID, "probability", "student", label)


def test_a_map_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_heat_map(tmp_path / "case", build_map())
    found = read_heat_map(path)
    np.testing.assert_array_equal(found.values, build_map().values)
    np.testing.assert_array_equal(found.grid.affine_lps_mm, GRID.affine_lps_mm)
    assert (found.kind, found.arm, found.label) == ("probability", "student", "nodule")
    assert [file.name for file in path.parent.iterdir()] == ["student-probability-nodule.npz"]


def test_labels_that_are_no_file_names_give_different_valid_names() -> None:
    names = [build_map(label).file_name for label in ("a/b", "a\\b", "a b", "..", "a-b")]
    assert len(set(names)) == len(names)
    assert not any("/" in name or "\\" in name for name in names)


def test_values_are_rounded_to_bytes_and_clipped() -> None:
    assert to_bytes_range(np.array([-0.5, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, pickled = tmp_path / "text.npz", tmp_path / "pickled.npz"
    text.write_text("no map")
    np.savez(pickled, values=np.array([{}], dtype=object), affine_lps_mm=np.eye(4), facts=b"{}")
    floats = tmp_path / "floats.npz"
    np.savez(
        floats, values=np.zeros((1, 1, 1)), affine_lps_mm=np.eye(4), facts=np.uint8([123, 125])
    )
    whole = write_heat_map(tmp_path, build_map())
    for path in (text, pickled, floats, tmp_path / "missing.npz"):
        with pytest.raises(SeriesError, match=path.name):
            read_heat_map(path)
    monkeypatch.setattr(heat_maps, "MOST_CELLS", 10)
    with pytest.raises(SeriesError, match="at most 10 bytes"):
        read_heat_map(whole)
