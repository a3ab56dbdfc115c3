from __future__ import annotations

from pathlib import Path

import pytest

from medkd.errors import SeriesError
from medkd.io.reference import read_reference_source
from medkd.io.reference.luna16 import Luna16Annotations
from tests.io.reference.oblique import SERIESUID, oblique_places

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def row(seriesuid: str, voxel: tuple[float, float, float], diameter: float) -> str:
    x, y, z = oblique_places().grid.voxel_to_world(voxel).tolist()
    return f"{seriesuid},{x!r},{y!r},{z!r},{diameter}\n"


def test_nodules_keep_their_place_and_what_they_count_as(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + row(SERIESUID, (10, 20, 5), 6.5))
    (tmp_path / "e.csv").write_text(HEADER + row(SERIESUID, (30, 2, 9), -1))
    settings = Luna16Annotations(
        kind="luna16", annotations=tmp_path / "a.csv", excluded=tmp_path / "e.csv"
    )
    found = read_reference_source(settings, {SERIESUID: oblique_places()})
    grid = oblique_places().grid
    assert grid.world_to_voxel(found.nodules[0].center_mm) == pytest.approx([10, 20, 5])
    assert [n.counts_as for n in found.nodules] == ["included", "excluded"]
    assert found.unmatched == ()


def test_rows_outside_or_of_another_series_are_listed_and_not_clamped(tmp_path: Path) -> None:
    rows = row(SERIESUID, (10, 20, 24), 6.5) + row("1.2.3", (1, 1, 1), 5)
    (tmp_path / "a.csv").write_text(HEADER + rows)
    settings = Luna16Annotations(kind="luna16", annotations=tmp_path / "a.csv")
    found = read_reference_source(settings, {SERIESUID: oblique_places()})
    assert found.nodules == ()
    outside, stranger = found.unmatched
    assert outside.reason == "outside the volume: voxel (10, 20, 24) of (40, 32, 24)"
    assert (stranger.row, stranger.key) == ("annotations, nodule 2", "1.2.3")


def test_a_table_with_faults_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER + "1.2,nan,0,0,3\n")
    settings = Luna16Annotations(kind="luna16", annotations=tmp_path / "a.csv")
    with pytest.raises(SeriesError, match="coordX must be a finite number"):
        read_reference_source(settings, {})
