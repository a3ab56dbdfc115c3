"""Settings of `medkd index`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from medkd.archive.unreadable import ARCHIVE_CODES
from medkd.errors import SettingsError
from medkd.io.dicom.codes import CODES
from medkd.io.dicom.gate import GateSettings
from medkd.io.radiograph.gate import CODES as IMAGE_CODES
from medkd.io.reference import AnnotationSettings
from medkd.settings import Settings


class IndexSettings(Settings):
    """How an archive is indexed."""

    identity: Literal["keep", "pseudonymise"] = Field(
        "pseudonymise",
        description="keep: identifiers as in the archive (only for public sets); "
        "pseudonymise: keyed hashes; key and link table are in the private folder.",
    )
    gate: GateSettings = Field(
        default_factory=GateSettings, description="Checks that every analysed CT series passes."
    )
    allow_images: tuple[str, ...] = Field(
        (), description="Codes of accepted faults of radiographs."
    )
    allow_archive: tuple[str, ...] = Field(
        (), description="Codes of accepted faults of the whole archive: unreadable_folder."
    )
    annotations: tuple[AnnotationSettings, ...] = Field(
        (), description="Sources of nodules and labels."
    )
    site: Literal["institution", "station", "manufacturer", "folder", "none"] = Field(
        "institution",
        description="Source of the site's name; folder: the first folder below the root.",
    )
    workers: int = Field(2, ge=1, le=64, description="Number of reading processes.")

    @field_validator("allow_archive")
    @classmethod
    def _known_codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(codes) - set(ARCHIVE_CODES)):
            raise ValueError(f"expected codes of {sorted(ARCHIVE_CODES)}, got {unknown}")
        return codes

    @field_validator("allow_images")
    @classmethod
    def _allowed_codes(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        allowable = sorted(code for code, (_, may_pass) in IMAGE_CODES.items() if may_pass)
        if unknown := sorted(set(codes) - set(allowable)):
            raise ValueError(f"expected codes of {allowable}, got {unknown}")
        return codes


def allow_faults(settings: IndexSettings, codes: Sequence[str]) -> IndexSettings:
    """Accept more faults, each in the setting for series, for radiographs, or for the archive.

    Raises:
        SettingsError: if a code does not exist or must not be accepted.
    """
    scans = {code for code, meaning in CODES.items() if meaning.allowable}
    images = {code for code, (_, may_pass) in IMAGE_CODES.items() if may_pass}
    archives = set(ARCHIVE_CODES)
    if unknown := [code for code in codes if code not in scans | images | archives]:
        raise SettingsError(
            f"cannot be allowed: {', '.join(unknown)}",
            [f"of CT: {', '.join(sorted(scans))}", f"of X-ray: {', '.join(sorted(images))}",
             f"of the archive: {', '.join(sorted(archives))}"],
        )  # fmt: skip

    def joined(known: Sequence[str], own: set[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*known, *(code for code in codes if code in own)]))

    gate = settings.gate.model_copy(update={"allow": joined(settings.gate.allow, scans)})
    return settings.model_copy(
        update={
            "gate": gate,
            "allow_images": joined(settings.allow_images, images),
            "allow_archive": joined(settings.allow_archive, archives),
        }
    )


def paths_of(source: AnnotationSettings) -> tuple[Path, ...]:
    """Return the files and folders that a source of annotations names."""
    values = (getattr(source, name) for name in type(source).model_fields)
    return tuple(value for value in values if isinstance(value, Path))
