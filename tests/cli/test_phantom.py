"""`medkd phantom`."""

from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SettingsError


def test_phantoms_are_written_and_called_synthetic(tmp_path):
    out = tmp_path / "set"
    done = CliRunner().invoke(app, ["phantom", str(out), "--scans", "1", "--site", "b"])
    assert done.exit_code == 0, done.output
    assert "no clinical performance" in done.output
    assert len(list(out.glob("subset0/*.mhd"))) == 1


def test_all_wrong_options_are_said_at_once(tmp_path):
    words = ["phantom", str(tmp_path / "set"), "--scans", "0", "--site", "c"]
    refused = CliRunner().invoke(app, [*words, "--nodules-per-scan", "5"])
    assert refused.exit_code != 0
    assert isinstance(refused.exception, SettingsError)
    assert len(refused.exception.reasons) == 3
    assert not (tmp_path / "set").exists()
