"""One table from the kind of annotation to its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medkd.io.file_ref import FileRef
from medkd.io.reference.lidc import read_lidc
from medkd.io.reference.luna16 import read_luna16_annotations
from medkd.io.reference.places import PlaceFinder, SeriesPlaces
from medkd.io.reference.points import read_points
from medkd.io.reference.rows import ReferenceRows
from medkd.io.reference.settings import (
    AnnotationSettings,
    LidcAnnotations,
    Luna16Annotations,
    PointsAnnotations,
)

OBJECT_KINDS = {
    "1.2.840.10008.5.1.4.1.1.88.11": "sr",
    "1.2.840.10008.5.1.4.1.1.88.22": "sr",
    "1.2.840.10008.5.1.4.1.1.88.33": "sr",
    "1.2.840.10008.5.1.4.1.1.88.34": "sr",
    "1.2.840.10008.5.1.4.1.1.66.4": "seg",
    "1.2.840.10008.5.1.4.1.1.481.3": "rtstruct",
}
"""SOP class of an annotation object to the kind of source that reads it (Basic Text, Enhanced,
Comprehensive and Comprehensive 3D SR; Segmentation; RT Structure Set)."""


def read_reference_source(
    settings: AnnotationSettings,
    places: Mapping[str, SeriesPlaces],
    refs: Mapping[str, Sequence[FileRef]] | None = None,
) -> ReferenceRows:
    """Read one source of annotations against the series of an archive.

    Args:
        settings: the form, and where it is.
        places: every usable CT series of the archive, by its real seriesuid (a volume's name).
        refs: annotation objects found in the archive, by kind (the values of `OBJECT_KINDS`);
            read where the settings of that kind give no path. Messages call them by their label.

    Returns:
        Nodules inside their volume, labels, and each row or item that fits nothing. Labels are
        not matched with images here: their keys are (`FileNames`, or UIDs).

    Raises:
        SeriesError: if a table cannot be used as it stands, with every reason. An object that
            cannot be read is listed as unmatched instead: one of many must not stop an archive.
    """
    finder = PlaceFinder(places)
    if isinstance(settings, Luna16Annotations):
        return read_luna16_annotations(settings, finder)
    if isinstance(settings, LidcAnnotations):
        return read_lidc(settings, finder)
    if isinstance(settings, PointsAnnotations):
        return read_points(settings, finder)
    raise NotImplementedError(settings.kind)
