"""Decide from SOP class, modality and image type which objects of a series are CT slices.

Each header is checked on its own. Free text is only searched for words of closed lists and is never
shown in a reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medkd.io.dicom.codes import Fault, join_names
from medkd.io.dicom.tags import uid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medkd.io.dicom.header import SliceHeader

CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
"""SOP classes of CT, enhanced CT and legacy converted enhanced CT images (PS3.4 B.5)."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DOSE_SR = "1.2.840.10008.5.1.4.1.1.88.67"

_LOCALIZER = re.compile(r"LOCALI[SZ]ER|SCOUT|TOPOGRAM|SURVIEW|SCANOGRAM|SCANO\b", re.IGNORECASE)
_SCREEN = re.compile(r"SCREEN ?S(AVE|HOT)|SCREEN CAPTURE", re.IGNORECASE)
_DOSE = re.compile(
    r"DOSE[ _]?(REPORT|RECORD|SUMMARY|INFO|SHEET)|RAPPORT (DE )?DOSE|DOSISBERICHT|DOSISPROTOKOLL"
    r"|PATIENT PROTOCOL|CT_SOM\d+ PROT\b",
    re.IGNORECASE,
)
_NOT_DENSITY = {
    "PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "PBV", "VELOCITY", "SUV",
    "MAX_IP", "MIN_IP", "MIP", "MINIP", "PROJECTION IMAGE", "VOLUME_RENDER", "VRT", "SSD", "RGB",
    "ATTENUATION_CORRECTION", "MATERIAL_FRACTION", "EFFECTIVE_Z", "ELECTRON_DENSITY",
}  # fmt: skip
"""Image types whose pixels are not slice densities (PS3.3 C.8.15.2.1.1.3 and vendors' own)."""

_HU_TYPES = {"", "HU", "HU_MOD", "US"}
"""Values of RescaleType that mean HU, measured or at one energy (PS3.3 C.11.1.1.2).

US means "unspecified"."""


def kind_faults(headers: Sequence[SliceHeader]) -> list[Fault]:
    """Return faults for headers of objects that are not CT slices.

    `Fault.non_slices` holds their indices in `headers`.
    """
    checks: list[tuple[str, Callable[[SliceHeader], str]]] = [
        ("not_ct", _other_class),
        ("not_ct", _other_modality),
        ("not_ct", _other_kind),
        ("secondary_capture", lambda h: "a secondary capture" if _is_screen(h) else ""),
        ("dose_report", lambda h: "a dose record" if _is_dose(h) else ""),
        ("localizer", lambda h: "a localizer (scout)" if _is_localizer(h) else ""),
        ("no_pixels", lambda h: "" if h.pixels.present else "it has no pixels"),
    ]
    faults = []
    for code, describe in checks:
        odd: dict[str, list[int]] = {}
        for number, header in enumerate(headers):
            if text := describe(header):
                odd.setdefault(text, []).append(number)
        for text, numbers in odd.items():
            names = join_names(headers[n] for n in numbers)
            faults.append(Fault(code, f"{names}: {text}", non_slices=frozenset(numbers)))
    return faults


def _other_class(header: SliceHeader) -> str:
    uid = header.text("SOPClassUID")
    if uid in CT_CLASSES or uid.startswith(_SECONDARY_CAPTURE):  # the latter has a code of its own
        return ""
    return f"expected SOPClassUID CT Image Storage, got {uid_of(uid).name or 'none'}"


def _other_modality(header: SliceHeader) -> str:
    modality = header.text("Modality")
    return "" if modality == "CT" else f"expected Modality CT, got {modality[:16] or 'none'}"


def _other_kind(header: SliceHeader) -> str:
    kinds = {kind.upper() for kind in header.texts("ImageType")[2:]} & _NOT_DENSITY
    unit = header.text("RescaleType").upper()
    if unit not in _HU_TYPES:
        kinds.add(f"RescaleType {unit[:16]}")
    return f"expected densities of slices, got {', '.join(sorted(kinds))}" if kinds else ""


def _is_screen(header: SliceHeader) -> bool:
    return header.text("SOPClassUID").startswith(_SECONDARY_CAPTURE) or bool(
        _SCREEN.search(header.text("ImageType"))
    )


def _is_dose(header: SliceHeader) -> bool:
    if header.text("SOPClassUID") == _DOSE_SR or _DOSE.search(header.text("ImageType")):
        return True
    # "Low dose chest" is a scan: DOS in the title only makes a screenshot a dose report.
    title = header.text("SeriesDescription")
    return bool(_DOSE.search(title)) or (_is_screen(header) and "DOS" in title.upper())


def _is_localizer(header: SliceHeader) -> bool:
    return bool(_LOCALIZER.search(f"{header.text('ImageType')} {header.text('ScanOptions')}"))
