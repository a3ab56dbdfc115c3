"""Chest CT phantoms with known nodules, in LUNA16's layout or as a DICOM archive."""

from medkd.data.phantom.old.make import (
    GENERATOR_VERSION,
    Layout,
    PhantomScan,
    PhantomSettings,
    make_phantom,
    series_uid,
    write_phantom_set,
)

__all__ = [
    "GENERATOR_VERSION",
    "Layout",
    "PhantomScan",
    "PhantomSettings",
    "make_phantom",
    "series_uid",
    "write_phantom_set",
]
