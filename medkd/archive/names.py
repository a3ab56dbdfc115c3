"""Names of cases, patients and sites in an INDEX, and the part that a case belongs to.

Under `identity: keep` a DICOM case keeps its UID, and a plain file its name (with its folders if
two files share the name). Under `pseudonymise` all of these and the site are keyed hashes, and the
links from hashes to identifiers are collected for the private folder.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from medkd.archive.settings import IndexSettings
from medkd.archive.work_store import KnownFile, WorkStore
from medkd.index.pseudonyms import Pseudonyms
from medkd.io.file_kind import DicomHead

Link = tuple[str, str, str]
PatientSource = Literal["header", "study", "series", ""]

_ORIGINS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_SUBSET = re.compile(r"subset\d+")
_SUFFIXES = (".nii.gz", ".mhd", ".mha", ".nii", ".nrrd", ".nhdr", ".png", ".jpg", ".jpeg")
_UID = re.compile(r"(?<![\d.])(?!1\.2\.840\.10008\.)\d+(?:\.\d+){4,}\b")
"""Any UID except those of DICOM itself, which name classes and transfer syntaxes."""

_SHORTEST_IDENTITY = 3


@dataclass(frozen=True, slots=True)
class CaseName:
    """The names of one case, and the identifying facts of its header.

    `key` (its group in the work store), `real`, `place`, `study_date` and `identity` identify a
    patient and are never shown.

    Args:
        real: SeriesInstanceUID, SOPInstanceUID, or the name of a plain file or patch.
        case_id: its name in the INDEX.
        patient_id: the name of its patient in the INDEX; empty if nothing names a patient.
        site: empty if not stated.
        origin: the part of a split that its folders name.
        place: path of its first file below the root.
        identity: texts of the header that name the patient.
        patient_from: what names the patient. "study" and "series" (of patches) are used as the
            patient because nothing else names one; empty if there is neither.
        patch_of: SeriesInstanceUID of the scan that a patch was cut from; else empty.
    """

    key: str = field(repr=False)
    real: str = field(repr=False)
    case_id: str
    patient_id: str
    site: str
    origin: str
    place: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    identity: tuple[str, ...] = field(default=(), repr=False)
    patient_from: PatientSource = ""
    patch_of: str = field(default="", repr=False)


class CaseNamer:
    """Names the cases of one archive.

    Args:
        store: the archive's files.
        settings: how sites are named.
        pseudonyms: how identifiers are named.
    """

    def __init__(
        self, store: WorkStore, settings: IndexSettings, *, pseudonyms: Pseudonyms
    ) -> None:
        self._store = store
        self._settings = settings
        self._pseudonyms = pseudonyms
        groups = store.groups()
        self._stems = Counter(_stem(key) for key in groups if _is_plain(key))
        self._series = Counter(key.split(":")[1] for key in groups if key.startswith("series:"))
        self._taken: Counter[str] = Counter()
        self.links: list[Link] = []

    def name(self, key: str) -> CaseName:
        """Name one group and collect its links."""
        head = self._store.head_of(key) or DicomHead("", "", "")
        (first,) = self._store.files_of(key, limit=1)
        real = self._real(key)
        case_id = self._unique(self._case_id(key, real))
        patch_of = real.rpartition("/")[2].rpartition("_")[0] if key.startswith("patch:") else ""
        identifier, source = _patient_source(head, patch_of)
        patient = self.patient(identifier)
        kind = "file" if _is_plain(key) else key.partition(":")[0] + "_uid"
        self._link(case_id, kind, real)
        return CaseName(
            key=key, real=real, case_id=case_id, patient_id=patient,
            site=self._site(head, first), origin=_origin(first.place), place=first.place,
            study_date=head.study_date, identity=head.identity,
            patient_from=source if patient else "", patch_of=patch_of,
        )  # fmt: skip

    def patient(self, patient_id: str) -> str:
        """Name a patient and collect the link; empty if there is no identifier."""
        if not patient_id.strip(" \0"):
            return ""
        name = self._pseudonyms.patient(patient_id)
        self._link(name, "patient_id", patient_id)
        return name

    def redact(self, text: str, name: CaseName) -> str:
        """Remove texts that name the patient of a case, and UIDs, from a text."""
        if self._pseudonyms.mode == "keep":
            return text
        for known in (*name.identity, *(p for value in name.identity for p in _parts(value))):
            if len(known) >= _SHORTEST_IDENTITY:
                pattern = rf"(?<!\w){re.escape(known)}(?!\w)"
                text = re.sub(pattern, "[removed]", text, flags=re.IGNORECASE)
        return _UID.sub("[removed]", text)

    def _real(self, key: str) -> str:
        if not _is_plain(key):
            kind, uid, *sop_class = key.split(":")
            shared = kind == "series" and sop_class and self._series[uid] > 1
            return f"{uid}-{sop_class[0].rpartition('.')[2]}" if shared else uid
        stem = _stem(key)
        return stem if self._stems[stem] == 1 else _without_suffix(key.partition(":")[2])

    def _case_id(self, key: str, real: str) -> str:
        if self._pseudonyms.mode == "keep":
            return re.sub(r"[^\w.+-]", "_", real.replace("/", "__"))
        # A plain file is hashed by its whole path, so another file of its name changes nothing.
        return self._pseudonyms.case(key.partition(":")[2] if _is_plain(key) else real)

    def _unique(self, case_id: str) -> str:
        """Add a number if two groups would get one name, such as a series and its image."""
        self._taken[case_id] += 1
        count = self._taken[case_id]
        return case_id if count == 1 else self._unique(f"{case_id}-{count}")

    def _site(self, head: DicomHead, first: KnownFile) -> str:
        source = self._settings.site
        parts = PurePosixPath(first.place).parts
        if source == "folder":
            text = parts[0] if len(parts) > 1 else ""
        else:
            text = "" if source == "none" else str(getattr(head, source))
        if not text or self._pseudonyms.mode == "keep" or source == "manufacturer":
            return text
        site = "s" + self._pseudonyms.case(f"site {text}")[1:]
        self._link(site, "site", text)
        return site

    def _link(self, pseudonym: str, kind: str, value: str) -> None:
        if self._pseudonyms.mode == "pseudonymise":
            self.links.append((pseudonym, kind, value))


def _patient_source(head: DicomHead, patch_of: str) -> tuple[str, PatientSource]:
    """Return the identifier of the patient, and what it identifies."""
    if head.patient_id:
        return head.patient_id, "header"
    if head.study_uid:
        return f"study {head.study_uid}", "study"
    return (f"series {patch_of}", "series") if patch_of else ("", "")


def _is_plain(key: str) -> bool:
    return key.startswith(("picture:", "volume:", "patch:"))


def _stem(key: str) -> str:
    return _without_suffix(PurePosixPath(key.partition(":")[2]).name)


def _without_suffix(place: str) -> str:
    found = next((s for s in _SUFFIXES if place.lower().endswith(s)), "")
    return place[: len(place) - len(found)]


def _origin(place: str) -> str:
    for part in PurePosixPath(place).parts[:-1]:
        word = part.lower()
        if word in _ORIGINS or _SUBSET.fullmatch(word):
            return _ORIGINS.get(word, word)
    return ""


def _parts(value: str) -> list[str]:
    return re.split(r"[\s^=\\,]+", value)
