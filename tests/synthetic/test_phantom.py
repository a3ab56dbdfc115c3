"""Chest phantoms: reproducible bytes, true positions and sizes, a layout that can be read back."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from medkd.errors import SettingsError
from medkd.io.luna16 import read_luna16
from medkd.io.luna16_tables import (
    read_annotations,
    read_candidates,
    read_excluded,
    read_seriesuids,
)
from medkd.io.volume import read_volume
from medkd.synthetic.phantom import PhantomSettings, make_phantom, series_uid, write_phantom_set


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomSettings(site="b", seed=3, nodules_per_scan="4-4"), 0)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("phantoms") / "set"
    write_phantom_set(out, PhantomSettings(site="b", scans=2, seed=3, nodules_per_scan="4-4"))
    return out


def bytes_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(written, tmp_path):
    settings = PhantomSettings(site="b", scans=2, seed=3, nodules_per_scan="4-4")
    write_phantom_set(tmp_path / "again", settings, workers=2)
    assert bytes_of(tmp_path / "again") == bytes_of(written)


def test_a_scan_depends_on_its_number_and_not_on_the_number_of_scans(written, phantom):
    assert read_seriesuids(written / "seriesuids.csv")[0] == phantom.scan.seriesuid
    again = read_volume(written / "subset0" / f"{phantom.scan.seriesuid}.mhd")
    np.testing.assert_array_equal(again.voxels_hu, phantom.scan.voxels_hu)
    np.testing.assert_allclose(again.grid.affine_lps_mm, phantom.scan.grid.affine_lps_mm)


def test_another_seed_site_or_number_is_another_series():
    uids = {
        series_uid(PhantomSettings(site=site, seed=seed), number)
        for site in ("a", "b")
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len(uids) == 8
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)


def test_scans_are_distributed_round_robin_over_subsets(written):
    uids = read_seriesuids(written / "seriesuids.csv")
    for number, uid in enumerate(uids):
        assert (written / f"subset{number}" / f"{uid}.raw").is_file()
    assert sorted(p.name for p in written.iterdir() if p.is_dir()) == [
        f"subset{n}" for n in range(10)
    ]


def test_the_record_names_generator_settings_and_every_finding(written):
    record = json.loads((written / "phantom.json").read_text())
    assert record["synthetic"] is True
    assert record["settings"]["seed"] == 3
    painted = [f for scan in record["scans"] for f in scan["findings"] if f["kind"] == "nodule"]
    listed = read_annotations(written / "annotations.csv")
    assert [f["diameter_mm"] for f in painted] == [n.diameter_mm for n in listed]


def test_every_nodule_and_candidate_is_inside_its_scan(phantom):
    points = [n.center_mm for n in phantom.nodules] + [c.center_mm for c in phantom.candidates]
    assert phantom.scan.grid.contains_world(points).all()
    assert not np.allclose(phantom.scan.grid.origin_mm, 0)


def test_nodules_are_denser_than_the_lung_around_them(phantom):
    scan = phantom.scan
    for nodule in phantom.nodules:
        i, j, k = np.round(scan.grid.world_to_voxel(nodule.center_mm)).astype(int)
        inside = scan.voxels_hu[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].mean()
        assert inside > -780
        assert 3.0 <= nodule.diameter_mm <= 33.0


def test_true_candidates_are_inside_their_nodule_and_the_others_in_none(phantom):
    for candidate in phantom.candidates:
        apart = [
            np.linalg.norm(np.subtract(candidate.center_mm, n.center_mm)) - n.diameter_mm / 2
            for n in phantom.nodules
        ]
        assert (min(apart) < 0) == (candidate.label == 1)


def test_nodules_do_not_overlap(phantom):
    by_place = sorted(phantom.nodules, key=lambda n: n.center_mm)
    assert len({n.center_mm for n in by_place}) == 4
    for first, second in pairwise(by_place):
        apart = np.linalg.norm(np.subtract(first.center_mm, second.center_mm))
        assert apart > (first.diameter_mm + second.diameter_mm) / 2


def test_irrelevant_findings_and_candidates_are_written_to_luna16s_tables(written):
    excluded = read_excluded(written / "annotations_excluded.csv")
    assert excluded
    labels = [c.label for c in read_candidates(written / "candidates_V2.csv")]
    assert 0 < sum(labels) < len(labels) / 3


def test_a_folder_that_is_not_empty_is_refused_and_not_changed(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SettingsError, match="not empty"):
        write_phantom_set(tmp_path, PhantomSettings(scans=1))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def interrupted_at(count: int):
    def stop(done: int, total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return stop


def test_an_interrupted_set_continues_after_its_last_scan_with_the_same_bytes(written, tmp_path):
    settings = PhantomSettings(site="b", scans=2, seed=3, nodules_per_scan="4-4")
    out = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        write_phantom_set(out, settings, progress=interrupted_at(1))
    assert not out.exists()
    (uid,) = [path.stem for path in (tmp_path / ".set.unfinished").rglob("*.raw")]
    leftover = tmp_path / ".set.unfinished/set/subset1" / f".{uid}.raw.abc.part"
    leftover.write_text("half")  # left by a kill while writing
    seen = []
    write_phantom_set(out, settings, progress=lambda *counts: seen.append(counts))
    assert seen == [(2, 2)]
    assert bytes_of(out) == bytes_of(written)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_interrupted_set_of_other_settings_is_restarted(tmp_path, phantom):
    out = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        write_phantom_set(out, PhantomSettings(site="b", scans=2), progress=interrupted_at(1))
    write_phantom_set(out, PhantomSettings(site="b", scans=1, seed=3, nodules_per_scan="4-4"))
    assert [path.stem for path in out.rglob("*.mhd")] == [phantom.scan.seriesuid]


def test_leftovers_of_a_kill_at_the_very_end_are_removed(written, tmp_path):
    home = written.parent / ".set.unfinished"
    (home / "kept").mkdir(parents=True)
    with pytest.raises(SettingsError, match="not empty"):
        write_phantom_set(written, PhantomSettings(scans=1))
    assert not home.exists()


@pytest.mark.parametrize("text", ["4", "4-1", "a-b", "-1-3", "1-3-5"])
def test_an_invalid_nodule_range_is_refused(text):
    with pytest.raises(ValueError, match="A-B"):
        PhantomSettings(nodules_per_scan=text)


def test_a_scan_may_have_no_nodules():
    assert make_phantom(PhantomSettings(site="b", nodules_per_scan="0-0"), 0).nodules == ()


def test_a_set_is_read_as_luna16_and_marked_as_synthetic(written):
    luna = read_luna16(written)
    assert luna.generator
    assert len(luna.scan_paths) == 2
    assert len(luna.nodules) == 8


def test_some_negatives_are_close_to_a_nodule(phantom):
    nearest = [
        min(
            np.linalg.norm(np.subtract(candidate.center_mm, n.center_mm)) - n.diameter_mm / 2
            for n in phantom.nodules
        )
        for candidate in phantom.candidates
        if candidate.label == 0
    ]
    assert min(nearest) > 3.9
    assert sum(gap < 14.0 for gap in nearest) >= 4


def test_candidates_beside_a_nodule_at_the_end_of_the_lung_stay_in_the_volume() -> None:
    settings = PhantomSettings(site="b", seed=2, scans=26, nodules_per_scan="2-5")
    phantom = make_phantom(settings, 25)
    points = [candidate.center_mm for candidate in phantom.candidates]
    assert phantom.scan.grid.contains_world(points).all()
