"""The record and the pictures of each finished scan, kept until the whole set is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkd.files import replacing
from medkd.jsonio import read_json, write_json
from medkd.synthetic.implant.make import Implant, ImplantedScan
from medkd.synthetic.implant.measured import slice_axis

_HALF_MM = 22.0

Picture = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class NoduleRow:
    """One synthetic nodule in `implant.json`; positions are in LPS mm."""

    center_mm: tuple[float, float, float]
    diameter_mm: float
    texture: str
    outline: str
    attachment: str
    density_hu: int
    contrast_hu: int
    changed_mm: float


@dataclass(frozen=True, slots=True)
class ScanRow:
    """One altered scan: its new name, its source, its response and its nodules.

    `source` is a case id of an INDEX, the UID of the original, or a hash of a file name.
    """

    seriesuid: str
    source: str
    form: str
    edge_sigma_mm: float
    edge_overshoot: float
    edges: int
    slice_sigma_mm: float
    noise_hu: float
    nodules: tuple[NoduleRow, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """Pictures [row, column] without and with a nodule: its slice, and a plane across slices.

    `aspect` is height over width of a pixel in the plane across the slices.
    """

    row: NoduleRow
    slice_before: Picture
    slice_after: Picture
    across_before: Picture
    across_after: Picture
    aspect: float


@dataclass(frozen=True, slots=True)
class KeptScan:
    """The files of one finished scan; `path` has no suffix."""

    path: Path

    @property
    def is_finished(self) -> bool:
        """Whether the scan is finished."""
        return self.path.with_suffix(".json").is_file()

    def row(self) -> ScanRow:
        """Return the row of a finished scan."""
        return read_json(self.path.with_suffix(".json"), ScanRow)

    def write(self, row: ScanRow, views: Sequence[Views]) -> None:
        """Write the pictures, then the row; a scan with a row is finished."""
        pictures: dict[str, NDArray[Any]] = {
            f"{name}-{number}": np.asarray(getattr(view, name))
            for number, view in enumerate(views)
            for name in (*_PICTURES, "aspect")
        }
        with replacing(self.path.with_suffix(".npz")) as part, part.open("wb") as stream:
            np.savez(stream, **pictures)  # type: ignore[arg-type]  # numpy's own stub of the names
        write_json(self.path.with_suffix(".json"), row)

    def views(self) -> list[Views]:
        """Return the pictures of a finished scan."""
        with np.load(self.path.with_suffix(".npz"), allow_pickle=False) as held:
            return [
                Views(
                    nodule,
                    **{name: held[f"{name}-{number}"] for name in _PICTURES},
                    aspect=float(held[f"aspect-{number}"]),
                )
                for number, nodule in enumerate(self.row().nodules)
            ]


_PICTURES = ("slice_before", "slice_after", "across_before", "across_after")
"""The fields of `Views` with pictures."""


def views_of(made: ImplantedScan, row: ScanRow) -> list[Views]:
    """Crop the pictures of every nodule of a scan."""
    pairs = zip(made.implants, row.nodules, strict=True)
    return [_views(made, implant, nodule) for implant, nodule in pairs]


def _views(made: ImplantedScan, implant: Implant, row: NoduleRow) -> Views:
    """Crop the slice through a nodule, and the plane across slices along the image columns."""
    grid = made.scan.grid
    axis = slice_axis(grid)
    center = np.clip(
        np.rint(grid.world_to_voxel(implant.center_mm)).astype(int), 0, np.array(grid.shape) - 1
    )
    half = np.ceil(max(_HALF_MM, implant.diameter_mm) / grid.spacing_mm).astype(int)
    box = [slice(max(c - h, 0), c + h + 1) for c, h in zip(center, half, strict=True)]
    first, second = [a for a in range(3) if a != axis]
    pictures = []
    for flat in (axis, second):
        index: list[slice | int] = list(box)
        index[flat] = int(center[flat])
        cut = [made.original.voxels_hu[tuple(index)], made.scan.voxels_hu[tuple(index)]]
        columns_first = flat == axis or first < axis
        pictures += [np.ascontiguousarray(part.T if columns_first else part) for part in cut]
    upwards = grid.direction[2, axis] > 0
    across = [p[::-1] if upwards else p for p in pictures[2:]]
    aspect = float(grid.spacing_mm[axis] / grid.spacing_mm[first])
    return Views(row, pictures[0], pictures[1], across[0], across[1], aspect)
