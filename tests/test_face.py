"""`import medkd`: the public face is fast to import and does what the README shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import medkd
from medkd.config.load import load_run_settings
from medkd.synthetic.phantom import PhantomSettings, write_phantom_set
from tests.train.test_scans import ct_settings

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    return code


def test_every_public_name_can_be_imported() -> None:
    assert all(callable(getattr(medkd, name)) for name in medkd.__all__)


def test_another_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(AttributeError, match="read_scan"):
        _ = medkd.read_scans


def test_importing_the_package_imports_nothing_slow() -> None:
    code = "import medkd, sys; print([m for m in ('torch', 'monai', 'numpy') if m in sys.modules])"
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_example_has_at_most_fifteen_lines() -> None:
    assert len(example().strip().splitlines()) <= 15


@pytest.mark.slow
def test_the_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a training of seconds in place of the demo's."""

    def tiny(name: str, *overrides: str) -> Any:
        load_run_settings(name, *overrides)
        return ct_settings()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medkd.config.load.load_run_settings", tiny)
    write_phantom_set(Path("chests"), PhantomSettings(site="b", scans=2))
    exec(compile(example(), "README.md", "exec"), {})  # noqa: S102  # our own text
    area, cpm = capsys.readouterr().out.splitlines()
    assert "value=" in area
    assert 0 <= float(cpm) <= 1
