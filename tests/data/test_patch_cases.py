"""An INDEX of patches as a data set: each patch is a scan with its nodule, split by patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medkd.config.run_settings import RunSettings
from medkd.data.archive_cases import ArchiveData, add_candidates
from medkd.data.archive_reference import read_index_reference
from medkd.data.cases import CaseIndex, read_scan_of
from medkd.data.loading import loading_as_dicts, parse_loading
from medkd.data.prepared import PreparedScans
from medkd.data.splits import FractionSplit, build_split
from medkd.errors import SeriesError, SettingsError
from medkd.index.table import read_index
from medkd.runs import RunFolder
from medkd.train.run import run_training
from tests.archive.archives import index_of
from tests.archive.patches import CENTER_MM, CENTER_VOX, SIZE, write_patch

STEPS = parse_loading([
    {"kind": "load"}, {"kind": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
    {"kind": "crop", "patch_shape": [8, 8, 8]}, {"kind": "intensity"},
])  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten series of two patches each."""
    folder = tmp_path_factory.mktemp("patches")
    for series in range(10):
        for number in (0, 1):
            write_patch(folder / "in", f"1.2.{series}", number)
    index_of(folder / "in", folder / "work" / "index.csv", identity="keep")
    return folder / "work" / "index.csv"


def settings_of(path: Path) -> ArchiveData:
    return ArchiveData(index=str(path), cases="scans")  # type: ignore[arg-type]  # a path as text


def cases_of(path: Path) -> CaseIndex:
    return settings_of(path).read_cases(path.parent)


def test_every_patch_is_a_positive_case_that_says_that_it_is_a_patch(path: Path) -> None:
    index = cases_of(path)
    assert len(index.cases) == len(index.nodules) == 20
    assert {case.extent for case in index.cases} == {"patch"}
    assert set(index.labels.values()) == {1}


def test_a_patch_is_read_and_prepared_like_a_scan(path: Path, tmp_path: Path) -> None:
    case = cases_of(path).cases[0]
    scan = read_scan_of(case)
    assert (scan.seriesuid, scan.patient_id) == (case.case_id, case.patient_id)
    assert scan.voxels_hu[CENTER_VOX] == 40
    prepared = PreparedScans(STEPS, tmp_path).load(case)
    assert prepared.voxels_hu.shape == (1, SIZE // 2, SIZE // 2, SIZE // 2)
    place = tuple(np.rint(prepared.grid.world_to_voxel(CENTER_MM)).astype(int))
    assert prepared.voxels_hu[0][place] == 40
    assert prepared.lungs is None


def test_the_split_keeps_the_patches_of_a_series_together(path: Path) -> None:
    split = build_split(cases_of(path), FractionSplit(kind="fractions"), seed=3)
    parts = [
        {uid.partition("_")[0] for uid in part} for part in (split.train, split.val, split.test)
    ]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 10


def test_negatives_are_chosen_in_the_whole_patch_without_lungs(path: Path, tmp_path: Path) -> None:
    index, scans = cases_of(path), PreparedScans(STEPS, None)
    wanted = [index.cases[0].case_id]
    found = add_candidates(index, settings_of(path), wanted, scans=scans, work_dir=tmp_path)
    negatives = [c for c in found.candidates if c.label == 0]
    assert any(c.label == 1 and c.center_mm == CENTER_MM for c in found.candidates)
    assert len(negatives) > 10
    radius_mm = index.nodules[0].diameter_mm / 2
    for candidate in negatives:
        assert np.linalg.norm(np.subtract(candidate.center_mm, CENTER_MM)) > radius_mm + 4.0


def test_patches_are_no_reference_standard_of_whole_scans(path: Path) -> None:
    assert len(read_index(path).cases) == 20
    with pytest.raises(SeriesError, match=r"20 scans that are patches around nodules"):
        read_index_reference(path)


def test_patches_are_not_searched_as_whole_scans(path: Path, tmp_path: Path) -> None:
    """A run that would search nothing else is refused before anything is trained."""
    training = {"epochs": 1, "warmup_epochs": 0}
    settings = RunSettings.model_validate(
        {
            "target": {
                "data": {"kind": "archive", "cases": "scans", "index": str(path)},
                "split": {"kind": "fractions", "val": 0.3, "test": 0.3},
                "loading": loading_as_dicts(STEPS),
            },
            "teacher": {"model": {"kind": "shallow3d", "channels": 2}, "training": training},
            "detection": {"arms": ["teacher"]},
        }
    )
    with pytest.raises(SettingsError) as refused:
        run_training(settings, RunFolder(tmp_path / "run"))
    assert sum("has no whole scan" in reason for reason in refused.value.reasons) == 2
