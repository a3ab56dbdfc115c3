"""`medkd phantom`."""

import numpy as np
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SettingsError
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.luna16_tables import read_annotations
from medkd.synthetic.phantom import PhantomSettings, make_phantom


def test_phantoms_are_written_and_called_synthetic(tmp_path):
    out = tmp_path / "set"
    done = CliRunner().invoke(app, ["phantom", str(out), "--scans", "1", "--site", "b"])
    assert done.exit_code == 0, done.output
    assert "no measure of clinical performance" in done.output
    assert len(list(out.glob("subset0/*.mhd"))) == 1


def test_a_dicom_archive_holds_the_same_phantoms(tmp_path):
    out = tmp_path / "archive"
    done = CliRunner().invoke(app, ["phantom", str(out), "--scans", "1", "--format", "dicom"])
    assert done.exit_code == 0, done.output
    (series,) = (path for path in out.glob("*/*") if path.is_dir())
    read, made = read_dicom_folder(series), make_phantom(PhantomSettings(scans=1), 0)
    np.testing.assert_array_equal(read.voxels_hu, made.scan.voxels_hu)
    np.testing.assert_allclose(read.grid.affine_lps_mm, made.scan.grid.affine_lps_mm, atol=1e-6)
    assert {row.seriesuid for row in read_annotations(out / "annotations.csv")} == {series.name}
    assert read.acquisition.manufacturer == "medkd phantom"


def test_all_wrong_options_are_said_at_once(tmp_path):
    words = ["phantom", str(tmp_path / "set"), "--scans", "0", "--site", "d"]
    refused = CliRunner().invoke(app, [*words, "--nodules-per-scan", "5"])
    assert refused.exit_code != 0
    assert isinstance(refused.exception, SettingsError)
    assert len(refused.exception.reasons) == 3
    assert not (tmp_path / "set").exists()
