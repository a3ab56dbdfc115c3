"""`medkd implant`."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from medkd.cli import app
from medkd.errors import SeriesError, SettingsError
from medkd.io.dicom.series import read_dicom_folder
from medkd.io.dicom.write import write_dicom_series
from medkd.io.luna16_tables import read_annotations, read_reference
from medkd.io.volume import read_volume, write_mhd
from medkd.synthetic.implant import write as writing
from medkd.synthetic.implant.places import PlaceFinder
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from tests.real_data import needs_data


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    scan = make_phantom(PhantomSettings(seed=3), 0).scan
    folder = tmp_path_factory.mktemp("archive") / "Doe_Jane"
    write_dicom_series(scan, folder, patient_name="Doe^Jane", patient_id="hospital-17")
    return folder


@pytest.fixture(scope="module")
def made(series, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "implanted"
    words = ["implant", str(series), "--n", "2", "--sizes", "4-7", "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "No clinical performance" in done.output
    return out


def test_the_altered_series_is_read_back_with_its_nodules(series, made):
    (folder,) = (made / "scans").iterdir()
    before, after = read_dicom_folder(series), read_dicom_folder(folder)
    nodules = read_annotations(made / "annotations.csv")
    assert {n.seriesuid for n in nodules} == {folder.name} == {after.seriesuid}
    changed = np.argwhere(before.voxels_hu != after.voxels_hu)
    away = np.linalg.norm(
        after.grid.voxel_to_world(changed)[:, None] - np.array([n.center_mm for n in nodules]),
        axis=2,
    )
    within = [n["changed_mm"] for n in record_of(made)["scans"][0]["nodules"]]
    assert (away <= np.array(within) + 0.01).any(axis=1).all()


def test_the_copies_are_known_as_synthetic(made):
    from medkd.difficulty import difficulty_words
    from medkd.io.synthetic_mark import stamp_of

    stamp = stamp_of(made / "annotations.csv")
    assert stamp.startswith("medkd implant ")
    assert difficulty_words(stamp) == f"{stamp}: synthetic nodules in real scans"


def record_of(made: Path) -> dict:
    return json.loads((made / "implant.json").read_text())


def test_the_record_says_what_it_is(made):
    record = record_of(made)
    assert record["synthetic"] is True
    assert "no clinical performance" in record["note"]
    assert {n["texture"] for n in record["scans"][0]["nodules"]} <= {
        "solid", "part-solid", "ground-glass"
    }  # fmt: skip


def test_the_tables_are_a_reference_standard(made):
    reference = read_reference(
        made / "annotations.csv", made / "annotations_excluded.csv",
        seriesuids=made / "seriesuids.csv",
    )  # fmt: skip
    assert len(reference.nodules) == 2
    assert len(reference.seriesuids) == 1


def test_no_name_of_a_patient_is_in_names_or_text(made):
    names = " ".join(str(path.relative_to(made)) for path in made.rglob("*"))
    texts = [path.read_text() for path in (*made.glob("*.json"), *made.glob("*.csv"))]
    page = re.sub(r"base64,[\w+/=]+", "", (made / "report.html").read_text())  # pictures
    for text in (names, *texts, page):
        assert "Doe" not in text
        assert "hospital-17" not in text


def test_the_page_shows_every_nodule_and_what_it_is_not(made):
    page = (made / "report.html").read_text()
    assert page.count("data:image/png") == 2
    assert "No evidence of clinical performance" in page
    assert len(list((made / "pictures").glob("*.png"))) == 2


def test_a_volume_becomes_a_volume(tmp_path):
    scan = make_phantom(PhantomSettings(seed=3), 0).scan
    write_mhd(scan, tmp_path / "Doe_Jane.mhd")
    words = ["implant", str(tmp_path / "Doe_Jane.mhd"), "--n", "1", "--sizes", "4-6"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "out" / "scans").glob("*.mhd")
    assert (read_volume(path).voxels_hu != scan.voxels_hu).any()
    assert "Doe" not in (tmp_path / "out" / "implant.json").read_text()


def test_a_stopped_set_goes_on_after_its_last_scan(tmp_path, monkeypatch):
    for seed in (3, 4):
        write_mhd(make_phantom(PhantomSettings(seed=seed), 0).scan, tmp_path / f"in/{seed}.mhd")
    words = ["implant", str(tmp_path / "in"), "--n", "1", "--sizes", "4-6", "--out"]
    whole, calls = writing.implant_scan, []

    def stop_at_second(*given, **named):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given, **named)

    monkeypatch.setattr(writing, "implant_scan", stop_at_second)
    assert CliRunner().invoke(app, [*words, str(tmp_path / "a")]).exit_code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.unfinished", "in"]
    assert CliRunner().invoke(app, [*words, str(tmp_path / "a")]).exit_code == 0
    assert len(calls) == 3
    assert CliRunner().invoke(app, [*words, str(tmp_path / "b")]).exit_code == 0
    files = [path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*.*")]
    for path in (path for path in files if path.suffix != ".html"):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()
    assert not (tmp_path / ".a.unfinished").exists()


@pytest.mark.slow
def test_nothing_is_left_of_a_scan_without_room(series, tmp_path, monkeypatch):
    monkeypatch.setattr(PlaceFinder, "find", lambda *_, **__: np.zeros((0, 3), dtype=np.int64))
    words = ["implant", str(series), "--n", "3"]
    refused = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert isinstance(refused.exception, SeriesError)
    assert list(tmp_path.iterdir()) == []


def test_a_flat_export_is_used_as_far_as_its_series_can_be(series, tmp_path):
    flat = tmp_path / "export"
    flat.mkdir()
    for path in series.iterdir():
        (flat / f"a{path.stem}.IMA").write_bytes(path.read_bytes())
        dataset = dcmread(path)
        dataset.SeriesInstanceUID, dataset.SliceThickness = "1.2.3.5", "5"
        dataset.save_as(flat / f"b{path.stem}.IMA")
    out = tmp_path / "out"
    words = ["implant", str(flat), "--n", "1", "--sizes", "4-7", "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert len(list((out / "scans").iterdir())) == 1
    assert f"not used: {flat}" in done.output
    assert "to accept this: --allow slice_thickness" in done.output
    assert record_of(out)["refused"] == [{"source": "1.2.3.5", "codes": ["slice_thickness"]}]


def test_all_wrong_options_are_said_at_once(series, tmp_path):
    words = ["implant", str(series), "--sizes", "1-2", "--textures", "soft"]
    refused = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert isinstance(refused.exception, SettingsError)
    assert len(refused.exception.reasons) >= 2


@needs_data
@pytest.mark.slow
def test_a_real_series_keeps_all_but_the_nodules(tmp_path):
    source = Path(os.environ["MEDKD_DATA"]) / "ct_dicom"
    words = ["implant", str(source), "--n", "2", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "out" / "scans").iterdir()
    before, after = read_dicom_folder(source), read_dicom_folder(folder)
    assert 50 < int((before.voxels_hu != after.voxels_hu).sum()) < 60_000
    np.testing.assert_array_equal(before.grid.affine_lps_mm, after.grid.affine_lps_mm)


def test_the_copies_carry_the_identity_and_everything_says_so(made):
    (folder,) = (made / "scans").iterdir()
    (image, *_) = sorted(folder.iterdir())
    assert (dcmread(image).PatientName, dcmread(image).PatientID) == ("Doe^Jane", "hospital-17")
    assert "carry the patient&#39;s identity" in (made / "report.html").read_text()
    output = " ".join(
        CliRunner().invoke(app, ["implant", "--help"]).output.replace("\u2502", " ").split()
    )
    assert "The copies carry the patient's identity as the originals do" in output
