"""Selection of the annotation reader by the kind of source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medkd.io.file_ref import FileRef
from medkd.io.reference.dicom_seg import read_dicom_seg
from medkd.io.reference.dicom_sr import read_dicom_sr
from medkd.io.reference.label_maps import read_label_maps
from medkd.io.reference.label_tables import (
    Wanted,
    read_chexpert,
    read_label_table,
    read_nih,
    read_vindr,
)
from medkd.io.reference.lidc import read_lidc
from medkd.io.reference.luna16 import read_luna16_annotations
from medkd.io.reference.places import PlaceFinder, SeriesPlaces
from medkd.io.reference.points import read_points
from medkd.io.reference.rows import ReferenceRows
from medkd.io.reference.rtstruct import read_rtstruct
from medkd.io.reference.settings import (
    AnnotationSettings,
    ChexpertAnnotations,
    LabelMapAnnotations,
    LidcAnnotations,
    Luna16Annotations,
    NihAnnotations,
    PointsAnnotations,
    RtstructAnnotations,
    SegAnnotations,
    SrAnnotations,
    TableAnnotations,
    VindrAnnotations,
)


def read_reference_source(
    settings: AnnotationSettings,
    places: Mapping[str, SeriesPlaces],
    refs: Mapping[str, Sequence[FileRef]] | None = None,
    *,
    wanted: Wanted | None = None,
) -> ReferenceRows:
    """Read one source of annotations and match it with the series of an archive.

    Args:
        settings: kind and path of the source.
        places: every usable CT series of the archive, by its real seriesuid (a volume's name).
        refs: annotation objects found in the archive, by kind (the values of `OBJECT_KINDS`);
            they are read if the settings of their kind have no path. Messages use their labels.
        wanted: returns for (key, key_is) of a label whether the archive has such a case; a row
            with another key is unmatched. None: all labels are returned.

    Returns:
        Nodules inside their volume, labels with their keys, and each row or item that matches
        nothing.

    Raises:
        SeriesError: with all reasons, if a table cannot be used. An unreadable object is listed as
            unmatched instead: it must not stop the indexing of an archive.
    """
    match settings:
        case NihAnnotations():
            return read_nih(settings, wanted)
        case ChexpertAnnotations():
            return read_chexpert(settings, wanted)
        case VindrAnnotations():
            return read_vindr(settings, wanted)
        case TableAnnotations():
            return read_label_table(settings, wanted)
        case SrAnnotations() | SegAnnotations() | RtstructAnnotations():
            found = (refs or {}).get(settings.kind, ())
            return _read_objects(settings, PlaceFinder(places), found)
        case _:
            return _read_nodules(settings, PlaceFinder(places))


def _read_objects(
    settings: SrAnnotations | SegAnnotations | RtstructAnnotations,
    finder: PlaceFinder,
    found: Sequence[FileRef],
) -> ReferenceRows:
    match settings:
        case SrAnnotations():
            return read_dicom_sr(settings, finder, found)
        case SegAnnotations():
            return read_dicom_seg(settings, finder, found)
        case RtstructAnnotations():
            return read_rtstruct(settings, finder, found)


def _read_nodules(
    settings: Luna16Annotations | LidcAnnotations | PointsAnnotations | LabelMapAnnotations,
    finder: PlaceFinder,
) -> ReferenceRows:
    match settings:
        case Luna16Annotations():
            return read_luna16_annotations(settings, finder)
        case LidcAnnotations():
            return read_lidc(settings, finder)
        case PointsAnnotations():
            return read_points(settings, finder)
        case LabelMapAnnotations():
            return read_label_maps(settings, finder)
