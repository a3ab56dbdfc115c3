"""Read tensors from files without running code, and load them into modules completely."""

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
_HALF = torch.finfo(torch.float16)
_ADDED = ("bias", "running_mean", "running_var")
"""Ends of the names of tensors whose small values are added to larger numbers."""


def read_weights(path: Path, *, sha256: str | None = None) -> dict[str, Any]:
    """Read a weights file without running any code in it.

    Args:
        path: a `.safetensors` file, or a file written by torch.save (then `sha256` is required).
        sha256: the 64 hex digits that the file must have.

    Returns:
        The file's content: names to tensors; a torch file may nest such dictionaries.

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
            f"{path}: not loaded", ["load a torch file only by `medkd import`, with its sha256"]
        )
    return _parse_torch_file(content, path)


def parse_safetensors(content: bytes, name: str) -> dict[str, Any]:
    """Return the tensors in the bytes of a safetensors file, by name.

    Raises:
        CheckpointError: if the file is truncated or damaged; the message contains `name`.
    """
    try:
        return dict(load_safetensors(content))
    except SafetensorError as error:
        raise CheckpointError(
            f"{name}: not a complete safetensors file",
            [f"{error}", f"the file has {len(content)} bytes; it may be truncated: copy it again"],
        ) from error


def load_weights(module: nn.Module, weights: Mapping[str, Any], *, name: str) -> None:
    """Copy tensors into a module if all of them fit; otherwise change nothing.

    Args:
        module: the module that receives the values; it keeps its dtype and device.
        weights: name to tensor, with exactly the names of `module.state_dict()`; only batch
            norm's `num_batches_tracked` may be missing, because old torch did not save it.
        name: name of the weights in the error message.

    Raises:
        CheckpointError: naming the tensors that are missing, unknown, of a wrong shape or not
            finite (at most `MAX_REASONS`).
    """
    own = module.state_dict()
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    reasons = [f"missing tensor {key!r}" for key in needed if key not in weights]
    reasons += [f"unknown tensor {key!r}" for key in weights if key not in own]
    for key in own.keys() & weights.keys():
        reasons += _misfits(key, own[key], weights[key])
    if reasons:
        raise CheckpointError(
            f"{name}: these weights do not fit this network",
            _at_most(MAX_REASONS, sorted(reasons)),
        )
    module.load_state_dict({**own, **weights})


def to_half(tensors: Mapping[str, Tensor], *, name: str) -> dict[str, Tensor]:
    """Return tensors with floating-point values as float16, if none of them suffers from it.

    A tensor is refused if a value overflows, or if even its largest value is below the smallest
    normal float16 (2**-14) and therefore loses digits. The second rule does not apply to biases,
    means and variances: they are added to larger numbers, batch norm adds 1e-5 to a variance, and
    float16 changes such small values by at most 3e-8.

    Args:
        tensors: name to tensor.
        name: name of the weights in the error message.

    Raises:
        CheckpointError: with every tensor that does not fit.
    """
    reasons = [
        reason for key, value in tensors.items() if (reason := _why_not_half(key, value.detach()))
    ]
    if reasons:
        raise CheckpointError(
            f"{name}: these weights do not fit half precision", _at_most(MAX_REASONS, reasons)
        )
    return {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}


def import_extra(package: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ExtraMissingError: with the install command, if it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ExtraMissingError(package, extra) from error


def _at_most(count: int, reasons: list[str]) -> list[str]:
    rest = len(reasons) - count
    return [*reasons[:count], f"and {rest} more"] if rest > 0 else reasons


def _why_not_half(key: str, value: Tensor) -> str:
    """Return why a tensor cannot be stored as float16; empty if it can."""
    if not value.is_floating_point() or not value.numel():
        return ""
    largest = float(value.abs().max())
    if not largest <= _HALF.max:
        return f"{key!r} has the value {largest:g}, the limit is {_HALF.max:g}: keep float32"
    if 0 < largest < _HALF.tiny and not key.endswith(_ADDED):
        return f"{key!r} has no value above {_HALF.tiny:.2g}, largest {largest:.2g}: keep float32"
    return ""


def _check_sha256(path: Path, content: bytes, expected: str | None) -> None:
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected.strip().lower():
        raise CheckpointError(
            f"{path}: not the expected file",
            [f"sha256 expected {expected}", f"sha256 got      {found}"],
        )


def _parse_torch_file(content: bytes, path: Path) -> dict[str, Any]:
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise CheckpointError(
            f"{path}: not loaded",
            [
                f"expected tensors that can be read without running code: {first}",
                "if the file is a whole model, save its state_dict() on a machine where you trust "
                "the file, and import that",
            ],
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{path}: not loaded", [f"expected a dictionary of tensors, got {type(found).__name__}"]
        )
    return found


def _misfits(key: str, own: Tensor, loaded: object) -> list[str]:
    if not isinstance(loaded, Tensor):
        return [f"{key!r} is {type(loaded).__name__}, not a tensor"]
    if own.shape != loaded.shape:
        return [f"{key!r} has shape {tuple(loaded.shape)}, expected {tuple(own.shape)}"]
    if loaded.is_floating_point() and not bool(torch.isfinite(loaded).all()):
        return [f"{key!r} contains NaN or infinite values"]
    return []
