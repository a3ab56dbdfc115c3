"""Readers of the reference standard of hospitals and public sets: one module per format.

Each reader matches annotations with the series of an archive (`SeriesPlaces`) and returns
`ReferenceRows`: nodules in LPS mm with their real SeriesInstanceUID, labels of whole cases, and
every row that matches no case, with the reason. `read_reference_source` selects the reader by the
settings.
"""

from medkd.io.reference.keys import FileNames
from medkd.io.reference.objects import OBJECT_KINDS
from medkd.io.reference.places import SeriesPlaces
from medkd.io.reference.read import read_reference_source
from medkd.io.reference.rows import FoundLabel, ReferenceRows, Unmatched
from medkd.io.reference.settings import AnnotationSettings

__all__ = [
    "OBJECT_KINDS",
    "AnnotationSettings",
    "FileNames",
    "FoundLabel",
    "ReferenceRows",
    "SeriesPlaces",
    "Unmatched",
    "read_reference_source",
]
