"""`medkd deidentify`: what a person at the terminal sees, and what the exit code says."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SeriesError
from medkd.io.identity import open_pseudonyms
from tests.io.test_deidentify import plant

pytest.importorskip("dicognito", reason="extra share")
runner = CliRunner()


def test_images_are_shared_and_the_rest_is_counted(tmp_path: Path) -> None:
    plant(tmp_path / "in" / "Quixano 1")
    plant(tmp_path / "in" / "Quixano 2", BurnedInAnnotation="YES")
    done = runner.invoke(app, ["deidentify", str(tmp_path / "in"), "--out", str(tmp_path / "out"),
                               "--left-out", str(tmp_path / "left.tsv")])  # fmt: skip
    assert done.exit_code == 0
    assert "1 images, 1 series, 1 patients" in done.stdout
    assert "left out: 1 files, burned_in" in done.stdout
    assert "Quixano" not in done.output
    assert "Quixano 2" in (tmp_path / "left.tsv").read_text()


def test_an_index_lends_its_pseudonyms(tmp_path: Path) -> None:
    names = open_pseudonyms(tmp_path / "index.private", "pseudonymise")
    source = plant(tmp_path / "a")
    done = runner.invoke(app, ["deidentify", str(source), "--out", str(tmp_path / "out"),
                               "--index", str(tmp_path / "index.csv")])  # fmt: skip
    assert done.exit_code == 0
    assert (tmp_path / "out" / names.patient("H-77120993")).is_dir()


def test_an_index_without_its_private_folder_is_refused(tmp_path: Path) -> None:
    source, out = str(plant(tmp_path / "a")), str(tmp_path / "out")
    done = runner.invoke(app, ["deidentify", source, "--out", out, "--index",
                               str(tmp_path / "i.csv")])  # fmt: skip
    assert isinstance(done.exception, SeriesError)
    assert not (tmp_path / "i.private").exists()


def test_nothing_to_share_is_an_error(tmp_path: Path) -> None:
    done = runner.invoke(app, ["deidentify", str(tmp_path / "no"), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, SeriesError)
