"""Tensors from files into modules: read without running code, fitted whole or not at all."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from medkd.errors import CheckpointError, ExtraMissingError

MAX_REASONS = 12


def read_weights(path: Path, *, sha256: str | None = None) -> dict[str, Any]:
    """Read a file of weights without running code that it may hold.

    Args:
        path: a `.safetensors` file, or what torch.save wrote (then `sha256` is required).
        sha256: the 64 hex digits that the file must have.

    Returns:
        What the file holds: names to tensors, or for foreign files a dictionary of such.

    Raises:
        CheckpointError: if the file is missing, has another sha256, is truncated or damaged,
            needs code to be loaded, or is a torch file without a sha256.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: not readable", [str(error)]) from error
    _check_sha256(path, content, sha256)
    if path.suffix == ".safetensors":
        return parse_safetensors(content, str(path))
    if sha256 is None:
        raise CheckpointError(
            f"{path}: not loaded", ["a torch file enters only by `medkd import` with its sha256"]
        )
    return _parse_torch_file(content, path)


def parse_safetensors(content: bytes, name: str) -> dict[str, Any]:
    """Read the bytes of a safetensors file; `name` is for the message of a refusal."""
    try:
        return dict(load_safetensors(content))
    except SafetensorError as error:
        raise CheckpointError(
            f"{name}: not a whole safetensors file",
            [f"{error}", f"the file has {len(content)} bytes; it may be truncated: copy it again"],
        ) from error


def fit_weights(module: nn.Module, weights: Mapping[str, Any], *, name: str) -> None:
    """Copy tensors into a module if every one fits; else change nothing.

    Args:
        module: takes the values; its dtype and device stay.
        weights: name to tensor, exactly the names of `module.state_dict()`; batch norm's
            counter of batches may be missing, as in files of old torch.
        name: what is loaded, for the message of a refusal.

    Raises:
        CheckpointError: with every missing, unknown, misshapen or non-finite tensor.
    """
    own = module.state_dict()
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    reasons = [f"missing tensor {key!r}" for key in needed if key not in weights]
    reasons += [f"unknown tensor {key!r}" for key in weights if key not in own]
    for key in own.keys() & weights.keys():
        reasons += _misfits(key, own[key], weights[key])
    if reasons:
        shown = sorted(reasons)[:MAX_REASONS]
        rest = len(reasons) - len(shown)
        shown += [f"and {rest} more"] if rest else []
        raise CheckpointError(f"{name}: these weights are not of this network", shown)
    module.load_state_dict({**own, **weights})


def import_extra(package: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ExtraMissingError: with the install line, if it is not there.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ExtraMissingError(package, extra) from error


def _check_sha256(path: Path, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected.strip().lower():
        raise CheckpointError(
            f"{path}: another file than the one asked for",
            [f"sha256 expected {expected}", f"sha256 found    {found}"],
        )


def _parse_torch_file(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{path}: not loaded",
            [
                f"expected tensors readable without running code: {first}",
                "a whole model: save its state_dict() where you trust the file, and import that",
            ],
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{path}: not loaded", [f"expected names to tensors, got {type(found).__name__}"]
        )
    return found


def _misfits(key: str, own: Tensor, given: object) -> list[str]:
    if not isinstance(given, Tensor):
        return [f"{key!r} is {type(given).__name__}, not a tensor"]
    if own.shape != given.shape:
        return [f"{key!r} has shape {tuple(given.shape)}, expected {tuple(own.shape)}"]
    if given.is_floating_point() and not bool(torch.isfinite(given).all()):
        return [f"{key!r} holds NaN or infinite values"]
    return []
