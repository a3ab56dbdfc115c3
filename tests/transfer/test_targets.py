"""Stored answers of a teacher: read as they were written, or refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medkd.errors import CheckpointError, SettingsError
from medkd.transfer import targets
from medkd.transfer.settings import TransferSettings
from medkd.transfer.targets import (
    LOGITS,
    LogitTable,
    StoredTeacher,
    TargetShape,
    TargetStore,
    check_space,
    create_store,
)

IDS = ("a", "b", "c")
SHAPE = TargetShape(IDS, 2, {LOGITS: (1,), "features.3": (4, 2, 2)}, "float32")


def build_store(folder: Path, shape: TargetShape = SHAPE) -> TargetStore:
    folder.mkdir()
    create_store(folder, shape)
    return TargetStore(folder)


def values(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        LOGITS: torch.randn(count, 1, generator=random),
        "features.3": torch.randn(count, 4, 2, 2, generator=random),
    }


def test_rows_are_read_as_written_by_sample_and_view_in_any_order(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s")
    rows = store.rows_of(["c", "a", "c"], [1, 0, 0])
    written = values(3)
    store.write(rows, written)
    again = TargetStore(tmp_path / "s")
    found = again.read(again.rows_of(["a", "c"], [0, 1]))
    torch.testing.assert_close(found[LOGITS], written[LOGITS][[1, 0]], rtol=0, atol=0)
    torch.testing.assert_close(found["features.3"], written["features.3"][[1, 0]], rtol=0, atol=0)


def test_half_precision_is_within_a_thousandth(tmp_path: Path) -> None:
    shape = TargetShape(IDS, 2, SHAPE.rows)
    store, written = build_store(tmp_path / "s", shape), values(6)
    store.write(np.arange(6), written)
    found = store.read(np.arange(6))
    for name, value in written.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-3)
    assert shape.size_bytes < SHAPE.size_bytes


def test_missing_rows_are_known_and_never_read(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s")
    store.write(np.array([0, 3]), values(2))
    assert store.missing(np.arange(6)).tolist() == [False, True, True, False, True, True]
    with pytest.raises(CheckpointError, match="1 were never written, 0 differ"):
        store.read(np.array([0, 1]))


@pytest.mark.parametrize("name", ["0.npy", "1.npy", "checksums.npy"])
def test_a_changed_byte_is_found_on_read(tmp_path: Path, name: str) -> None:
    store = build_store(tmp_path / "s")
    store.write(np.arange(6), values(6))
    path = tmp_path / "s" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="delete the folder"):
        TargetStore(tmp_path / "s").read(np.arange(6))


def test_a_damaged_folder_unknown_samples_and_infinite_answers_are_refused(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s")
    with pytest.raises(SettingsError, match="samples that it lacks: 1; views 0 to 1"):
        store.rows_of(["a", "z"], [0, 0])
    with pytest.raises(SettingsError, match="views 0 to 1"):
        store.rows_of(["a"], [2])
    broken = values(1)
    broken[LOGITS][0] = torch.inf
    with pytest.raises(SettingsError, match="precision: float32"):
        store.write(np.array([0]), broken)
    assert store.missing(np.array([0])).all()
    (tmp_path / "s" / "1.npy").write_bytes(b"no array")
    with pytest.raises(CheckpointError, match="not a store of a teacher's answers"):
        TargetStore(tmp_path / "s")


def test_a_store_that_would_fill_the_disk_is_refused_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 2**20

    monkeypatch.setattr(targets.shutil, "disk_usage", lambda _: Usage)
    check_space(SHAPE, tmp_path / "new" / "deep")
    large = TargetShape(tuple(map(str, range(10_000))), 16, {LOGITS: (1,), "maps": (64, 8, 8)})
    with pytest.raises(SettingsError, match=r"10,000 samples x 16 views need 1\.2 GiB") as refused:
        check_space(large, tmp_path / "new")
    assert "the largest output is maps (64, 8, 8)" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "not a TargetShape"),
        ('{"sample_id": ["a"], "views": 2}', "rows: Field required"),
        ('{"sample_id": ["a"], "views": "x", "rows": {}}', "views: Input should be a valid int"),
        ('{"sample_id": ["a"], "views": 2, "rows": {"logits": [1]}}',
         r"expected an array of shape \(2,\), got \(6,\)"),
        ("{", "Invalid JSON"),
    ],
)  # fmt: skip
def test_a_description_that_does_not_fit_the_store_is_refused(
    tmp_path: Path, content: str, words: str
) -> None:
    build_store(tmp_path / "s")
    (tmp_path / "s" / "targets.json").write_text(content)
    with pytest.raises(CheckpointError, match=words) as refused:
        TargetStore(tmp_path / "s")
    assert "not a store of a teacher's answers" in str(refused.value)
    assert "delete the folder" in str(refused.value)


LARGE = TargetShape(IDS, 100, {LOGITS: (1,), "maps": (64, 8, 8)})


def fail_with(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def reserve(_file: int, _start: int, _size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(targets.os, "posix_fallocate", reserve, raising=False)


@pytest.mark.parametrize("how", ["reserved", "not supported", "unknown to the platform"])
def test_a_new_store_has_its_space_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "not supported":
        fail_with(monkeypatch, errno.EOPNOTSUPP)
    elif how != "reserved":
        monkeypatch.delattr(targets.os, "posix_fallocate", raising=False)
    store = build_store(tmp_path / "s", LARGE)
    used = sum(path.stat().st_blocks for path in (tmp_path / "s").iterdir()) * 512
    assert used >= LARGE.size_bytes
    assert store.missing(np.arange(300)).all()
    assert store.names == (LOGITS, "maps")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_for_a_store_is_refused_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_with(monkeypatch, number)
    with pytest.raises(SettingsError, match="would fill the disk") as refused:
        build_store(tmp_path / "s", LARGE)
    assert "3 samples x 100 views need" in str(refused.value)
    assert not list((tmp_path / "s").iterdir())


def test_other_disk_errors_are_not_taken_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        build_store(tmp_path / "s")


def test_a_stored_teacher_answers_each_view_or_the_mean_over_views() -> None:
    logits = torch.tensor([[[0.0], [2.0]], [[4.0], [8.0]]])
    table, cpu = LogitTable(("a", "b"), logits), torch.device("cpu")
    one = StoredTeacher(table).answer(["b", "a"], [1, 0], device=cpu)
    assert one.logits.tolist() == [[8.0], [0.0]]
    mean = StoredTeacher(table, average=True).answer(["b", "a"], [17, 0], device=cpu)
    assert mean.logits.tolist() == [[6.0], [1.0]]
    moved = StoredTeacher(
        table, average=True, factor=torch.tensor([0.5]), offset=torch.tensor([1.0])
    )
    assert moved.answer(["b"], [0], device=cpu).logits.tolist() == [[4.0]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"average": True}, "targets.average needs targets.mode: stored"),
        ({"mode": "stored", "scale": "control"}, "scale: control needs targets.average"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TransferSettings.model_validate({"terms": [{"kind": "soft_label"}], "targets": changed})


def test_averages_are_logits_so_terms_on_layers_are_refused() -> None:
    own = {"mode": "stored", "average": True, "views": 4}
    with pytest.raises(ValueError, match="gives logits only, but hint compare layers"):
        TransferSettings.model_validate({"terms": [{"kind": "hint"}], "targets": own})
