"""Planted faults: index or check reports every one of them by its code."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medkd.archive.build import build_archive_index
from medkd.archive.check import check_index
from medkd.archive.settings import IndexSettings
from medkd.geometry import VoxelGrid
from medkd.io.dicom.faulty import FAULTS, HIDDEN_NAME
from medkd.io.dicom.write import write_dicom_series
from medkd.synthetic.phantom import PhantomSettings, generator_stamp, make_phantom
from medkd.synthetic.phantom.faults import ONE_EACH, PlantedFault, plant_faults
from medkd.types import Scan
from tests.archive.archives import ignore


def thinned_chest() -> Scan:
    """Return a chest with a quarter of a small phantom's columns, which is fast to write."""
    scan = make_phantom(PhantomSettings(site="b", seed=2), 0).scan
    voxels = np.ascontiguousarray(scan.voxels_hu[::2, ::2])
    spacing = [*(2 * scan.grid.spacing_mm[:2]), 3.0]  # the greatest thickness that the gate accepts
    grid = VoxelGrid.from_parts(voxels.shape, spacing_mm=spacing, origin_mm=scan.grid.origin_mm)
    acquisition = replace(scan.acquisition, slice_thickness_mm=3.0)
    return replace(scan, voxels_hu=voxels, grid=grid, acquisition=acquisition)


def write_archive(folder: Path, patients: int) -> None:
    """Write patients that differ in one corner voxel and in their names."""
    chest = thinned_chest()
    for number in range(patients):
        voxels = chest.voxels_hu.copy()
        voxels[0, 0, :] = number
        scan = replace(chest, voxels_hu=voxels, seriesuid=f"2.25.{number + 1}")
        write_dicom_series(
            scan,
            folder / f"P{number:02d}" / "series",
            patient_name=f"Kahlenberg{number}^Xaver",
            patient_id=f"P{number:02d}",
            extra={"StudyDescription": "CT chest", "SoftwareVersions": generator_stamp()},
        )


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[PlantedFault, ...]]:
    archive = tmp_path_factory.mktemp("faults") / "archive"
    write_archive(archive, ONE_EACH)
    return archive, plant_faults(archive, seed=1)


def said_of(archive: Path, out: Path) -> dict[str, set[str]]:
    """Return the codes that index and check report for each series UID."""
    labels = {"kind": "table", "path": archive / "labels.csv", "key": "seriesuid",
              "key_is": "seriesuid", "labels": {"nodule": "nodule"}}  # fmt: skip
    settings = IndexSettings.model_validate(
        {"identity": "keep", "workers": 2, "annotations": [labels]}
    )
    index = build_archive_index(archive, out, settings, progress=ignore)
    said = defaultdict(set)
    for case in index.cases:
        said[case.case_id] |= {reason.partition(":")[0] for reason in case.reasons}
    of_the_whole = ("cannot_split", "few_positive_patients", "few_annotated_patients")
    for warning in check_index(index).warnings:
        for case_id in () if warning.code in of_the_whole else warning.ids:
            said[case_id].add(warning.code)
    return said


@pytest.mark.slow
def test_every_planted_fault_is_reported_by_its_code_and_nothing_else_is(spoilt, tmp_path) -> None:
    archive, planted = spoilt
    said = said_of(archive, tmp_path / "index.csv")
    for fault in planted:
        if fault.seen_by != "nobody":
            assert fault.code in said[fault.seriesuid], fault
    spoken = {uid for uid, codes in said.items() if codes}
    copies = 2  # of the studies that occur twice
    assert len(spoken) == len(planted) - 1 + copies
    assert len(said) == ONE_EACH + copies


@pytest.mark.slow
def test_the_stamp_reaches_the_index_but_no_name_in_a_private_attribute(spoilt, tmp_path) -> None:
    archive, _ = spoilt
    out = tmp_path / "index.csv"
    index = build_archive_index(archive, out, IndexSettings(workers=2), progress=ignore)
    assert {case.generator for case in index.cases} == {generator_stamp()}
    public = [path for path in tmp_path.iterdir() if path.is_file()]
    assert public
    assert not any("kahlenberg" in path.read_text().casefold() for path in public)


@pytest.mark.slow
def test_each_fault_is_planted_once_and_in_a_different_patient(spoilt) -> None:
    archive, planted = spoilt
    assert len(planted) == len({fault.patient_id for fault in planted}) == ONE_EACH - 1
    assert {fault.code for fault in FAULTS} < {fault.code for fault in planted}
    hidden = next(fault for fault in planted if fault.code == HIDDEN_NAME)
    assert all(b"Kahlenberg" in (archive / name).read_bytes() for name in hidden.files)
    with (archive / "labels.csv").open() as stream:
        assert len(list(csv.reader(stream))) == 3


def test_too_few_patients_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(ValueError, match="patients"):
        plant_faults(tmp_path, seed=0)
