"""Which generator this is, and how hard its phantoms are by outsiders' measurements.

The difficulty hash is drawn from what the generator makes of a few fixed settings: a change that
moves one voxel moves it. A number measured on phantoms means something only beside the figures
of the generator that made them, so every such result carries version and hash, and the figures
where they were measured for just this generator.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from medkd.io.synthetic_mark import IMPLANT, PHANTOM, stamp_words

GENERATOR_VERSION = "5"
"""Raised whenever the same settings give other bytes."""

DIFFICULTY = "52a3db7f4f61ecd6"
"""`probe_hash()` of this generator; fixed before anything is trained on its phantoms."""

FIGURES_NAME = "difficulty.json"
"""The figures, as the bench `bench/phantom_difficulty` leaves them; beside this module."""

NOT_MEASURED = "difficulty not measured for this generator"
_OF_IMPLANTS = "synthetic nodules in real scans"

PROBES: tuple[tuple[str, str], ...] = (("a", "small"), ("b", "small"), ("c", "region"))
"""(site, size) of the phantoms that the hash is drawn from."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95 % interval."""

    value: Annotated[float, Field(validation_alias=AliasChoices("cpm", "roc_auc"))]
    interval_95: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class DifficultyFigures:
    """What outsiders reach on the phantoms of one generator.

    `blob_cpm`: CPM of a blob finder inside the true lung. `classifier_auc`: ROC AUC of a
    classifier of real nodules, nodules against the blob finder's false marks. `surroundings_auc`:
    ROC AUC of boosted trees on the same places with the nodule masked out (.5: no shortcut).
    A figure that was not measured is None. The bench's file holds more than is read here.
    """

    generator_version: str
    difficulty: str
    scans: int
    blob_cpm: Annotated[Figure | None, Field(validation_alias="blob_finder")] = None
    classifier_auc: Annotated[Figure | None, Field(validation_alias="luna16_classifier")] = None
    surroundings_auc: Annotated[Figure | None, Field(validation_alias="masked_surroundings")] = None

    @property
    def stamp(self) -> str:
        """The generator that was measured."""
        return stamp_words(PHANTOM, self.generator_version, self.difficulty)


def generator_stamp() -> str:
    """Return the stamp of this generator, for example "medkd phantom 2 0123456789abcdef"."""
    return stamp_words(PHANTOM, GENERATOR_VERSION, DIFFICULTY)


def probe_hash() -> str:
    """Return 16 hex digits of what the generator makes of the probes: voxels, truth, places."""
    from medkd.data.phantom.make import PhantomSettings, make_phantom

    digest = hashlib.sha256()
    for site, size in PROBES:
        settings = PhantomSettings.model_validate(
            {"site": site, "size": size, "seed": 4711, "nodules_per_scan": "3-3"}
        )
        made = make_phantom(settings, 0)
        digest.update(repr((made.scan.grid.shape, made.scan.grid.spacing_mm.tolist())).encode())
        digest.update(made.scan.voxels_hu.tobytes(order="F"))
        digest.update(repr((made.nodules, made.excluded, made.candidates)).encode())
    return digest.hexdigest()[:16]


def known_figures(stamp: str | None = None) -> DifficultyFigures | None:
    """Return the figures that were measured for a generator; None where there are none.

    Args:
        stamp: of the generator; None: this one.
    """
    place = files(__package__) / FIGURES_NAME
    if not place.is_file():
        return None
    try:
        found = _STORED.validate_json(place.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{FIGURES_NAME} beside {__name__} is not what its bench leaves") from (
            error
        )
    return found if found.stamp == (stamp or generator_stamp()) else None


def difficulty_words(stamp: str) -> str:
    """Say in one line which synthetic scans a number was measured on, and how hard phantoms are.

    Args:
        stamp: of what made them.

    Example:
        >>> difficulty_words("medkd phantom 1")
        'medkd phantom 1: difficulty not measured for this generator'
    """
    if stamp.startswith(IMPLANT):
        return f"{stamp}: {_OF_IMPLANTS}"
    known = known_figures(stamp)
    if known is None:
        return f"{stamp}: {NOT_MEASURED}"
    told = (
        ("blob finder CPM", known.blob_cpm),
        ("LUNA16 classifier AUC", known.classifier_auc),
        ("masked surroundings AUC", known.surroundings_auc),
    )
    shown = (f"{name} {_figure_words(figure)}" for name, figure in told)
    return f"{stamp}: {', '.join(shown)} ({known.scans} full scans)"


def _figure_words(figure: Figure | None) -> str:
    if figure is None:
        return "not measured"
    if figure.interval_95 is None:
        return f"{figure.value:.2f}"
    low, high = figure.interval_95
    return f"{figure.value:.2f} [{low:.2f}, {high:.2f}]"


_STORED = TypeAdapter(DifficultyFigures)
