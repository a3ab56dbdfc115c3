"""`medkd detect` with a model of radiographs."""

from __future__ import annotations

import csv
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from medkd.cli import app
from medkd.data.radiograph_patches import resize_radiograph
from medkd.detect.batch import score_images
from medkd.detect.jobs import scan_job
from medkd.detect.radiographs import score_radiograph
from medkd.errors import CheckpointError, SeriesError, SettingsError
from medkd.index.image_inputs import list_images
from medkd.index.table import read_index, write_index
from medkd.io.dicom.write import write_dicom_series
from medkd.io.radiograph.read import read_radiograph
from medkd.io.volume import write_mhd
from medkd.jsonio import read_json
from medkd.models.package import (
    Calibration,
    LoadedModel,
    ModelInfo,
    Preprocessing,
    load_model,
    save_model,
)
from medkd.models.table import build_model, parse_model_settings
from medkd.types import CaseResult, OperatingPoint, Radiograph
from tests.data.archives import write_xray_archive
from tests.detect_cases import ball_model, chest_with_balls
from tests.real_data import needs_data

SIZE = (12, 10)
POINT = OperatingPoint(0.5, "youden")


def save_image_model(folder: Path, **info: object) -> Path:
    settings = parse_model_settings({"kind": "shallow2d"})
    facts = ModelInfo(
        settings=settings.model_dump(mode="json"),
        label_names=("Nodule or Mass",),
        preprocessing=Preprocessing(
            steps=({"kind": "image", "source": "file", "size_px": list(SIZE)},),
            patch_shape=SIZE,
            views=("PA", "AP", "frontal", ""),
        ),
        calibration=Calibration(temperature=(2.0,), logit_shift=(-0.5,)),
        operating_points={"classification": POINT},
    )
    save_model(folder, build_model(settings, seed=0), replace(facts, **info))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_image_model(tmp_path / "model")


def write_picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.random.default_rng(seed).integers(0, 255, (30, 24)).astype(np.uint8)
    Image.fromarray(drawn).save(path)
    return path


def detect(model: Path, *words: str | Path) -> Result:
    return CliRunner().invoke(app, ["detect", str(model), *map(str, words)])


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_pictures_get_the_calibrated_probability_of_training(model: Path, tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / "in" / name, n) for n, name in enumerate(("a.png", "b.jpg"))]
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    done = detect(model, tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "2 of 2 radiographs analysed" in done.output
    assert re.search(r"\d radiographs? reach(es)? the threshold for .*, chosen on", done.output)
    assert "1 files or cases that are not radiographs were skipped" in done.output
    loaded = load_model(model)
    for path, row in zip(paths, rows_of(tmp_path / "out"), strict=True):
        pixels = resize_radiograph(read_radiograph(path), SIZE)
        with torch.inference_mode():
            logit = loaded.network(torch.from_numpy(pixels).float()[None, None] / 255)
        expected = 1 / (1 + np.exp(-(float(logit) / 2.0 - 0.5)))
        assert float(row["probability_Nodule or Mass"]) == pytest.approx(expected, abs=1e-6)
        assert row["above_threshold"] == str(int(expected >= POINT.threshold))
        assert (row["case"], row["path"], row["threshold"]) == (path.stem, str(path), "0.5")
        result = read_json(tmp_path / "out" / f"{path.stem}.json", CaseResult)
        assert (result.kind, list(result.probabilities)) == ("image", ["Nodule or Mass"])


def test_images_of_an_index_bear_its_case_ids_and_name_no_path(model: Path, tmp_path: Path) -> None:
    index = write_xray_archive(tmp_path, patients=2)
    done = detect(model, index, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    rows = {row["case"]: row for row in rows_of(tmp_path / "out")}
    assert [row["status"] for row in rows.values()] == ["not_analysed"] * 2 + ["analysed"] * 2
    assert rows["c000"]["reasons"] == "colour: channels differ"
    assert "view: LL; the model was trained on" in rows["c001"]["reasons"]
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert "DOE" not in written + done.output
    write_index(index, replace(read_index(index), identity="keep"))
    assert detect(model, index, "--out", tmp_path / "kept").exit_code == 0
    assert rows_of(tmp_path / "kept")[3]["path"] == str(tmp_path / "DOE^JANE" / "3.png")


def test_what_is_no_radiograph_is_refused_with_its_reason(model: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "good.png")
    write_mhd(chest_with_balls(), tmp_path / "in" / "scan.mhd")
    write_dicom_series(chest_with_balls(), tmp_path / "in" / "series", patient_name="A^B",
                       patient_id="1")  # fmt: skip
    (tmp_path / "in" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    done = detect(model, tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0
    reasons = {row["case"]: row["reasons"].partition(":")[0] for row in rows_of(tmp_path / "out")}
    assert reasons.pop("good") == ""
    assert reasons == {
        "cut": "unreadable", "empty": "empty_file",
        "scan": "not_radiograph", "series": "not_radiograph",
    }  # fmt: skip


def test_a_file_that_was_named_is_never_left_out(model: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    done = detect(model, tmp_path / "notes.txt", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert "not_radiograph: not a picture, volume or table" in done.output


def test_a_ct_model_refuses_a_picture_and_says_what_it_is(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png")
    from medkd.detect.batch import search_scans
    from medkd.index.scan_inputs import ScanInput

    (result,) = search_scans([ScanInput(path)], ball_model())
    assert result.reasons == ("not_scan: a radiograph or picture; this model searches CT scans",)


def test_inputs_without_a_picture_are_refused_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError) as refused:
        list_images([tmp_path / "empty", tmp_path / "absent"])
    assert len(refused.value.reasons) == 4
    write_picture(tmp_path / "in" / "a.png")
    with pytest.raises(SettingsError, match="this model searches CT scans"):
        scan_job([tmp_path / "in"], ball_model())
    write_mhd(chest_with_balls(), tmp_path / "ct" / "a.mhd")
    listed = list_images([tmp_path / "ct"]).images
    assert [image.reason.partition(":")[0] for image in listed] == ["not_radiograph"]


def test_pictures_of_one_name_in_two_folders_are_two_cases(model: Path, tmp_path: Path) -> None:
    for number, folder in enumerate(("1", "2")):
        write_picture(tmp_path / "in" / folder / "film.png", number)
    assert detect(model, tmp_path / "in", "--out", tmp_path / "out").exit_code == 0
    rows = rows_of(tmp_path / "out")
    assert [row["case"] for row in rows] == ["film", "film-2"]
    assert len({row["probability_Nodule or Mass"] for row in rows}) == 2


def test_a_stopped_scoring_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_picture(tmp_path / "in" / f"{number}.png", number)
    words = (tmp_path / "in", "--out", tmp_path / "out")
    whole = detect(model, tmp_path / "in", "--out", tmp_path / "whole")
    assert whole.exit_code == 0
    calls: list[str] = []

    def stop_at_third(radiograph: Radiograph, *given: object, **named: str) -> CaseResult:
        calls.append(radiograph.imageuid)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score_radiograph(radiograph, *given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("medkd.detect.one_case.score_radiograph", stop_at_third)
        stopped = detect(model, *words)
    assert stopped.exit_code != 0
    assert "finished work is kept" in stopped.output
    assert [row["case"] for row in rows_of(tmp_path / "out")] == ["0", "1"]
    assert "add --resume" in str(detect(model, *words).exception)
    assert detect(model, *words, "--resume").exit_code == 0
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")


def test_another_view_than_the_model_knows_is_refused(model: Path) -> None:
    film = Radiograph("1", np.random.default_rng(0).random((9, 9), np.float32), "p", view="LAT")
    loaded = load_model(model)
    with pytest.raises(SeriesError, match="trained on the views PA, AP, frontal, not stated"):
        score_radiograph(film, loaded)
    old = replace(loaded.info, preprocessing=replace(loaded.info.preprocessing, views=None))
    assert score_radiograph(film, LoadedModel(loaded.network, old)).status == "analysed"


def test_a_model_that_cannot_score_is_refused_with_every_reason(model: Path) -> None:
    loaded = load_model(model)
    prepared = Preprocessing(steps=({"kind": "image"},))
    broken = replace(loaded.info, preprocessing=prepared, label_names=("a", "b"))
    with pytest.raises(CheckpointError) as refused:
        list(score_images([], LoadedModel(loaded.network, broken)))
    assert len(refused.value.reasons) == 2


def test_a_fault_that_may_not_be_let_pass_is_named(model: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png")
    done = detect(model, tmp_path / "in", "--out", tmp_path / "out", "--allow", "not_human")
    assert "cannot be allowed: not_human; these can: burned_in" in str(done.exception)


def test_results_of_radiographs_have_no_report_and_say_so(model: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png")
    detect(model, tmp_path / "in", "--out", tmp_path / "out")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "out")])
    assert isinstance(done.exception, SettingsError), done.output
    assert "medkd detect" in str(done.exception)


@needs_data
def test_real_films_of_both_kinds_are_scored(model: Path, tmp_path: Path) -> None:
    data = Path(os.environ["MEDKD_DATA"])
    (tmp_path / "in").mkdir()
    for path in sorted((data / "nih1000" / "NIH1000").rglob("*.png"))[:3]:
        shutil.copy(path, tmp_path / "in")
    for path in sorted((data / "dicom_edge" / "wg04_chest_cr_rg1").iterdir()):
        shutil.copy(path, tmp_path / "in" / path.stem)
    done = detect(model, tmp_path / "in", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    analysed = [row for row in rows_of(tmp_path / "out") if row["status"] == "analysed"]
    assert sum(row["path"].endswith(".png") for row in analysed) == 3
    assert len(analysed) > 3
