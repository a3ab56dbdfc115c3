"""Chest CT phantoms with known nodules, in LUNA16's layout or as a DICOM archive."""

from medkd.data.phantom.difficulty import (
    DIFFICULTY,
    GENERATOR_VERSION,
    difficulty_words,
    generator_stamp,
)
from medkd.data.phantom.make import PhantomScan, PhantomSettings, make_phantom, series_uid
from medkd.data.phantom.write import Layout, write_phantom_set

__all__ = [
    "DIFFICULTY",
    "GENERATOR_VERSION",
    "Layout",
    "PhantomScan",
    "PhantomSettings",
    "difficulty_words",
    "generator_stamp",
    "make_phantom",
    "series_uid",
    "write_phantom_set",
]
