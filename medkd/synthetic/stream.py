"""Phantoms that are generated while a point detector is trained, never the same twice.

A window of the latest phantoms is kept in memory. Worker processes generate the next ones while
the training runs; which phantom is in the window depends only on the progress of the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from medkd.data.crops import Findings, Volume, volume_of
from medkd.data.loading import LoadingStep, loading_as_dicts, parse_loading
from medkd.data.prepared import prepare_scan
from medkd.errors import WorkerError
from medkd.processes import Crashed, SafePool
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.synthetic.phantom.styles import Size

_Task = tuple[dict[str, Any], list[dict[str, Any]], int]
_Made = tuple[str, NDArray[np.int16], Findings, NDArray[np.float64]]


class PhantomStreamSettings(PhantomSettings):
    """Phantoms that are generated during the training; `scans` of them are kept in memory."""

    size: Size = Field("region", description="Size of the phantoms; region is made in a second.")
    scans: int = Field(32, ge=1, description="Phantoms in memory; the oldest is replaced.")
    new_per_epoch: int = Field(16, ge=0, description="Phantoms generated per epoch.")
    workers: int = Field(1, ge=1, description="Processes that generate phantoms.")


class PhantomStream:
    """A window of phantoms that moves during the training; see `crops.VolumeSet`.

    Args:
        settings: the phantoms.
        steps: the loading steps; their spacing is isotropic.
    """

    def __init__(self, settings: PhantomStreamSettings, steps: tuple[LoadingStep, ...]) -> None:
        self._settings = settings
        own = set(PhantomSettings.model_fields)
        self._phantoms = settings.model_dump(mode="json", include=own)
        self._steps = loading_as_dicts(steps)
        self._window: dict[int, Volume] = {}
        self._next = 0
        self._made: Iterator[tuple[_Task, _Made | Crashed]] = iter(())

    def __len__(self) -> int:
        """Return the number of phantoms in memory."""
        return self._settings.scans

    def nodules(self) -> list[tuple[int, int]]:
        """Return (number of its scan, number among its nodules) of each nodule."""
        most = self._settings.nodule_range[1]
        return [(scan, nodule) for scan in range(len(self)) for nodule in range(most)]

    def volume(self, number: int) -> Volume:
        """Return a phantom of the window."""
        return self._window[number]

    def advance(self, epoch: int, share: float) -> None:
        """Move the window to its place in the training.

        Args:
            epoch: from 0.
            share: part of the epoch that is done, 0..1.

        Raises:
            WorkerError: if a worker process dies.
        """
        new = self._settings.new_per_epoch
        end = epoch * new + int(share * new) + len(self)
        first = end - len(self)
        if not self._window or not first <= self._next <= end:
            self._next = first
            self._made = SafePool(_make, self._settings.workers).run(self._tasks(first))
        while self._next < end:
            _, made = next(self._made)
            if isinstance(made, Crashed):
                remedy = "use fewer workers, or smaller phantoms"
                raise WorkerError("a process that generates phantoms died", [remedy])
            name, voxels, findings, interior = made
            volume = Volume(name, torch.from_numpy(voxels), findings, interior)
            self._window[self._next % len(self)] = volume
            self._next += 1

    def _tasks(self, first: int) -> Iterator[_Task]:
        return ((self._phantoms, self._steps, number) for number in count(first))


def _make(task: _Task) -> _Made:
    """Return the parts of a volume as arrays: tensors would travel through shared memory."""
    phantoms, steps, number = task
    torch.set_num_threads(1)
    made = make_phantom(PhantomSettings.model_validate(phantoms), number)
    prepared = prepare_scan(made.scan, parse_loading(steps))
    volume = volume_of(prepared, (*made.nodules, *made.excluded), made.scan.seriesuid)
    voxels = np.rint(volume.voxels_hu.numpy()).astype(np.int16)
    return volume.name, voxels, volume.findings, volume.interior
