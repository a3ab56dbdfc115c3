"""Prepared scans: what is kept of a scan, in memory and on disk, is the same."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkd.data.cache_folder import CacheFolder, find_caches
from medkd.data.cases import Case
from medkd.data.loading import parse_loading
from medkd.data.prepared import PreparedScan, PreparedScans, prepare_lungs, prepare_scan
from medkd.errors import SeriesError
from medkd.io.volume import write_mhd
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from tests.detect_cases import chest_with_balls

LATER_STEPS: list[dict[str, Any]] = [
    {"kind": "spacing", "spacing_mm": [4, 4, 4]},
    {"kind": "crop", "patch_shape": [8, 8, 8]},
    {"kind": "intensity"},
]
STEPS = parse_loading([{"kind": "load"}, *LATER_STEPS])
ORIENTED = parse_loading([{"kind": "load"}, {"kind": "orientation"}, *LATER_STEPS])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    scan = make_phantom(PhantomSettings(site="b"), 0).scan
    path = tmp_path_factory.mktemp("scan") / f"{scan.seriesuid}.mhd"
    write_mhd(scan, path)
    return Case(scan.seriesuid, "p0", "scan", path=path)


def assert_same(one: PreparedScan, two: PreparedScan) -> None:
    assert one.voxels_hu.equal(two.voxels_hu)
    assert np.array_equal(one.grid.affine_lps_mm, two.grid.affine_lps_mm)
    assert one.facts.notes == two.facts.notes
    ours, theirs = one.found_lungs(), two.found_lungs()
    assert (ours.box, ours.litres) == (theirs.box, theirs.litres)
    assert np.array_equal(ours.mask, theirs.mask)


def test_a_scan_is_the_same_in_memory_fresh_on_disk_and_read_back(
    case: Case, tmp_path: Path
) -> None:
    in_memory = PreparedScans(STEPS, None).get(case)
    fresh = PreparedScans(STEPS, tmp_path).get(case)
    assert_same(in_memory, fresh)
    assert_same(fresh, PreparedScans(STEPS, tmp_path).get(case))


def test_a_scan_without_lungs_is_prepared_and_says_why(case: Case) -> None:
    scan = make_phantom(PhantomSettings(site="b"), 0).scan
    scan.voxels_hu[:] = 40
    prepared = prepare_scan(scan, STEPS)
    with pytest.raises(SeriesError, match="no lungs found") as refused:
        prepared.found_lungs()
    assert refused.value.reasons


def test_every_scan_that_cannot_be_prepared_is_named(case: Case, tmp_path: Path) -> None:
    broken = [Case(name, "p", "scan", path=tmp_path / f"{name}.mhd") for name in "ab"]
    for one in broken:
        one.path.write_text("nonsense")
    with pytest.raises(SeriesError) as refused:
        PreparedScans(STEPS, tmp_path / "cache").prepare([case, *broken])
    assert {reason.split(":")[0] for reason in refused.value.reasons} == {"a", "b"}


def test_a_scan_whose_entry_is_removed_before_it_is_read_is_prepared_again(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = PreparedScans(STEPS, tmp_path)
    whole = CacheFolder.entry

    def removed(folder: CacheFolder, *words: Any) -> Path:
        entry = whole(folder, *words)
        shutil.rmtree(entry)
        return entry

    monkeypatch.setattr(CacheFolder, "entry", removed)
    assert_same(scans.get(case), PreparedScans(STEPS, None).get(case))


def fill(folder: CacheFolder, name: str, *, used_s: float) -> Path:
    entry = folder.entry(name, lambda made: (made / "x").write_bytes(bytes(1000)) and None)
    os.utime(entry, (used_s, used_s))
    return entry


def test_over_its_limit_a_cache_drops_what_was_not_used_for_longest(tmp_path: Path) -> None:
    folder = CacheFolder(tmp_path / "cache", limit_gib=2500 / 2**30)
    fill(folder, "old", used_s=1)
    fill(folder, "new", used_s=2)
    fill(folder, "newest", used_s=3)
    assert [entry.path.name for entry in folder.entries()] == ["new", "newest"]


def test_caches_are_found_by_their_tag_alone(tmp_path: Path) -> None:
    fill(CacheFolder(tmp_path / "run" / "cache"), "entry", used_s=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "CACHEDIR.TAG").write_text(
        "Signature: 8a477f597d28d172789f06886806bc55\n"
    )
    (found,) = find_caches(tmp_path)
    assert found.path == tmp_path / "run" / "cache"
    found.clear()
    assert found.entries() == []


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
@pytest.mark.parametrize("steps", [ORIENTED, STEPS])
def test_the_lungs_alone_are_a_part_of_the_whole_scan(axes, flips, steps) -> None:
    scan = chest_with_balls()
    voxels = np.flip(scan.voxels_hu.transpose(axes), tuple(np.flatnonzero(flips)))
    grid = scan.grid.reordered(axes, flips)
    stored = replace(scan, voxels_hu=np.ascontiguousarray(voxels), grid=grid)
    whole, part = prepare_scan(stored, steps), prepare_lungs(stored, steps, margin_vox=(3, 2, 1))
    first = np.rint(whole.grid.world_to_voxel(part.grid.origin_mm)).astype(int)
    box = tuple(slice(n, n + size) for n, size in zip(first, part.grid.shape, strict=True))
    np.testing.assert_allclose(part.grid.direction, whole.grid.direction, atol=1e-9)
    np.testing.assert_allclose(part.voxels_hu[0], whole.voxels_hu[0][box], atol=1)
    margin = [side.start for side in part.found_lungs().box]
    assert all(n <= most for n, most in zip(margin, (3, 2, 1), strict=True))
    assert part.facts.grid is stored.grid


def test_the_way_a_scan_is_stored_does_not_change_the_prepared_lungs() -> None:
    scan = chest_with_balls()
    grid = scan.grid.reordered((2, 0, 1), (True, False, True))
    turned = np.flip(scan.voxels_hu.transpose(2, 0, 1), (0, 2))
    other = replace(scan, voxels_hu=np.ascontiguousarray(turned), grid=grid)
    one, two = (prepare_lungs(s, ORIENTED, margin_vox=(8, 8, 8)) for s in (scan, other))
    np.testing.assert_allclose(one.grid.affine_lps_mm, two.grid.affine_lps_mm, atol=1e-9)
    np.testing.assert_allclose(one.voxels_hu, two.voxels_hu, atol=1)
    assert one.found_lungs().box == two.found_lungs().box
    assert np.array_equal(one.found_lungs().mask, two.found_lungs().mask)


def test_lungs_that_are_not_found_have_reasons_and_no_voxels() -> None:
    scan = chest_with_balls()
    scan.voxels_hu[:] = 40
    prepared = prepare_lungs(scan, ORIENTED, margin_vox=(8, 8, 8))
    assert prepared.lungs is None
    assert prepared.no_lungs[0].startswith("lungs_not_in_view: ")
    assert prepared.voxels_hu.numel() == 0
