"""Broken volumes cost themselves alone, and a code that accepts a fault reaches `medkd detect`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.io.volume import write_mhd
from medkd.jsonio import read_json
from medkd.models.package import ModelInfo, Preprocessing, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.types import CaseResult
from tests.detect_cases import chest_with_balls
from tests.io.volume_files import nifti_header, write_nrrd_text


@pytest.fixture
def model(tmp_path: Path) -> Path:
    settings = parse_model_settings({"kind": "shallow3d", "channels": 2})
    steps = (
        {"kind": "load"}, {"kind": "spacing", "spacing_mm": [4.0, 4.0, 4.0]},
        {"kind": "crop", "patch_shape": [8, 8, 8]}, {"kind": "intensity"},
    )  # fmt: skip
    info = ModelInfo(
        settings=settings.model_dump(mode="json"), preprocessing=Preprocessing(steps=steps)
    )
    save_model(tmp_path / "model", build_model(settings, seed=0), info)
    return tmp_path / "model"


def search(model: Path, scans: Path, out: Path, *more: str) -> tuple[int, dict[str, CaseResult]]:
    done = CliRunner().invoke(app, ["detect", str(model), str(scans), "--out", str(out), *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    found = [read_json(path, CaseResult) for path in out.glob("*.json")]
    return done.exit_code, {result.seriesuid: result for result in found}


def test_broken_volumes_never_end_the_search(model: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    write_mhd(chest_with_balls(), scans / "good.mhd")
    (scans / "plain.nii.gz").write_bytes(bytes(nifti_header()) + b"\0" * 120)
    huge = nifti_header(dim=(3, 32000, 32000, 32000, 1, 1, 1, 1))
    (scans / "huge.nii").write_bytes(bytes(huge) + b"\0" * 1000)
    (scans / "empty.nrrd").write_bytes(b"")
    write_nrrd_text(scans, {"sizes": "100000 100000 100000"})
    code, results = search(model, scans, tmp_path / "out")
    assert code == 0
    assert len(results) == 5
    refused = [r for r in results.values() if r.status == "not_analysed"]
    assert len(refused) == 4
    assert all(result.reasons for result in refused)


def test_an_accepted_fault_is_recorded_in_the_result(model: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    write_mhd(chest_with_balls(), scans / "a.mhd")
    text = (scans / "a.mhd").read_text().splitlines(keepends=True)
    (scans / "a.mhd").write_text("".join(s for s in text if not s.startswith("Offset")))
    code, results = search(model, scans, tmp_path / "out")
    assert code == 1
    assert results["a"].reasons[0].startswith("placement_not_stated: ")
    code, results = search(model, scans, tmp_path / "out2", "--allow", "placement_not_stated")
    assert code == 0
    assert any(n.startswith("allowed: placement_not_stated: ") for n in results["a"].notes)
