"""Nodules from DICOM SR of template TID 1500 (PS3.16): measurement groups with their regions.

Each measurement group (TID 1410, 1411, 1501) is one finding. Its place comes from coordinates
anywhere below it, its diameter from its measurements. Messages quote only coded terms, since free
text may name a patient. If several groups have the same tracking UID, the newest one is used.

Graphics are converted to LPS mm (PS3.3 C.18.6 and C.18.9). SCOORD has columns and rows of one image
from the upper left corner of its first pixel: a pixel's centre is at .5. SCOORD3D has LPS mm.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medkd.io.reference.objects import (
    OBJECT_KINDS,
    Code,
    Dataset,
    ObjectSource,
    first_code,
    has_word,
    read_objects,
    sequence,
)
from medkd.io.reference.places import ArchiveLookup, SeriesPlaces, to_point
from medkd.io.reference.regions import measure_outlines, sphere_diameter_mm
from medkd.io.reference.rows import ReferenceRows, RowCollector, joined
from medkd.types import Nodule, Point

Float64 = NDArray[np.float64]

_GROUP = "125007"
_FINDING = ("121071",)
_SITE = ("363698007", "G-C0E3")
_TRACKING_NAME, _TRACKING_UID = ("112039",), ("112040",)
_VAGUE = ("lesion", "mass", "neoplasm", "tumor")
"""Findings that count as nodules if their site is in the lungs."""
_LONG_AXIS = ("103339001", "131187009", "G-A185", "G-A193")
_SHORT_AXIS = ("103340004", "131188004", "G-A186", "G-A194")
_DIAMETER = ("81827009", "M-02550", "410668003", "G-D7FE")
_VOLUME = ("118565006", "G-D705")
"""Codes of SNOMED CT and, before 2019, SRT (PS3.16 annex O): axes, diameter or length, volume."""

LUNG_WORDS = ("lung", "pulmonary", "lingula", "chest", "thorax", "thoracic", "39607008")
"""Words in a finding's site, or its codes, that make it a finding in the lungs."""

_MM = {"mm": 1.0, "cm": 10.0, "um": 0.001, "m": 1000.0}
_MM3 = {"mm3": 1.0, "cm3": 1000.0, "ml": 1000.0, "mL": 1000.0}
"""UCUM units of length and volume, in mm and mm3."""

_ANGLES = np.linspace(0, 2 * np.pi, 180, endpoint=False)[:, None]
_CLOSED_MM = 0.01
_PIXEL_CENTRE = 0.5


class SrAnnotations(ObjectSource):
    """DICOM SR of template TID 1500: measured regions and points."""

    kind: Literal["sr"]
    sites: tuple[str, ...] = Field(
        LUNG_WORDS,
        description="Words or codes of a finding's site; [] accepts all sites. A nodule without a "
        "site is accepted; a lesion, a mass or an unnamed finding is accepted only with a site.",
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Shape:
    """A graphic of a report (SCOORD or SCOORD3D) in one series.

    `points_mm` is [N, 3] LPS mm, `kind` is DICOM's GraphicType.
    """

    points_mm: Float64
    kind: str
    series: SeriesPlaces


@dataclass(frozen=True, slots=True)
class _Finding:
    """A nodule of one report, before the newest report is selected."""

    nodule: Nodule
    source: str
    row: str
    tracking_uid: str
    stamp: str


def read_dicom_sr(settings: SrAnnotations, archive: ArchiveLookup) -> ReferenceRows:
    """Read structured reports.

    Args:
        settings: path, and which findings at which sites are nodules.
        archive: the series that can be annotated, and its reports.

    Returns:
        A nodule for each measurement group in each of its series.

    Raises:
        SeriesError: if the path of the settings does not exist.
    """
    findings: list[_Finding] = []

    def read(dataset: Dataset, rows: RowCollector) -> None:
        groups = list(_groups(dataset))
        if not groups:
            rows.refuse("object", "it has no measurement group of TID 1500")
        for number, group in enumerate(groups, start=1):
            findings.extend(
                _read_group(group, dataset, rows, row=f"group {number}", settings=settings)
            )

    listed = read_objects(settings, archive, read)
    return joined([listed, *_newest(findings, archive)])


def _newest(findings: Sequence[_Finding], archive: ArchiveLookup) -> Iterator[ReferenceRows]:
    """Yield the rows of each finding; a finding superseded by its tracking UID is unmatched."""
    newest: dict[tuple[str, str], _Finding] = {}
    for finding in findings:
        key = (finding.nodule.seriesuid, finding.tracking_uid)
        if key not in newest or finding.stamp >= newest[key].stamp:
            newest[key] = finding
    for finding in findings:
        rows = RowCollector(finding.source, archive)
        kept = newest[finding.nodule.seriesuid, finding.tracking_uid]
        if not finding.tracking_uid or kept is finding:
            rows.add(finding.nodule, finding.row)
        else:
            reason = "a newer report, or a later group, has the same tracking UID"
            rows.refuse(finding.row, reason, finding.nodule.seriesuid)
        yield rows.collected()


def _read_group(
    group: Dataset, dataset: Dataset, rows: RowCollector, *, row: str, settings: SrAnnotations
) -> Iterator[_Finding]:
    """Yield the nodule of a group for each of its series; add reasons for failures to `rows`."""
    reason = _why_not_wanted(group, settings)
    if reason:
        rows.refuse(row, reason)
        return
    by_series = _shapes_by_series(group, list(_evidence(dataset)), rows, row=row)
    for seriesuid, shapes in by_series.items():
        measured = _measure(shapes)
        if isinstance(measured, str):
            rows.refuse(row, measured, seriesuid)
            continue
        center_mm, measured_mm = measured
        diameter_mm = _stated_diameter_mm(group) or measured_mm
        if not diameter_mm:
            rows.refuse(row, "it states no diameter and its region has none", seriesuid)
            continue
        nodule = Nodule(seriesuid, center_mm, diameter_mm, settings.counts_as)
        stamp = f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"
        yield _Finding(nodule, rows.source, row, _uid_of(group), stamp)


def _shapes_by_series(
    group: Dataset, evidence: list[str], rows: RowCollector, *, row: str
) -> dict[str, list[_Shape]]:
    """Return the shapes of a group by series; add the reasons for unplaced shapes to `rows`."""
    by_series: dict[str, list[_Shape]] = defaultdict(list)
    problems: list[str] = []
    for item in _descendants(group):
        if item.get("ValueType") in ("SCOORD", "SCOORD3D"):
            shapes = _shapes_of(item, rows.archive, evidence)
            if isinstance(shapes, str):
                problems.append(shapes)
            else:
                for shape in shapes:
                    by_series[shape.series.seriesuid].append(shape)
    if not by_series and not problems:
        problems = [_why_no_place(group)]
    for problem in dict.fromkeys(problems):
        # The key is the report's series, which the archive may have refused.
        rows.refuse(row, problem, evidence[0] if evidence else "")
    return by_series


def _groups(item: Dataset) -> Iterator[Dataset]:
    """Yield the measurement groups of a report at any depth."""
    for child in sequence(item, "ContentSequence"):
        if child.get("ValueType") == "CONTAINER" and _is_named(child, (_GROUP,)):
            yield child
        else:
            yield from _groups(child)


def _descendants(item: Dataset) -> Iterator[Dataset]:
    """Yield all content items below an item, at any depth."""
    for child in sequence(item, "ContentSequence"):
        yield child
        yield from _descendants(child)


def _is_named(item: Dataset, codes: Sequence[str]) -> bool:
    return first_code(item, "ConceptNameCodeSequence").value in codes


def _why_not_wanted(group: Dataset, settings: SrAnnotations) -> str:
    """Return why a group is not a lung nodule by the settings; empty if it is one."""
    findings: list[Code] = []
    sites: list[Code] = []
    names: list[str] = []
    for item in sequence(group, "ContentSequence"):
        if _is_named(item, _FINDING) and item.get("ValueType") == "CODE":
            findings.append(first_code(item, "ConceptCodeSequence"))
        elif _is_named(item, _SITE):
            sites.append(first_code(item, "ConceptCodeSequence"))
        elif _is_named(item, _TRACKING_NAME):
            names.append(str(item.get("TextValue", "")))
    terms = [term for finding in findings for term in finding[:2]] or names
    if sites and not has_word(settings.sites, *(term for site in sites for term in site[:2])):
        shown = ", ".join(site.public_meaning for site in sites)
        return f"its finding site ({shown}) is not one of the sites in the settings"
    vague = not findings or has_word(_VAGUE, *terms)
    if settings.is_nodule(*terms) or (vague and sites):
        return ""
    shown = ", ".join(finding.public_meaning for finding in findings) or "not coded"
    return f"its finding ({shown}) is not one of the findings in the settings"


def _why_no_place(group: Dataset) -> str:
    images = [i for item in _descendants(group) for i in sequence(item, "ReferencedSOPSequence")]
    if any(OBJECT_KINDS.get(str(image.get("ReferencedSOPClassUID"))) == "seg" for image in images):
        return "its region is a DICOM SEG: add a separate source for it (kind: seg)"
    return "it has no coordinates"


def _evidence(dataset: Dataset) -> Iterator[str]:
    """Yield the series that a report references as evidence."""
    for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in sequence(dataset, name):
            for series in sequence(study, "ReferencedSeriesSequence"):
                yield str(series.SeriesInstanceUID)


def _uid_of(group: Dataset) -> str:
    for item in sequence(group, "ContentSequence"):
        if _is_named(item, _TRACKING_UID):
            return str(item.get("UID", ""))
    return ""


def _stated_diameter_mm(group: Dataset) -> float | None:
    """Return the stated diameter of a group, or None.

    In this order: the mean of long and short axis, the diameter, the diameter of a sphere of the
    stated volume, a single axis.
    """
    axes = [_measurement(group, codes, _MM) for codes in (_LONG_AXIS, _SHORT_AXIS)]
    if axes[0] and axes[1]:
        return (axes[0] + axes[1]) / 2
    diameter = _measurement(group, _DIAMETER, _MM)
    volume = _measurement(group, _VOLUME, _MM3)
    of_volume = sphere_diameter_mm(volume) if volume else None
    return diameter or of_volume or axes[0] or axes[1]


def _measurement(group: Dataset, codes: Sequence[str], units: dict[str, float]) -> float | None:
    """Return the first positive measurement with one of the codes and a known unit, or None."""
    for item in _descendants(group):
        if item.get("ValueType") == "NUM" and _is_named(item, codes):
            for value in sequence(item, "MeasuredValueSequence"):
                unit = first_code(value, "MeasurementUnitsCodeSequence").value
                number = float(value.NumericValue) * units.get(unit, 0.0)
                if number > 0:
                    return number
    return None


def _shapes_of(item: Dataset, archive: ArchiveLookup, named: Sequence[str]) -> list[_Shape] | str:
    """Convert an SCOORD or SCOORD3D item to LPS mm, or return why it cannot be placed.

    The result has one shape for each series of the item: for SCOORD the series of its image, for
    SCOORD3D those of its frame of reference (only `named` ones if there are any).
    """
    values = np.asarray([float(value) for value in item.GraphicData], dtype=np.float64)
    kind = str(item.GraphicType)
    if item.ValueType == "SCOORD3D":
        frame = str(item.get("ReferencedFrameOfReferenceUID", ""))
        series_of_frame = archive.sharing_frame(frame, named)
        if not series_of_frame:
            return "no series of the archive is in its frame of reference"
        return [_Shape(_drawn(values.reshape(-1, 3), kind), kind, s) for s in series_of_frame]
    image = _image_of(item)
    if image is None:
        return "its coordinates name no image"
    uid, frame_number = image
    series = archive.of_sop(uid)
    if series is None:
        return "the image on which it is drawn is in no series of the archive"
    slices = series.slices_of_sop(uid, frame_number)
    if len(slices) != 1:
        return f"the image on which it is drawn matches {len(slices)} slices; expected 1"
    pixels = _drawn(values.reshape(-1, 2), kind) - _PIXEL_CENTRE
    places_vox = np.column_stack([pixels, np.full(len(pixels), slices[0])])
    return [_Shape(series.grid.voxel_to_world(places_vox), kind, series)]


def _measure(shapes: Sequence[_Shape]) -> tuple[Point, float | None] | str:
    """Return centre and diameter of one finding's graphics, or why they cannot be measured.

    All graphics must be in one series. The first of these kinds that is present is measured:

    1. An ellipsoid or outlines on several planes: the volume-equivalent diameter. Outlines on one
       plane: the diameter of a circle of equal area.
    2. Lines: the greatest length; of exactly two lines (long and short axis) the mean length.
    3. Points: their centre, without a diameter.
    """
    solids = [shape.points_mm for shape in shapes if shape.kind == "ELLIPSOID"]
    if solids:
        axes = np.linalg.norm(solids[0][1::2] - solids[0][::2], axis=1)
        return to_point(solids[0].mean(axis=0)), float(np.prod(axes)) ** (1 / 3)
    outlines = [shape.points_mm for shape in shapes if _is_closed(shape)]
    if outlines:
        drawn = measure_outlines(outlines, shapes[0].series)
        if isinstance(drawn, str):
            return drawn
        if drawn.planes > 1:
            diameter = sphere_diameter_mm(drawn.area_mm2 * drawn.step_mm)
        else:
            diameter = 2 * math.sqrt(drawn.area_mm2 / math.pi)
        return drawn.center_mm, diameter
    ends = [_ends(shape.points_mm) for shape in shapes if shape.kind == "POLYLINE"]
    if ends:
        lengths = [float(np.linalg.norm(a - b)) for a, b in ends]
        diameter = float(np.mean(lengths)) if len(lengths) == 2 else max(lengths)
        return to_point(np.mean(ends, axis=(0, 1))), diameter
    points = np.concatenate([shape.points_mm for shape in shapes])
    return to_point(points.mean(axis=0)), None


def _image_of(item: Dataset) -> tuple[str, int | None] | None:
    """Return SOPInstanceUID and frame of the image on which an SCOORD is drawn, or None."""
    for child in sequence(item, "ContentSequence"):
        for image in sequence(child, "ReferencedSOPSequence"):
            frames = image.get("ReferencedFrameNumber")
            first = frames if isinstance(frames, int | str) else next(iter(frames or ()), None)
            uid = str(image.ReferencedSOPInstanceUID)
            return uid, None if first in (None, "") else int(first)
    return None


def _drawn(points: Float64, kind: str) -> Float64:
    """Convert a circle (centre, rim) or ellipse (ends of its axes) to an outline."""
    if kind == "CIRCLE":
        radius = float(np.linalg.norm(points[1] - points[0]))
        return np.asarray(points[0] + radius * np.hstack([np.cos(_ANGLES), np.sin(_ANGLES)]))
    if kind == "ELLIPSE":
        long, short = (points[1] - points[0]) / 2, (points[3] - points[2]) / 2
        return np.asarray(points.mean(axis=0) + np.cos(_ANGLES) * long + np.sin(_ANGLES) * short)
    return points


def _is_closed(shape: _Shape) -> bool:
    if shape.kind in ("CIRCLE", "ELLIPSE", "POLYGON"):
        return True
    ends_meet = np.linalg.norm(shape.points_mm[0] - shape.points_mm[-1]) < _CLOSED_MM
    return shape.kind == "POLYLINE" and len(shape.points_mm) > 3 and bool(ends_meet)


def _ends(points_mm: Float64) -> tuple[Float64, Float64]:
    """Return the two points of a line that are farthest apart."""
    gaps = np.linalg.norm(points_mm[:, None] - points_mm[None], axis=2)
    first, second = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return points_mm[first], points_mm[second]
