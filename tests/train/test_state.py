"""The file that a stopped training goes on from."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

import pytest
import torch

from medkd.errors import CheckpointError
from medkd.train.loop import fit
from medkd.train.state import load_state, save_state
from tests.train.toy import ToyLoader, ToyObjective, make_plan, validate


def saved(folder: Path) -> Path:
    plan = make_plan(folder)
    with pytest.raises(KeyboardInterrupt):
        fit(ToyObjective(), ToyLoader(stop=(2, 0)), validate=validate, plan=plan)
    return plan.state_file


def test_a_state_names_no_code_but_torch_s_own_tensors(tmp_path: Path) -> None:
    with zipfile.ZipFile(saved(tmp_path)) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
        found = [
            arg for op, arg, _ in pickletools.genops(archive.read(name)) if op.name == "GLOBAL"
        ]
    modules = {str(arg).split()[0].partition(".")[0] for arg in found}
    assert modules <= {"torch", "collections"}


def test_a_state_loads_as_it_was_saved(tmp_path: Path) -> None:
    path = saved(tmp_path)
    signature = make_plan(tmp_path).signature
    snapshot, past = load_state(path, signature)
    save_state(tmp_path / "again.pt", signature, snapshot=snapshot, past=past)
    snapshot_again, past_again = load_state(tmp_path / "again.pt", signature)
    assert past_again.history == past.history
    assert torch.equal(snapshot_again.random["cpu"], snapshot.random["cpu"])
    assert (past_again.epoch, snapshot_again.step) == (2, 10)


def test_a_truncated_state_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="train this arm from its start"):
        load_state(path, make_plan(tmp_path).signature)


def test_a_full_disk_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    snapshot, past = load_state(path, make_plan(tmp_path).signature)

    def full(_values: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_state(path, "x", snapshot=snapshot, past=past)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
