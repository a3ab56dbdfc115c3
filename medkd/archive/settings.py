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
        description="keep: identifiers as the archive has them (public sets alone); "
        "pseudonymise: keyed hashes, the key and the way back in the private folder.",
    )
    gate: GateSettings = Field(
        default_factory=GateSettings, description="Which CT series are fit for analysis."
    )
    allow_images: tuple[str, ...] = Field(
        (), description="Faults of radiographs that are let pass, by their codes."
    )
    allow_archive: tuple[str, ...] = Field(
        (), description="Faults of the archive as a whole that are accepted: unreadable_folder."
    )
    annotations: tuple[AnnotationSettings, ...] = Field(
        (), description="Sources of nodules and labels."
    )
    site: Literal["institution", "station", "manufacturer", "folder", "none"] = Field(
        "institution",
        description="What names the site of a case; folder: the first one below the root.",
    )
    workers: int = Field(2, ge=1, le=64, description="Processes that read.")

    @field_validator("allow_archive")
    @classmethod
    def _of_archive(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(codes) - set(ARCHIVE_CODES)):
            raise ValueError(f"expected codes of {sorted(ARCHIVE_CODES)}, got {unknown}")
        return codes

    @field_validator("allow_images")
    @classmethod
    def _allowable(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        allowable = sorted(code for code, (_, may_pass) in IMAGE_CODES.items() if may_pass)
        if unknown := sorted(set(codes) - set(allowable)):
            raise ValueError(f"expected codes of {allowable}, got {unknown}")
        return codes


def allowing(settings: IndexSettings, codes: Sequence[str]) -> IndexSettings:
    """Accept more faults, each in the settings it concerns: series, radiographs, or the archive.

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
