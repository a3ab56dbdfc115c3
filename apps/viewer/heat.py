"""The heat maps of a case for the slice viewer: read from their files, nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import session
import streamlit as st
from display import AxialStack

from medkd.errors import MedkdError
from medkd.geometry import Float64, VoxelGrid
from medkd.io.heat_maps import HeatMap
from medkd.review.explained import list_heat_maps, map_title, missing_words, read_heat_maps
from medkd.review.opened import Review
from medkd.types import RunCase

MEANINGS = {
    "probability": "calibrated probability",
    "grad-cam": "relative to the highest value",
}


@dataclass(frozen=True, slots=True, eq=False)
class ShownMap:
    """A heat map that the browser may load by the route of voxels, in one piece.

    `volume_id` is a hash of its cells and grid, so an address contains nothing about the patient.
    """

    heat_map: HeatMap
    volume_id: str
    slices: int = 1

    def slab(self, first: int, count: int) -> bytes:
        """Return all cells as bytes, of which 255 stands for 1: i runs fastest, then j, then k."""
        del first, count
        return np.ascontiguousarray(self.heat_map.values.T).tobytes()


@dataclass(frozen=True, slots=True)
class Heat:
    """The heat maps of a case; `words` says why there is none."""

    maps: tuple[ShownMap, ...] = ()
    words: str = ""


def load_heat(review: Review, case: RunCase) -> Heat:
    """Return the heat maps of a case; a file that cannot be read is reported on the page."""
    if not session.load_sight(review, case.case_id).scores:
        return Heat(words="Heat maps are not shown.")
    files = list_heat_maps(review, case)
    if not files:
        return Heat(words=missing_words(review))
    try:
        maps = session.cached_heat(case.case_id, files, lambda: _shown(read_heat_maps(files)))
    except MedkdError as error:
        st.text(str(error))
        return Heat(words="The heat maps of this case cannot be read.")
    return Heat(maps)


def _shown(maps: Sequence[HeatMap]) -> tuple[ShownMap, ...]:
    return tuple(ShownMap(one, _hash_map(one)) for one in maps)


def _hash_map(heat_map: HeatMap) -> str:
    digest = blake2b(repr(heat_map.values.shape).encode(), digest_size=20)
    digest.update(heat_map.grid.affine_lps_mm.tobytes())
    digest.update(np.ascontiguousarray(heat_map.values).data)
    return digest.hexdigest()


def describe_heat(heat: Heat, stack: AxialStack) -> dict[str, object]:
    """Describe the heat maps for the browser.

    `matrix` maps an index of the stack to an index of the map; it has three rows of four numbers.
    """
    return {
        "words": heat.words,
        "maps": [
            {
                "id": shown.volume_id,
                "title": map_title(shown.heat_map),
                "meaning": MEANINGS[shown.heat_map.kind],
                "shape": list(shown.heat_map.values.shape),
                "matrix": index_matrix(stack, shown.heat_map.grid).tolist(),
            }
            for shown in heat.maps
        ],
    }


def index_matrix(stack: AxialStack, cells: VoxelGrid) -> Float64:
    """Return the [3, 4] matrix from an index of the stack to an index of a map.

    The world of a radiograph is the picture itself: the index of its stack.
    """
    world = np.eye(4) if stack.is_picture else stack.grid.affine_lps_mm
    return np.asarray((np.linalg.inv(cells.affine_lps_mm) @ world)[:3])
