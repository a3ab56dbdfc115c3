"""Small archives for tests: phantom-like chests as DICOM, pictures, tables, with planted names."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medkd.archive.build import build_archive_index
from medkd.archive.settings import IndexSettings
from medkd.index.table import ArchiveIndex, UnmatchedRow, table_path
from medkd.io.dicom.write import write_dicom_series
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Nodule, Scan

FAMILY, GIVEN = "Mustermann", "Erika"
PATIENT_ID = "HOSP-4711-0815"


def read_unmatched(index: Path) -> list[UnmatchedRow]:
    with table_path(index, "unmatched").open(encoding="utf-8", newline="") as stream:
        return [UnmatchedRow(**row) for row in csv.DictReader(stream)]


@lru_cache(maxsize=4)
def chest(number: int = 0) -> tuple[Scan, tuple[Nodule, ...]]:
    """Return a synthetic chest with its nodules."""
    phantom = make_phantom(PhantomSettings(), number)
    return phantom.scan, tuple(phantom.nodules)


def write_patient(
    folder: Path, number: int, *, extra: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write one chest under a patient's name."""
    return write_dicom_series(
        chest(number)[0],
        folder,
        patient_name=f"{FAMILY}{number}^{GIVEN}",
        patient_id=f"{PATIENT_ID}-{number}",
        extra={"AccessionNumber": "ACC99887766", "PatientBirthDate": "19480229",
               "InstitutionName": "St. Elsewhere", **(extra or {})},
    )  # fmt: skip


def write_picture(path: Path, seed: int = 0, *, size: int = 32) -> None:
    """Write a grey PNG of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def index_of(root: Path, out: Path, **settings: Any) -> ArchiveIndex:
    """Index an archive with one worker."""
    given = IndexSettings.model_validate({"workers": 1, **settings})
    return build_archive_index(root, out, given, progress=ignore)


def ignore(*_: object) -> None:
    """Show no progress."""


Edit = Callable[[Any], None]
