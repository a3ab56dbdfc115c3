"""Chest CT phantoms with known nodules, in LUNA16's layout or as a DICOM archive."""

from medkd.synthetic.phantom.make import (
    DIFFICULTY,
    PhantomScan,
    PhantomSettings,
    generator_stamp,
    make_phantom,
    series_uid,
)
from medkd.synthetic.phantom.write import Layout, write_phantom_set

__all__ = [
    "DIFFICULTY",
    "Layout",
    "PhantomScan",
    "PhantomSettings",
    "generator_stamp",
    "make_phantom",
    "series_uid",
    "write_phantom_set",
]
