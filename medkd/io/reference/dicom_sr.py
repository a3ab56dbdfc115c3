"""Nodules from DICOM SR of template TID 1500 (PS3.16): measurement groups with their regions.

Each measurement group (TID 1410, 1411, 1501) is one finding. Its place comes from coordinates
anywhere below it, its diameter from its measurements. Messages quote only coded terms, since free
text may name a patient. If several groups have the same tracking UID, the newest one is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medkd.io.file_ref import FileRef
from medkd.io.reference.objects import (
    Code,
    Dataset,
    first_code,
    object_refs,
    read_objects,
    sequence,
)
from medkd.io.reference.places import PlaceFinder
from medkd.io.reference.regions import sphere_diameter_mm
from medkd.io.reference.rows import ReferenceRows, RowCollector, joined
from medkd.io.reference.settings import SrAnnotations, is_meant
from medkd.io.reference.sr_shapes import Shape, measure_shapes, shapes_of
from medkd.types import Nodule

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

_MM = {"mm": 1.0, "cm": 10.0, "um": 0.001, "m": 1000.0}
_MM3 = {"mm3": 1.0, "cm3": 1000.0, "ml": 1000.0, "mL": 1000.0}
"""UCUM units of length and volume, in mm and mm3."""


@dataclass(frozen=True, slots=True)
class _Finding:
    """A nodule of one report, before the newest report is selected."""

    nodule: Nodule
    source: str
    row: str
    tracking_uid: str
    stamp: str


def read_dicom_sr(
    settings: SrAnnotations, finder: PlaceFinder, found: Sequence[FileRef]
) -> ReferenceRows:
    """Read structured reports.

    Args:
        settings: path, and which findings at which sites are nodules.
        finder: the archive's series.
        found: reports in the archive; they are read if the settings have no path.

    Returns:
        A nodule for each measurement group in each series in which it lies.

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

    listed = read_objects("sr", object_refs("sr", settings.path, found), finder, read=read)
    return joined([listed, *_newest(findings, finder)])


def _newest(findings: Sequence[_Finding], finder: PlaceFinder) -> Iterator[ReferenceRows]:
    """Yield the rows of each finding; a finding superseded by its tracking UID is unmatched."""
    newest: dict[tuple[str, str], _Finding] = {}
    for finding in findings:
        key = (finding.nodule.seriesuid, finding.tracking_uid)
        if key not in newest or finding.stamp >= newest[key].stamp:
            newest[key] = finding
    for finding in findings:
        rows = RowCollector(finding.source, finder)
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
        measured = measure_shapes(shapes)
        if isinstance(measured, str):
            rows.refuse(row, measured, seriesuid)
            continue
        diameter_mm = _stated_diameter_mm(group) or measured.diameter_mm
        if not diameter_mm:
            rows.refuse(row, "it states no diameter and its region has none", seriesuid)
            continue
        nodule = Nodule(seriesuid, measured.center_mm, diameter_mm, settings.counts_as)
        stamp = f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"
        yield _Finding(nodule, rows.source, row, _uid_of(group), stamp)


def _shapes_by_series(
    group: Dataset, evidence: list[str], rows: RowCollector, *, row: str
) -> dict[str, list[Shape]]:
    """Return the shapes of a group by series; add the reasons for unplaced shapes to `rows`."""
    by_series: dict[str, list[Shape]] = defaultdict(list)
    problems: list[str] = []
    for item in _below(group):
        if item.get("ValueType") in ("SCOORD", "SCOORD3D"):
            shapes = shapes_of(item, rows.finder, evidence)
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


def _below(item: Dataset) -> Iterator[Dataset]:
    """Yield every content item below one."""
    for child in sequence(item, "ContentSequence"):
        yield child
        yield from _below(child)


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
    in_lungs = is_meant(settings.sites, *(term for site in sites for term in site[:2]))
    if sites and not in_lungs:
        shown = ", ".join(site.public_meaning for site in sites)
        return f"its finding site ({shown}) is not one of the sites in the settings"
    vague = not findings or is_meant(_VAGUE, *terms)
    if settings.means(*terms) or (vague and sites):
        return ""
    shown = ", ".join(finding.public_meaning for finding in findings) or "not coded"
    return f"its finding ({shown}) is not one of the findings in the settings"


def _why_no_place(group: Dataset) -> str:
    segmented = any(
        str(image.get("ReferencedSOPClassUID")) == "1.2.840.10008.5.1.4.1.1.66.4"
        for item in _below(group)
        for image in sequence(item, "ReferencedSOPSequence")
    )
    if segmented:
        return "its region is a DICOM SEG: add a separate source for it (kind: seg)"
    return "it has no coordinates"


def _evidence(dataset: Dataset) -> Iterator[str]:
    """Yield the series that a report names as evidence."""
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
    for item in _below(group):
        if item.get("ValueType") == "NUM" and _is_named(item, codes):
            for value in sequence(item, "MeasuredValueSequence"):
                unit = first_code(value, "MeasurementUnitsCodeSequence").value
                number = float(value.NumericValue) * units.get(unit, 0.0)
                if number > 0:
                    return number
    return None
