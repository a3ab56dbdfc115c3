"""No command replaces what it reads: refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.cli.outputs import check_output
from medkd.errors import SettingsError
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, write_index
from medkd.types import Nodule
from tests.viewer.factory import write_bare_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A RUN with an INDEX, its private folder and marks beside it."""
    cases = tuple(Case(name, f"p-{name}", "scan", "ready") for name in "abcdef")
    nodules = (Nodule("a", (0.0, 0.0, 0.0), 8.0),)
    write_index(tmp_path / "index.csv", ArchiveIndex(cases, nodules))
    (tmp_path / "index.private").mkdir()
    (tmp_path / "marks.csv").write_text("seriesuid,coordX,coordY,coordZ,probability\na,0,0,0,1\n")
    write_bare_run(tmp_path, [])
    return tmp_path


FROC = "froc --marks marks.csv --bootstrap 0 --index index.csv --json"


@pytest.mark.parametrize(
    ("command", "out"),
    [
        *((FROC, f"{name}") for name in ("marks.csv", "index.csv", "index.nodules.csv",
                                         "index.json", "index.private/froc.json")),
        ("split index.csv --out", "index.csv"), ("split index.csv --out", "index.private/s.json"),
        ("check index.csv --json", "index.private/c.json"), ("check index.csv --json", "index.csv"),
        ("review . --export", "cases.csv"), ("review index.csv --export", "index.labels.csv"),
    ],
)  # fmt: skip
def test_a_command_does_not_replace_its_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, out: str
) -> None:
    monkeypatch.chdir(folder)
    before = Path(out).read_bytes() if Path(out).exists() else None
    done = CliRunner().invoke(app, [*command.split(), out])
    assert isinstance(done.exception, SettingsError)
    assert f"{out}: not written" in str(done.exception)
    assert (Path(out).read_bytes() if Path(out).exists() else None) == before


def test_a_new_name_and_an_earlier_export_may_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for words in ("review . --export decisions.csv", f"{FROC} froc.json"):
        for _ in range(2):
            done = CliRunner().invoke(app, words.split())
            assert done.exit_code == 0, done.output


def test_a_link_to_an_input_is_the_input(tmp_path: Path) -> None:
    (tmp_path / "marks.csv").touch()
    (tmp_path / "link.json").hardlink_to(tmp_path / "marks.csv")
    with pytest.raises(SettingsError, match="give --json another name"):
        check_output("--json", tmp_path / "link.json", [None, tmp_path / "marks.csv"])
