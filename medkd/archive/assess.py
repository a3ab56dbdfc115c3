"""Assessment of one series, radiograph or volume: its gate is applied, its pixels are read once.

This runs in separate processes and returns plain values. Every fault becomes a reason of the form
"code: text"; a broken file raises nothing. Cases, patients and sites are named later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.index.case import Case
from medkd.index.case_store import CaseForm, on_disk, unpacked, without_paths
from medkd.io.dicom.gate import GateSettings, examine, scan_reasons
from medkd.io.dicom.header import HeaderSet, read_headers
from medkd.io.dicom.quiet import quiet_dicom
from medkd.io.dicom.series import generator_of, places_of, read_series
from medkd.io.dicom.write import SYNTHETIC_MANUFACTURER
from medkd.io.file_ref import FileRef
from medkd.io.grouping import unread_reasons
from medkd.io.patch_files import measure_mask, pair_files
from medkd.io.radiograph.gate import split_allowed
from medkd.io.radiograph.read import read_radiograph, read_radiograph_header
from medkd.io.reference import SeriesPlaces
from medkd.io.reference.regions import Region
from medkd.io.volume import read_volume
from medkd.lungs import lungs_in_view
from medkd.types import Scan

ALLOWED = "allowed: "
"""Prefix of the notes of a scan that report accepted faults."""

_SHOWN = 3
_HIGHEST_AIR_HU = -500
"""A chest CT contains air; the values of a mask or of a picture scaled to 0..255 are higher."""


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one case and how to read them; messages must not contain names in `hidden`."""

    key: str
    refs: tuple[FileRef, ...]
    gate: GateSettings
    allow_images: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """`SeriesPlaces` (grid and slice identifiers) as plain values, without the seriesuid."""

    shape: tuple[int, int, int]
    affine_lps_mm: tuple[tuple[float, ...], ...]
    frame_of_reference_uid: str = ""
    sop_uids: tuple[str, ...] = ()
    instance_numbers: tuple[int | None, ...] = ()
    frame_numbers: tuple[int, ...] = ()

    def as_series(self, seriesuid: str, *, patch_of: str = "") -> SeriesPlaces:
        """Return the `SeriesPlaces` of the series, or of a patch of a series, of this real name."""
        grid = VoxelGrid(self.shape, np.asarray(self.affine_lps_mm))
        return SeriesPlaces(
            seriesuid, grid, self.frame_of_reference_uid, self.sop_uids, self.instance_numbers,
            self.frame_numbers, patch_of,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What is known about a case before it is named.

    `case` has everything except names, site, part and day. `places` are those of a readable scan.
    `mask` is the segmented nodule of a patch. `crashed`: reading the case killed its process.
    """

    form: CaseForm
    case: Case
    places: Places | None = field(default=None, repr=False)
    mask: Region | None = None
    crashed: bool = False


FACTS_JSON = TypeAdapter(CaseFacts)

SCAN = Case("", "", "scan")
PATCH = Case("", "", "scan", extent="patch")
IMAGE = Case("", "", "image")


def assess_groups(groups: Sequence[Group]) -> list[CaseFacts]:
    """Assess a few groups in sequence."""
    return [assess_group(group) for group in groups]


def assess_group(group: Group) -> CaseFacts:
    """Read a group with the reader for its files; every fault becomes a reason."""
    form, blank, assess = _FORMS[group.key.partition(":")[0]]
    try:
        with quiet_dicom():
            found = assess(group)
    except SeriesError as error:
        found = Assessed(replace(blank, reasons=error.reasons))
    except MemoryError:
        found = Assessed(replace(blank, reasons=("unreadable: it does not fit into memory",)))
    except Exception as error:  # noqa: BLE001  # one broken case must not stop an archive
        reason = f"unreadable: {type(error).__name__} on reading it"
        found = Assessed(replace(blank, reasons=(reason,)))
    reasons = _merge_files(map(_with_code, found.case.reasons), group.refs)
    return CaseFacts(form, replace(found.case, reasons=reasons), found.places, found.mask)


def crashed_facts(key: str) -> CaseFacts:
    """Return the facts of a group whose reading killed its process."""
    form, blank, _ = _FORMS[key.partition(":")[0]]
    reasons = ("unreadable: decoding it crashes",)
    return CaseFacts(form, replace(blank, reasons=reasons), crashed=True)


class Assessed(NamedTuple):
    """A case with its geometry, if it is a readable scan, and the nodule of a patch."""

    case: Case
    places: Places | None = None
    mask: Region | None = None


def _assess_series(group: Group) -> Assessed:
    with unpacked(group.refs) as refs:
        headers = read_headers(refs)
        refused, allowed = examine(headers.headers, group.gate).verdict
        reasons = (*headers.reasons, *unread_reasons(headers.not_dicom), *refused)
        case = replace(_stated(headers), reasons=reasons, allowed=allowed)
        if reasons:
            return Assessed(case)
        try:
            scan = read_series(headers, gate=group.gate)
        except SeriesError as error:
            return Assessed(replace(case, reasons=error.reasons))
    places = _plain_places(places_of(headers.headers, group.gate))
    return Assessed(_with_scan(case, scan, group.gate), places)


def _stated(headers: HeaderSet) -> Case:
    """Return the acquisition as the headers state it, also for a refused series."""
    if not headers.headers:
        return SCAN
    first = headers.headers[0]
    generator = generator_of(first)
    return replace(
        SCAN,
        modality=first.text("Modality"),
        manufacturer=first.text("Manufacturer"),
        kernel=first.text("ConvolutionKernel").replace("\\", "/"),
        slice_thickness_mm=first.number("SliceThickness"),
        synthetic=bool(generator),
        generator=generator,
    )


def _assess_volume(group: Group) -> Assessed:
    return _examined(_read_file(group), group.gate, SCAN)


def _assess_patch(group: Group) -> Assessed:
    """Assess the image of a patch, and measure the nodule of its segmentation."""
    files = pair_files(group.refs)
    scan = _read_file(replace(group, refs=(files.image,)))
    found = _examined(scan, group.gate.for_patch(), PATCH)
    try:
        drawn = _read_file(replace(group, refs=(files.mask,)))
        return found._replace(mask=measure_mask(drawn, scan.stored_grid or scan.grid))
    except SeriesError as error:
        reasons = (*found.case.reasons, *error.reasons)
        return found._replace(case=replace(found.case, reasons=reasons))


def _read_file(group: Group) -> Scan:
    """Read a volume; a refusal names files by their labels."""
    try:
        with on_disk(group.refs) as path:
            return read_volume(path, allow=group.gate.allow)
    except SeriesError as error:
        reasons = [without_paths(reason, group.refs, group.hidden) for reason in error.reasons]
        raise SeriesError(group.refs[0].name, reasons) from None


def _examined(scan: Scan, gate: GateSettings, blank: Case) -> Assessed:
    """Examine a volume that is not DICOM."""
    refused, allowed = scan_reasons(scan, gate)
    refused += _density_reasons(scan)
    accepted = (note for note in scan.notes if note.startswith(ALLOWED))
    allowed = (*(note.removeprefix(ALLOWED) for note in accepted), *allowed)
    case = replace(blank, reasons=refused, allowed=allowed, modality="CT")
    places = _plain_places(SeriesPlaces("", scan.stored_grid or scan.grid))
    return Assessed(_with_scan(case, scan, gate), places)


def _density_reasons(scan: Scan) -> tuple[str, ...]:
    """Refuse masks and label maps, which are volumes too but contain no air."""
    lowest = int(scan.voxels_hu.min())
    reason = f"not_ct: the lowest value is {lowest}, no air in HU: a mask or label map?"
    return () if lowest < _HIGHEST_AIR_HU else (reason,)


def _with_scan(case: Case, scan: Scan, gate: GateSettings) -> Case:
    """Add what follows from the pixels; lungs are searched in whole scans that nothing refuses."""
    has_lungs = case.extent == "whole" and not case.reasons
    lungs = tuple(lungs_in_view(scan)) if has_lungs else ()
    passes = "lungs_not_in_view" in gate.allow
    known = set(case.allowed)
    notes = tuple(n for n in scan.notes if n.removeprefix(ALLOWED) not in known)
    return replace(
        case,
        reasons=case.reasons if passes else (*case.reasons, *lungs),
        allowed=(*case.allowed, *lungs) if passes else case.allowed,
        notes=notes,
        shape=scan.grid.shape,
        spacing_mm=tuple(float(mm) for mm in scan.grid.spacing_mm),
        content=_digest(scan.voxels_hu.transpose(2, 1, 0)),
    )


def _assess_image(group: Group) -> Assessed:
    header = read_radiograph_header(group.refs[0])
    refused, allowed = split_allowed(header.reasons, group.allow_images)
    case = replace(
        IMAGE, reasons=refused, allowed=allowed,
        modality=header.modality, view=header.view or "", manufacturer=header.manufacturer,
        shape=header.shape, spacing_mm=header.spacing_mm or (),
        synthetic=header.manufacturer == SYNTHETIC_MANUFACTURER,
    )  # fmt: skip
    if refused:
        return Assessed(case)
    images = [read_radiograph(ref, allow=group.allow_images) for ref in group.refs]
    digests = [_digest(image.pixels) for image in images]
    if len(set(digests)) > 1:
        reason = f"duplicate_uids: {len(digests)} files with one SOPInstanceUID differ in pixels"
        return Assessed(replace(case, reasons=(reason,)))
    copies = len(digests) - 1
    note = (f"{copies} more files contain the same image: the first is read",) if copies else ()
    return Assessed(replace(case, content=digests[0], notes=(*images[0].notes, *note)))


def _digest(pixels: NDArray[Any]) -> str:
    """Return a digest of the shape and the values."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _plain_places(places: SeriesPlaces) -> Places:
    affine = tuple(tuple(float(v) for v in row) for row in places.grid.affine_lps_mm)
    return Places(
        places.grid.shape, affine, places.frame_of_reference_uid, places.sop_uids,
        places.instance_numbers, places.frame_numbers,
    )  # fmt: skip


def _merge_files(reasons: Iterable[str], refs: Sequence[FileRef]) -> tuple[str, ...]:
    """Merge reasons that differ only in the file they name.

    Example: "unreadable: f1: cut short" and "unreadable: f2: cut short" become
    "unreadable: f1, f2: cut short".
    """
    names = {ref.name for ref in refs}
    files_of: dict[tuple[str, str], list[str]] = {}
    for reason in dict.fromkeys(reasons):
        code, _, text = reason.partition(": ")
        name, _, rest = text.partition(": ")
        of_file = name in names
        files_of.setdefault((code, rest if of_file else text), []).extend([name] * of_file)
    return tuple(
        f"{code}: {_listed(files)}: {text}" if files else f"{code}: {text}"
        for (code, text), files in files_of.items()
    )


def _listed(files: Sequence[str]) -> str:
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(files[:_SHOWN]) + more


def _with_code(reason: str) -> str:
    """Add the code "unreadable" to a reason that has none."""
    code, found, _ = reason.partition(": ")
    worded = found and code.islower() and code.replace("_", "").isalpha()
    return reason if worded else f"unreadable: {reason}"


_FORMS: dict[str, tuple[CaseForm, Case, Callable[[Group], Assessed]]] = {
    "series": ("dicom", SCAN, _assess_series),
    "volume": ("volume", SCAN, _assess_volume),
    "patch": ("patch", PATCH, _assess_patch),
    "image": ("image", IMAGE, _assess_image),
    "picture": ("image", IMAGE, _assess_image),
}
"""First word of a group's key to its form, the facts known before reading, and its reader."""
