"""`medkd calibrate`: a new model from local scans, refusals, resuming."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medkd.cli import app
from medkd.data.archive_cases import ArchiveData
from medkd.data.splits import FrozenSplit, build_split
from medkd.detect import detect_nodules, one_case
from medkd.errors import MedkdError
from medkd.evaluate.froc import evaluate_froc
from medkd.index.frozen_split import SplitFile, write_split
from medkd.index.table import read_index
from medkd.models.package import load_model, read_info, save_model, whole_scan_point
from tests.calibration_worlds import write_ball_archive, write_density_model


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ball_archive(tmp_path_factory.mktemp("archive"), scans=3, refused=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_density_model(tmp_path_factory.mktemp("model") / "old")


@pytest.fixture(scope="module")
def made(index: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("made") / "new"
    done = invoke(model, index, "--out", out)
    assert done.exit_code == 0, done.output
    return out, done.output


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, ["calibrate", *map(str, words)])


def reasons_of(done: Result) -> str:
    assert isinstance(done.exception, MedkdError), done.output
    return str(done.exception)


def split_of(index: Path, folder: Path, *, val: tuple[str, ...] = ("s1", "s2")) -> Path:
    groups = {"train": ("s0",), "val": val, "test": ("s3",)}
    write_split(
        folder / "split.json",
        SplitFile("fractions", read_index(index).fingerprint, groups),
    )
    return folder / "split.json"


def test_a_new_model_has_the_old_weights_and_records_its_scans(model: Path, made) -> None:
    old, new = read_info(model), read_info(made[0])
    assert new.weights_sha256 == old.weights_sha256
    record = new.calibrated_on
    assert record is not None
    assert (record.scans, record.scans_with_nodules, record.nodules, record.hits) == (3, 2, 6, 6)
    assert record.false_marks >= 3
    assert "few scans (2 with nodules, 1 without nodules" in record.warnings[2]
    assert old.calibrated_on is None


def test_a_model_of_half_precision_keeps_its_weights(
    index: Path, model: Path, tmp_path: Path
) -> None:
    full = load_model(model)
    old = save_model(tmp_path / "half", full.network, full.info, half=True)
    assert invoke(tmp_path / "half", index, "--out", tmp_path / "new").exit_code == 0
    new = read_info(tmp_path / "new")
    assert (new.precision, new.weights_sha256) == ("float16", old.weights_sha256)


def test_it_prints_what_was_fitted_and_what_to_beware(made) -> None:
    output = made[1]
    assert "calibrated on 3 scans of 3 patients, 2 with nodules: 6 of 6 nodules marked" in output
    assert "not analysed: s3" in output
    assert "warning: 1 of 4 scans could not be analysed" in output
    assert "does not list its training scans" in output


def test_marks_of_the_new_model_keep_their_order_and_fit_its_thresholds(
    index: Path, model: Path, made
) -> None:
    from medkd.data.archive_reference import read_index_reference
    from medkd.index.case_store import open_scan

    new, old = load_model(made[0]), load_model(model)
    scans = [open_scan(index, name) for name in ("s0", "s1", "s2")]
    results = [detect_nodules(scan, new) for scan in scans]
    before = [mark.center_mm for mark in detect_nodules(scans[0], old).candidates]
    assert [mark.center_mm for mark in results[0].candidates] == before
    reference = read_index_reference(index, only=["s0", "s1", "s2"]).reference
    marks = [mark for result in results for mark in result.candidates]
    for rate in (1.0, 2.0, 4.0):
        point = new.info.operating_points[whole_scan_point(rate)]
        found = evaluate_froc(
            marks, reference, track="t", threshold=point.threshold, bootstrap=0
        ).at_operating_point
        assert found is not None
        assert found.fp_per_scan == point.fp_per_scan <= rate
        assert found.sensitivity.value == point.sensitivity
        assert "local scans (3 scans, 6 nodules)" in point.chosen_on


def test_a_stopped_search_goes_on_after_its_last_scan(
    index: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = one_case.detect_nodules, []

    def stop_at_second(*given, **named):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given, **named)

    monkeypatch.setattr(one_case, "detect_nodules", stop_at_second)
    stopped = invoke(model, index, "--out", tmp_path / "new")
    assert stopped.exit_code == 130
    assert f"finished scans are kept in {tmp_path / 'new.search'}" in stopped.output
    assert not (tmp_path / "new").exists()
    assert invoke(model, index, "--out", tmp_path / "new").exit_code == 0
    assert len(calls) == 4  # s0, s1 stopped, s1, s2; s3 cannot be read


def test_the_results_of_another_search_are_refused(
    index: Path, model: Path, made, tmp_path: Path
) -> None:
    other = write_density_model(tmp_path / "other", licence="another")
    work = made[0].with_name("new.search")
    text = reasons_of(invoke(other, index, "--out", tmp_path / "new", "--work", work))
    assert "model (sha256 of its facts and weights)" in text
    assert "give --work another folder" in text


def test_the_validation_part_of_a_split_is_used(index: Path, model: Path, tmp_path: Path) -> None:
    split = split_of(index, tmp_path)
    done = invoke(model, index, "--split", split, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    record = read_info(tmp_path / "new").calibrated_on
    assert record is not None
    assert (record.scans, record.part) == (2, "val")
    assert record.split_fingerprint


def test_the_test_part_is_never_used(index: Path, model: Path, tmp_path: Path) -> None:
    words = ("--split", split_of(index, tmp_path), "--part", "test", "--out", tmp_path / "new")
    assert "never calibrate on test" in reasons_of(invoke(model, index, *words))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["split.json"]


def trained_here(index: Path, split: Path) -> dict[str, object]:
    """The record of a model that was trained on the train part of this split."""
    cases = ArchiveData(index=str(index), cases="scans").read_cases(Path())
    used = build_split(cases, FrozenSplit(path=str(split)), seed=0)
    return {"data_fingerprint": cases.fingerprint, "training_fingerprint": used.fingerprint}


def test_training_scans_are_refused_and_validation_scans_need_no_warning(
    index: Path, tmp_path: Path
) -> None:
    split = split_of(index, tmp_path)
    own = write_density_model(tmp_path / "own", **trained_here(index, split))
    out = ("--out", tmp_path / "new")
    trained = invoke(own, index, "--split", split, "--part", "train", *out)
    assert "was trained on the part train of this split" in reasons_of(trained)
    whole = invoke(own, index, *out)
    assert "the model was trained on scans of this index" in reasons_of(whole)
    good = invoke(own, index, "--split", split, *out)
    assert good.exit_code == 0
    assert "training scans" not in good.output


def test_another_split_of_the_data_of_its_training_is_refused(index: Path, tmp_path: Path) -> None:
    own = write_density_model(
        tmp_path / "own", data_fingerprint=read_index(index).fingerprint, training_fingerprint="x"
    )
    words = ("--split", split_of(index, tmp_path), "--out", tmp_path / "new")
    assert "with another split" in reasons_of(invoke(own, index, *words))


def test_the_split_of_another_index_is_refused(index: Path, model: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    groups = {"train": ("s0",), "val": ("s1",), "test": ("s2",)}
    write_split(split, SplitFile("fractions", "0" * 64, groups))
    words = ("--split", split, "--out", tmp_path / "new")
    assert "the split of another index" in reasons_of(invoke(model, index, *words))


def test_scans_without_a_nodule_are_refused(index: Path, model: Path, tmp_path: Path) -> None:
    words = ("--split", split_of(index, tmp_path, val=("s2",)), "--out", tmp_path / "new")
    text = reasons_of(invoke(model, index, *words))
    assert "expected nodules with positions, got 1 scans without any" in text


@pytest.mark.parametrize("name", ["old", "old/inside"])
def test_the_old_model_is_never_written_to(
    index: Path, model: Path, name: str, tmp_path: Path
) -> None:
    before = (model / "model.json").read_bytes()
    text = reasons_of(invoke(model, index, "--out", model.parent / name))
    assert "MODEL is not changed" in text
    assert (model / "model.json").read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    assert "a new or empty folder" in reasons_of(invoke(model, index, "--out", tmp_path / "full"))


def test_a_part_without_a_split_is_refused(index: Path, model: Path, tmp_path: Path) -> None:
    text = reasons_of(invoke(model, index, "--part", "val", "--out", tmp_path / "new"))
    assert "--part val needs the split" in text


def test_of_folds_the_one_after_the_test_fold_is_used(
    index: Path, model: Path, tmp_path: Path
) -> None:
    groups = {"fold0": ("s0",), "fold1": ("s1",), "fold2": ("s2", "s3")}
    split = tmp_path / "folds.json"
    write_split(split, SplitFile("folds", read_index(index).fingerprint, groups))
    words = ("--split", split, "--out", tmp_path / "new")
    assert "expected a fold of 0 to 2, got None" in reasons_of(invoke(model, index, *words))
    assert invoke(model, index, *words, "--fold", "0").exit_code == 0
    record = read_info(tmp_path / "new").calibrated_on
    assert record is not None
    assert (record.scans, record.nodules) == (1, 3)  # s1
