"""Nothing half-written: files and directories appear whole or not at all."""

import errno
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from medkd.errors import CheckpointError
from medkd.files import (
    disk_fault_of,
    is_sqlite_error,
    replacing,
    sha256_of,
    sqlite_errno,
    write_text,
)
from medkd.jsonio import read_json, write_json
from medkd.provenance import finish_record, sha256_of_text, start_record
from medkd.runs import Prediction, read_cases, read_predictions, write_cases, write_predictions
from medkd.types import Estimate, FrocResult, Interval, RunCase, RunRecord


def fail_when_full(temporary: Path) -> None:
    temporary.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="No space left"), replacing(path) as temporary:
        fail_when_full(temporary)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_directory_is_swapped_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / "weights").write_text(text)
    assert (path / "weights").read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")


def test_a_type_goes_to_json_and_back(tmp_path: Path) -> None:
    estimate = Estimate(0.5, Interval(0.4, 0.6))
    write_json(tmp_path / "e.json", estimate)
    assert read_json(tmp_path / "e.json", Estimate) == estimate


@pytest.mark.parametrize("text", ["", "[]", '{"value": "high"}', '{"interval": null}'])
def test_a_wrong_json_is_refused_with_the_key(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.json").write_text(text)
    with pytest.raises(CheckpointError, match="not a Estimate"):
        read_json(tmp_path / "e.json", Estimate)


def test_a_missing_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_json(tmp_path / "none.json", FrocResult)


def test_predictions_survive_the_csv(tmp_path: Path) -> None:
    rows = [
        Prediction("s1", "p1", "u1", (1,), (0.25,), (0.5621765008857981,), (1.5, -2.0, 3.25)),
        Prediction("s2", "p2", "u2", (0,), (-3.0,), (0.04742587317756678,)),
    ]
    write_predictions(tmp_path / "p.csv", rows)
    assert read_predictions(tmp_path / "p.csv") == rows


def test_cases_survive_the_csv(tmp_path: Path) -> None:
    rows = [
        RunCase("c1", "p1", "scan", "a, b.mhd", "test", None, 1, 0.75, "analysed"),
        RunCase("c2", "p2", "image", "x.npz", "test", 4, None, None, "not_analysed", ("a;b", "c")),
    ]
    write_cases(tmp_path / "c.csv", rows)
    assert read_cases(tmp_path / "c.csv") == rows


def test_the_run_record_names_what_made_the_result() -> None:
    record = start_record("a: 1\n", seed=3, device="cpu", deterministic=True, command="medkd x")
    done = finish_record(record, seconds=1.23456, data_fingerprints={"d": "f"}, weights_sha256={})
    assert isinstance(done, RunRecord)
    assert (done.seed, done.seconds, done.data_fingerprints) == (3, 1.235, {"d": "f"})
    assert "numpy" in done.packages
    assert len(done.config_sha256) == 64


def test_the_run_record_keeps_no_personal_path(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/home/someone/bin/medkd", "train", "demo/phantom", "--out", "/home/someone/run"]
    monkeypatch.setattr("sys.argv", words)
    record = start_record("", seed=0, device="cpu", deterministic=True)
    assert record.command == "medkd train demo/phantom --out run"


def test_a_device_is_written_to_and_never_replaced() -> None:
    device = Path("/dev/null")
    write_text(device, "gone")
    assert device.is_char_device()


def test_a_name_that_is_no_utf8_has_a_hash() -> None:
    assert sha256_of_text(os.fsdecode(b"M\xfcller")) != sha256_of_text("Müller")


def test_a_fault_of_sqlite_is_one_of_the_disk_however_it_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "store.sqlite"  # below a file: cannot be opened
    with pytest.raises(sqlite3.OperationalError) as plain:
        sqlite3.connect(place)
    with pytest.raises(sa.exc.OperationalError) as wrapped:
        sa.create_engine(f"sqlite:///{place}").connect()
    for error in (plain.value, wrapped.value):
        assert is_sqlite_error(error)
        assert sqlite_errno(error) == errno.EACCES
        assert str(disk_fault_of(error, place)).endswith(f"'{place}'")
    assert sqlite_errno(sqlite3.IntegrityError("decisions are append-only")) == 0
