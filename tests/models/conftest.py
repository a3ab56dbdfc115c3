"""What the tests of models share: a foreign state as the LUNA16 teaching material saves it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medkd.models.luna_classifier import RawLunaNetwork


@pytest.fixture
def raw_luna() -> RawLunaNetwork:
    """The foreign network, whole size, random weights, statistics as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = RawLunaNetwork((32, 48, 48), width=8)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv3d):
                torch.nn.init.kaiming_normal_(module.weight)
        network.tail_batchnorm.running_mean.fill_(-620.0)
        network.tail_batchnorm.running_var.fill_(170_000.0)
    return network.eval()


@pytest.fixture
def luna_state(raw_luna: RawLunaNetwork, tmp_path: Path) -> tuple[Path, str]:
    """A file as its training script saves it, and its sha256."""
    path = tmp_path / "luna.state"
    state = {"model_state": raw_luna.state_dict(), "model_name": "LunaModel", "epoch": 3}
    torch.save(state, path)
    return path, sha256_of(path)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on every write of bytes or text meets a full disk midway."""

    def fill() -> None:
        def write(path: Path, content: bytes | str, *_: object, **__: object) -> int:
            with path.open("wb") as stream:
                stream.write(b"half")
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(Path, "write_bytes", write)
        monkeypatch.setattr(Path, "write_text", write)

    return fill
