"""Stored answers of a teacher, so that training a student costs the student alone.

A view of a sample is a pure function of (seed, sample, number). What a frozen teacher says about
it never changes, so it is computed once and kept: logits, and the outputs of named layers, one row
for each (sample, view). A store is a folder with one memory-mapped array per output, the names of
the samples, and a checksum of each row, which is compared on every read. A stopped computation goes
on with the rows that are missing. There are no pickles.

Whoever opens a store gives it a key made of everything that the answers depend on: the teacher's
weights and temperature, the preprocessing, the augmentation and its seed, the layers and the
precision. Other weights, transforms or seeds therefore never find these answers.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medkd.errors import CheckpointError, SettingsError
from medkd.files import is_full_disk, write_text
from medkd.jsonio import read_json, to_jsonable
from medkd.transfer.teacher import TeacherOutput

LOGITS = "logits"
"""Name of the array of logits; the other arrays have the names of layers."""

Precision = Literal["half", "float32"]
DTYPES: dict[Precision, type[np.floating]] = {"half": np.float16, "float32": np.float32}

_INDEX = "targets.json"
_CHECKSUMS = "checksums.npy"
_MISSING = 0
_GIB = 2**30
_CHUNK = 2**22
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)
"""How file systems say that they cannot reserve space in advance."""


@dataclass(frozen=True, slots=True)
class TargetShape:
    """What a store holds: sample ids [N], views per sample V, and the shape of one row by name."""

    sample_id: tuple[str, ...]
    views: int
    rows: Mapping[str, tuple[int, ...]]
    precision: Precision = "half"

    @property
    def size_bytes(self) -> int:
        """The size of all arrays on disk."""
        numbers = sum(int(np.prod(shape)) for shape in self.rows.values())
        width = np.dtype(DTYPES[self.precision]).itemsize
        return len(self.sample_id) * self.views * (numbers * width + 4)


def check_space(shape: TargetShape, folder: Path) -> None:
    """Refuse a store that would fill the disk.

    Raises:
        SettingsError: names the size, the free space and what makes it smaller.
    """
    free = _free_bytes(folder)
    if shape.size_bytes >= 0.9 * free:
        raise SettingsError(*_no_space(shape, folder, free))


def create_store(folder: Path, shape: TargetShape) -> None:
    """Create an empty store in an empty folder, at its full size.

    The space on disk is reserved here. Writing to a mapped file on a full disk ends the process
    with SIGBUS, which nothing can catch.

    Raises:
        SettingsError: if the disk has no room for it; the folder is then empty again.
    """
    try:
        _write_empty(folder, shape)
    except OSError as error:
        if not is_full_disk(error):
            raise
        for path in folder.iterdir():
            path.unlink()
        raise SettingsError(*_no_space(shape, folder, _free_bytes(folder))) from error


def _write_empty(folder: Path, shape: TargetShape) -> None:
    count = len(shape.sample_id) * shape.views
    for place, row in enumerate(shape.rows.values()):
        path = folder / f"{place}.npy"
        dtype = DTYPES[shape.precision]
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(count, *row))
        array.flush()
        _reserve(path, header_bytes=array.offset)
    np.save(folder / _CHECKSUMS, np.full(count, _MISSING, dtype=np.uint32), allow_pickle=False)
    write_text(folder / _INDEX, json.dumps(to_jsonable(shape)) + "\n")


def _reserve(path: Path, *, header_bytes: int) -> None:
    """Reserve the disk blocks of a file that holds a header and zeros.

    Raises:
        OSError: if the disk is full.
    """
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in _NO_FALLOCATE:
                    raise
            else:
                return
        position = file.seek(header_bytes)
        while position < size:
            position += file.write(bytes(min(_CHUNK, size - position)))
        file.flush()
        os.fsync(file.fileno())  # some file systems report a full disk only here


def _free_bytes(folder: Path) -> int:
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    return shutil.disk_usage(existing).free


def _no_space(shape: TargetShape, folder: Path, free: int) -> tuple[str, list[str]]:
    largest = max(shape.rows, key=lambda name: int(np.prod(shape.rows[name])))
    return (
        f"{folder}: the stored answers of the teacher would fill the disk",
        [
            f"{len(shape.sample_id):,} samples x {shape.views} views need "
            f"{shape.size_bytes / _GIB:.1f} GiB, {free / _GIB:.1f} GiB are free",
            f"the largest output is {largest} {shape.rows[largest]}",
            "use fewer augmentation.views, transfer.targets.precision: half, no terms on maps, or "
            "transfer.targets.mode: live",
        ],
    )


class TargetStore:
    """A store that `create_store` made, open for reading and writing.

    Args:
        folder: the folder of the store.

    Raises:
        CheckpointError: if a file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            facts = read_json(folder / _INDEX, TargetShape)
            count = len(facts.sample_id) * facts.views
            self._checksums = _mapped(folder / _CHECKSUMS, (count,))
            self._arrays = {
                name: _mapped(folder / f"{place}.npy", (count, *row))
                for place, (name, row) in enumerate(facts.rows.items())
            }
        except (OSError, ValueError, CheckpointError) as error:
            raise CheckpointError(
                f"{folder}: not a store of a teacher's answers",
                [str(error), "delete the folder: it will be computed again"],
            ) from None
        self.views = facts.views
        self._place = {name: number for number, name in enumerate(facts.sample_id)}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(self._arrays)

    def rows_of(self, sample_id: Sequence[str], view: Sequence[int]) -> NDArray[np.int64]:
        """Return the rows of views.

        Raises:
            SettingsError: if a sample or view is not in the store.
        """
        unknown = [name for name in sample_id if name not in self._place]
        if unknown or any(not 0 <= number < self.views for number in view):
            reasons = [f"samples that it lacks: {len(unknown)}; views 0 to {self.views - 1}"]
            raise SettingsError(f"{self.folder}: no answers for this batch", reasons)
        places = np.array([self._place[name] for name in sample_id], dtype=np.int64)
        return places * self.views + np.asarray(view, dtype=np.int64)

    def missing(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each row whether it has not been written yet."""
        return np.asarray(self._checksums[rows] == _MISSING)

    def write(self, rows: NDArray[np.int64], values: Mapping[str, Tensor]) -> None:
        """Write rows: the values first, then their checksums, so that a kill leaves no bad row."""
        for name, array in self._arrays.items():
            found = values[name].detach().float().cpu().numpy().astype(array.dtype)
            if not np.isfinite(found).all():
                raise SettingsError(
                    f"{name}: the teacher's answers are not finite in {array.dtype}",
                    ["use transfer.targets.precision: float32"],
                )
            array[rows] = found
        self._checksums[rows] = self._sums(rows)

    def read(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Read rows as float32.

        Raises:
            CheckpointError: if a row is missing or was changed on disk.
        """
        stored = np.asarray(self._checksums[rows])
        bad = int((stored != self._sums(rows)).sum())
        if bad:
            lost = int((stored == _MISSING).sum())
            raise CheckpointError(
                f"{self.folder}: {bad} stored answers of the teacher cannot be used",
                [f"{lost} were never written, {bad - lost} differ from their checksum",
                 "delete the folder: it will be computed again"],
            )  # fmt: skip
        return {
            name: torch.from_numpy(np.asarray(array[rows], dtype=np.float32))
            for name, array in self._arrays.items()
        }

    def _sums(self, rows: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the checksum of each row, over all arrays; never `_MISSING`."""
        found = np.zeros(len(rows), dtype=np.uint32)
        for array in self._arrays.values():
            content = np.ascontiguousarray(array[rows])
            for place, row in enumerate(content):
                found[place] = zlib.crc32(row.tobytes(), int(found[place]))
        return np.where(found == _MISSING, 1, found).astype(np.uint32)


class Answers(Protocol):
    """Stored answers: those of a `TargetStore` on disk, or of `LogitTable` in memory."""

    views: int

    def rows_of(self, sample_id: Sequence[str], view: Sequence[int]) -> NDArray[np.int64]:
        """Return the rows of views."""

    def read(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the logits, and outputs of layers by name, of rows."""


class LogitTable:
    """Logits in memory, for a teacher whose logits follow from other stored answers.

    Args:
        sample_id: [N] names.
        logits: [N, V, K].
    """

    def __init__(self, sample_id: Sequence[str], logits: Tensor) -> None:
        self.views = int(logits.shape[1])
        self._logits = logits.flatten(0, 1).float()
        self._place = {name: number for number, name in enumerate(sample_id)}

    def rows_of(self, sample_id: Sequence[str], view: Sequence[int]) -> NDArray[np.int64]:
        """Return the rows of views."""
        places = np.array([self._place[name] for name in sample_id], dtype=np.int64)
        return places * self.views + np.asarray(view, dtype=np.int64)

    def read(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the logits of rows."""
        return {LOGITS: self._logits[torch.from_numpy(rows)]}


class StoredTeacher:
    """Stored answers in place of a teacher.

    Args:
        answers: of all samples that will be asked for.
        average: answer each view of a sample with the mean over all its stored views.
        factor: [K] the logits are multiplied by it; None: they stay as they are.
        offset: [K] added to the logits after that.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        average: bool = False,
        factor: Tensor | None = None,
        offset: Tensor | None = None,
    ) -> None:
        self._store = answers
        self.average = average
        self._factor, self._offset = factor, offset

    def answer(
        self, sample_id: Sequence[str], view: Sequence[int], *, device: torch.device
    ) -> TeacherOutput:
        """Return what the teacher says about these views: logits [B, K] and features by layer."""
        store = self._store
        if self.average:
            ids = [name for name in sample_id for _ in range(store.views)]
            found = store.read(store.rows_of(ids, [*range(store.views)] * len(sample_id)))
            found = {
                name: value.view(len(sample_id), store.views, *value.shape[1:]).mean(dim=1)
                for name, value in found.items()
            }
        else:
            found = store.read(store.rows_of(sample_id, view))
        if self._factor is not None:
            found[LOGITS] = found[LOGITS] * self._factor
        if self._offset is not None:
            found[LOGITS] = found[LOGITS] + self._offset
        moved = {name: value.to(device) for name, value in found.items()}
        return TeacherOutput(moved.pop(LOGITS), moved)


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.generic]:
    array = np.lib.format.open_memmap(path, mode="r+")
    if array.shape != shape:
        raise ValueError(f"{path.name}: expected an array of shape {shape}, got {array.shape}")
    return array
