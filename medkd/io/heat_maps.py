"""Heat maps on disk: what a model finds, or looks at, at every place of a scan or radiograph.

One map is one compressed .npz file without pickle, written by `medkd explain`
and drawn by the viewer. Its values are bytes, because the eye distinguishes no
more levels. A probability map covers the lungs on the output grid of the model, a Grad-CAM of a
radiograph has the few cells of the layer that it was taken from; both are interpolated on the
screen.

World is LPS mm for a scan. A radiograph is nowhere in the body: its world is the picture, with
(column, row, 0) of a pixel's centre as the point.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from medkd.errors import SeriesError
from medkd.files import write_bytes
from medkd.geometry import VoxelGrid

SUFFIX = ".npz"
MOST_CELLS = 64_000_000
"""A file that states more cells is refused before they are unpacked."""

MapKind = Literal["probability", "grad-cam"]


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """A map of a model for one label.

    Args:
        values: [I, J, K] uint8; 255 stands for 1. `probability`: the calibrated probability.
            `grad-cam`: relative to the highest value of the map.
        grid: the grid of the cells.
        kind: what the values are.
        arm: the arm of a run (teacher, student); empty for the model of a search.
        label: the name of the output.
    """

    values: NDArray[np.uint8]
    grid: VoxelGrid
    kind: MapKind
    arm: str = ""
    label: str = ""

    @property
    def file_name(self) -> str:
        """The name of the file of this map; maps of one case have different names."""
        parts = [part for part in (self.arm, self.kind, self.label) if part]
        return quote("-".join(parts), safe=" ") + SUFFIX


def to_bytes_range(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round values in 0..1 to bytes, of which 255 stands for 1."""
    return np.asarray(np.round(np.clip(values, 0.0, 1.0) * 255), dtype=np.uint8)


def write_heat_map(folder: Path, heat_map: HeatMap) -> Path:
    """Write a map atomically into the folder of its case; returns the file."""
    facts = {"kind": heat_map.kind, "arm": heat_map.arm, "label": heat_map.label}
    content = io.BytesIO()
    np.savez_compressed(
        content,
        values=heat_map.values,
        affine_lps_mm=heat_map.grid.affine_lps_mm,
        facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
    )
    path = folder / heat_map.file_name
    write_bytes(path, content.getvalue())
    return path


def read_heat_map(path: Path) -> HeatMap:
    """Read a map.

    Raises:
        SeriesError: if the file is missing or is not a map of this form.
    """
    try:
        return _read(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        remedy = "remove it and write it again by `medkd explain`"
        raise SeriesError(f"{path}: not a heat map", [repr(error), remedy]) from error


def _read(path: Path) -> HeatMap:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MOST_CELLS:
        raise ValueError(f"expected at most {MOST_CELLS} bytes unpacked, got {size}")
    with np.load(path, allow_pickle=False) as arrays:
        values, affine = arrays["values"], arrays["affine_lps_mm"]
        facts = json.loads(arrays["facts"].tobytes())
    if values.dtype != np.uint8 or values.ndim != 3:
        raise ValueError(f"expected uint8 [I, J, K], got {values.dtype} {values.shape}")
    if facts["kind"] not in ("probability", "grad-cam"):
        raise ValueError(f"expected the kind probability or grad-cam, got {facts['kind']!r}")
    grid = VoxelGrid(values.shape, affine)
    return HeatMap(values, grid, facts["kind"], str(facts["arm"]), str(facts["label"]))
