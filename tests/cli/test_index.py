"""The five commands' first three, as a user types them, on an archive with planted faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from pydicom import dcmread
from typer.testing import CliRunner

from medkd.archive.sources import recognise_source
from medkd.cli import app
from medkd.errors import SettingsError
from medkd.index.frozen_split import read_split
from medkd.index.table import read_index
from tests.archive.archives import write_picture

IDENTITIES = ("Mustermann", "Erika", "HOSP-4711", "ACC99887766", "19480229", "Elsewhere",
              "Verlauf")  # fmt: skip


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def plant_identities(series: Path, number: int) -> None:
    for path in series.iterdir():
        dataset = dcmread(path)
        dataset.PatientName, dataset.PatientID = "Mustermann^Erika", f"HOSP-4711-{number}"
        dataset.AccessionNumber, dataset.PatientBirthDate = "ACC99887766", "19480229"
        dataset.StudyDescription = "Verlauf Mustermann"
        dataset.InstitutionName = "St Elsewhere"
        dataset.save_as(path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantoms as DICOM; three of them spoilt: a slice gone, cut short, doubled."""
    root = tmp_path_factory.mktemp("hospital") / "archive"
    assert run("phantom", root, "--format", "dicom", "--scans", "8", "--seed", "3").exit_code == 0
    series = sorted(p for p in root.glob("*/*") if p.is_dir())
    for number, folder in enumerate(series):
        plant_identities(folder, number)
    gone, cut, doubled = (sorted(folder.iterdir()) for folder in series[:3])
    gone[5].unlink()
    cut[7].write_bytes(cut[7].read_bytes()[:20_000])
    shutil.copy(doubled[3], doubled[3].with_name("twin"))
    return root


@pytest.mark.slow
def test_index_check_and_split_lead_to_a_frozen_split(archive: Path, tmp_path: Path) -> None:
    index, split = tmp_path / "work" / "index.csv", tmp_path / "work" / "split.json"
    made = run("index", archive, "--out", index, "--annotations", archive / "annotations.csv",
               "--workers", "1")  # fmt: skip
    checked = run("check", index, "--json", tmp_path / "work" / "check.json")
    divided = run("split", index, "--out", split)
    assert [r.exit_code for r in (made, checked, divided)] == [0, 0, 0]
    archive_index = read_index(index)
    codes = sorted(c.reasons[0].partition(":")[0] for c in archive_index.cases if c.reasons)
    assert codes == ["duplicate_positions", "missing_slices", "truncated_pixels"]
    assert sum(case.status == "ready" for case in archive_index.cases) == 5
    assert archive_index.nodules
    assert read_split(split).index_fingerprint == archive_index.fingerprint
    assert json.loads((tmp_path / "work" / "check.json").read_text())["ready"] == 5
    shown = [r.output for r in (made, checked, divided)]
    files = [p.read_text() for p in (tmp_path / "work").iterdir() if p.is_file()]
    assert [w for w in IDENTITIES for text in (*shown, *files) if w in text] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--identity", "none"], "identity"),
        (["--allow", "no_such_code"], "slice_thickness"),
        (["--allow", "missing_slices"], "cannot be allowed"),
        (["--annotations", "absent.csv"], "no such file"),
        (["--set", "gate.min_slice=3"], "did you mean 'min_slices'"),
        (["--out", "index.txt"], "ends in .csv"),
    ],
)
def test_a_wrong_option_says_what_would_be_right(
    tmp_path: Path, words: list[str], expected: str
) -> None:
    write_picture(tmp_path / "archive" / "film.png")
    out = [] if "--out" in words else ["--out", tmp_path / "index.csv"]
    result = run("index", tmp_path / "archive", *out, *words)
    assert result.exit_code == 1
    assert expected in str(result.exception)


def test_a_configuration_describes_tables_of_ones_own(tmp_path: Path) -> None:
    write_picture(tmp_path / "archive" / "film.png")
    (tmp_path / "labels.csv").write_text("file,finding\nfilm.png,1\nother.png,0\n")
    (tmp_path / "index.yaml").write_text(
        "identity: keep\nannotations:\n  - kind: table\n"
        f"    path: {tmp_path / 'labels.csv'}\n    key: file\n    labels: {{mass: finding}}\n"
    )
    out = tmp_path / "index.csv"
    result = run("index", tmp_path / "archive", "--out", out, "--config", tmp_path / "index.yaml")
    assert result.exit_code == 0
    index = read_index(out)
    assert [(label.case_id, label.name, label.value) for label in index.labels] == [
        ("film", "mass", 1)
    ]
    assert "1 annotation rows match no case" in result.output


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("seriesuid,coordX,coordY,coordZ,diameter_mm", "luna16"),
        ("Image Index,Finding Labels,Patient ID", "nih"),
        ("Path,Sex,Age,Frontal/Lateral,AP/PA,Edema", "chexpert"),
        ("image_id,class_name,rad_id,x_min,y_min,x_max,y_max", "vindr"),
    ],
)
def test_tables_of_public_sets_are_known_by_their_columns(
    tmp_path: Path, header: str, kind: str
) -> None:
    (tmp_path / "table.csv").write_text(header + "\n")
    assert recognise_source(str(tmp_path / "table.csv")).kind == kind


def test_a_table_of_unknown_columns_points_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SettingsError, match="--config"):
        recognise_source(str(tmp_path / "table.csv"))
    assert recognise_source("seg").kind == "seg"
