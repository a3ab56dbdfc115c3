"""The table of annotation sources. To add one: write its file, add its line here, and a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from medkd.io.file_ref import FileRef
from medkd.io.reference import (
    case_table,
    chexpert,
    dicom_seg,
    dicom_sr,
    label_maps,
    lidc,
    luna16,
    nih,
    patients,
    points,
    reviews,
    rtstruct,
    vindr,
)
from medkd.io.reference.places import ArchiveLookup, KeyKind, SeriesPlaces
from medkd.io.reference.rows import ReferenceRows
from medkd.io.reference.source import AnnotationSource
from medkd.settings import union_by_kind


class SourceKind(NamedTuple):
    """The settings of a kind of source, its reader, and the columns of its tables.

    `columns` has the columns by which a table is recognised, by the setting that names the table.
    """

    settings: type[AnnotationSource]
    read: Callable[[Any, ArchiveLookup], ReferenceRows]
    columns: Mapping[str, Sequence[str]] = {}


SOURCES: dict[str, SourceKind] = {
    "luna16": SourceKind(luna16.Luna16Annotations, luna16.read_luna16_annotations, luna16.COLUMNS),
    "lidc": SourceKind(lidc.LidcAnnotations, lidc.read_lidc),
    "sr": SourceKind(dicom_sr.SrAnnotations, dicom_sr.read_dicom_sr),
    "seg": SourceKind(dicom_seg.SegAnnotations, dicom_seg.read_dicom_seg),
    "rtstruct": SourceKind(rtstruct.RtstructAnnotations, rtstruct.read_rtstruct),
    "label_map": SourceKind(label_maps.LabelMapAnnotations, label_maps.read_label_maps),
    "nih": SourceKind(nih.NihAnnotations, nih.read_nih, nih.COLUMNS),
    "chexpert": SourceKind(chexpert.ChexpertAnnotations, chexpert.read_chexpert, chexpert.COLUMNS),
    "vindr": SourceKind(vindr.VindrAnnotations, vindr.read_vindr, vindr.COLUMNS),
    "table": SourceKind(case_table.TableAnnotations, case_table.read_case_table),
    "patients": SourceKind(patients.PatientsTable, patients.read_patients),
    "points": SourceKind(points.PointsAnnotations, points.read_points),
    "reviews": SourceKind(reviews.ReviewAnnotations, reviews.read_reviews),
}

if TYPE_CHECKING:
    AnnotationSettings = AnnotationSource
else:
    AnnotationSettings = union_by_kind(kind.settings for kind in SOURCES.values())
"""The settings of one source of the table, chosen by `kind`."""


def read_reference_source(
    settings: AnnotationSettings,
    places: Mapping[str, SeriesPlaces],
    objects: Mapping[str, Sequence[FileRef]] | None = None,
    *,
    has_case: Callable[[str, KeyKind], bool] | None = None,
    real_names: Mapping[str, str] | None = None,
) -> ReferenceRows:
    """Read one source of annotations and match it with the series of an archive.

    Args:
        settings: kind and path of the source.
        places: every usable CT series of the archive, by its real seriesuid (a volume's name).
        objects: annotation objects found in the archive, by kind (the values of `OBJECT_KINDS`);
            they are read if the settings of their kind have no path. Messages use their labels.
        has_case: returns for a label's (key, kind of key) whether the archive has such a case; a
            row with another key is unmatched. None: all labels are returned.
        real_names: real seriesuid of each case, by its case id in the INDEX.

    Returns:
        Nodules inside their volume, labels with their keys, and all unmatched rows or items.

    Raises:
        SeriesError: with all reasons, if a table cannot be used. An unreadable object is listed as
            unmatched instead: it must not stop the indexing of an archive.
    """
    archive = ArchiveLookup(places, objects, has_case, real_names)
    return SOURCES[settings.kind].read(settings, archive)
