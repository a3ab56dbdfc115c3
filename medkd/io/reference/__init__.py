"""Readers of the reference standard of hospitals and public sets: one module per format.

Each reader matches annotations with an archive (`ArchiveLookup`) and returns `ReferenceRows`:
nodules in LPS mm with their real SeriesInstanceUID, labels of whole cases, and every row that
matches no case, with the reason. `table.py` lists the formats.
"""

from medkd.io.reference.keys import FileNames
from medkd.io.reference.objects import OBJECT_KINDS
from medkd.io.reference.places import SeriesPlaces
from medkd.io.reference.rows import FoundLabel, FoundPatient, ReferenceRows, Unmatched
from medkd.io.reference.table import AnnotationSettings, read_reference_source

__all__ = [
    "OBJECT_KINDS",
    "AnnotationSettings",
    "FileNames",
    "FoundLabel",
    "FoundPatient",
    "ReferenceRows",
    "SeriesPlaces",
    "Unmatched",
    "read_reference_source",
]
