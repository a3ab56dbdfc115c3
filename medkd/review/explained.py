"""The heat maps of a case and the greatest disagreements, as `medkd explain` wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medkd.io.heat_maps import SUFFIX, HeatMap, read_heat_map
from medkd.review.opened import Review
from medkd.runs import Disagreement, ExplainedFolder, read_disagreements
from medkd.types import RunCase

_ORDER = {"student": 0, "": 0, "teacher": 1}


def explained_folder(review: Review) -> ExplainedFolder:
    """Return the folder of the heat maps of a RUN or RESULTS."""
    return review.run.explained if review.kind == "RUN" else review.results.explained


def list_heat_maps(review: Review, case: RunCase) -> list[Path]:
    """Return the files of the heat maps of a case; an INDEX has none, because it has no model."""
    if review.kind == "INDEX":
        return []
    return sorted(explained_folder(review).heat_maps(case.case_id).glob(f"*{SUFFIX}"))


def read_heat_maps(files: Sequence[Path]) -> list[HeatMap]:
    """Read heat maps: the student's before the teacher's, probabilities before Grad-CAM.

    Raises:
        SeriesError: if a file is not a heat map.
    """
    found = [read_heat_map(path) for path in files]
    return sorted(found, key=lambda one: (_ORDER.get(one.arm, 2), one.kind != "probability"))


def map_title(heat_map: HeatMap) -> str:
    """Return the name of a heat map for a reader.

    Example:
        >>> from medkd.geometry import VoxelGrid
        >>> import numpy as np
        >>> grid, cells = VoxelGrid((1, 1, 1), np.eye(4)), np.zeros((1, 1, 1), np.uint8)
        >>> map_title(HeatMap(cells, grid, "grad-cam", "student", "pneumonia"))
        'Student: Grad-CAM, pneumonia'
    """
    what = "probability" if heat_map.kind == "probability" else "Grad-CAM"
    words = f"{what}, {heat_map.label}" if heat_map.label else what
    return f"{heat_map.arm.capitalize()}: {words}" if heat_map.arm else words


def missing_words(review: Review) -> str:
    """Return what to tell a reader who asks for the heat maps of a case that has none."""
    if review.kind == "INDEX":
        return "No heat map: no model has analysed this."
    return f"No heat map of this case: `medkd explain {review.kind}` writes them."


def load_disagreements(review: Review) -> list[Disagreement]:
    """Return the greatest disagreements of teacher and student, greatest first; may be empty.

    Raises:
        MedkdError: if the table cannot be read.
    """
    path = explained_folder(review).disagreements
    return read_disagreements(path) if review.kind == "RUN" and path.is_file() else []
