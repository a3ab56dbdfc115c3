"""The reference standard as hospitals and public sets hold it: one module a form.

Each form is read against the series of an archive (`SeriesPlaces`) into `ReferenceRows`: nodules
in LPS mm under their real SeriesInstanceUID, labels of whole cases, and every row that fits no
case, with its reason. `read_reference_source` picks the form that the settings name.
"""

from medkd.io.reference.keys import FileNames
from medkd.io.reference.objects import OBJECT_KINDS
from medkd.io.reference.places import SeriesPlaces
from medkd.io.reference.read import read_reference_source
from medkd.io.reference.rows import FoundBox, FoundLabel, ReferenceRows, Unmatched
from medkd.io.reference.settings import AnnotationSettings

__all__ = [
    "OBJECT_KINDS",
    "AnnotationSettings",
    "FileNames",
    "FoundBox",
    "FoundLabel",
    "ReferenceRows",
    "SeriesPlaces",
    "Unmatched",
    "read_reference_source",
]
