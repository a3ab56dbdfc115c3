"""Data sets in the LUNA16 layout and MedMNIST files: their paths, settings and cases."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from medkd.data.cases import Case, CaseIndex, OnProgress
from medkd.errors import SeriesError, SettingsError
from medkd.io.luna16 import Luna16Set, check_coordinates, read_luna16
from medkd.io.luna16_tables import read_patients
from medkd.io.medmnist import MedMnistSet, MedMnistSplit, read_medmnist
from medkd.io.volume import read_grid
from medkd.settings import InputPath, Settings

ROOT_VARIABLES = ("MEDKD_DATA", "LUNA16_ROOT")
"""The environment variables that a data path may contain, as ${NAME}."""


class Luna16Data(Settings):
    """LUNA16, or any data set in the official LUNA16 layout."""

    kind: Literal["luna16"] = "luna16"
    root: InputPath = Field(description="Folder with subset0..9 and the CSV files.")
    candidates: Literal["candidates_V2", "candidates"] = Field(
        "candidates_V2", description="Which candidates file is used."
    )
    allow_partial: bool = Field(False, description="Ignore table rows whose scan is missing.")
    patients: InputPath | None = Field(
        None, description="CSV `seriesuid,patient_id`; null: each scan counts as one patient."
    )

    def read_cases(self, _work_dir: Path, _progress: OnProgress | None = None) -> CaseIndex:
        """Read the tables of the data set and the headers of its scans; see `CaseSource`."""
        luna = read_luna16(
            find_data(self.root), candidates=self.candidates, allow_partial=self.allow_partial
        )
        patients = read_patients(find_data(self.patients)) if self.patients else {}
        return luna16_cases(luna, name="LUNA16 layout", patients=patients)


NO_PATIENTS = "the set names no patients: each image counts as one"


class MedMnistData(Settings):
    """A MedMNIST file, 2-D or 3-D, of any image size."""

    kind: Literal["medmnist"] = "medmnist"
    path: InputPath = Field(description="The .npz file.")
    patients: InputPath | None = Field(
        None,
        description="CSV `seriesuid,patient_id`, with case ids such as "
        "pneumoniamnist-train-000000 as seriesuid; null: each image counts as one patient.",
    )

    def read_cases(self, _work_dir: Path, _progress: OnProgress | None = None) -> CaseIndex:
        """Read the labels of the file; see `CaseSource`."""
        path = find_data(self.path)
        held = medmnist_of(path)
        patients = read_patients(find_data(self.patients)) if self.patients else {}
        cases: list[Case] = []
        labels: dict[str, int] = {}
        for origin, (_, label) in held.splits.items():
            # Several columns: a case is positive if any of its labels is.
            for row, value in enumerate(label.max(axis=1).tolist()):
                case_id = f"{held.name}-{origin}-{row:06d}"
                patient = patients.get(case_id, case_id)
                cases.append(Case(case_id, patient, "image", path=path, row=row, origin=origin))
                labels[case_id] = value
        one_column = held.splits["train"].labels.shape[1] == 1
        binary = one_column and len(held.label_names) <= 2
        return CaseIndex(
            name=held.name,
            cases=tuple(cases),
            labels=labels,
            label_names=held.label_names[-1:] if binary else held.label_names,
            fingerprint=held.sha256,
            notes=(*held.notes, *([] if patients else [NO_PATIENTS])),
            exclusive=one_column and not binary,
        )


def find_data(text: str) -> Path:
    """Expand a data path of the settings and check that it exists.

    Raises:
        SettingsError: if the path contains a variable that is not allowed or not set, or does not
            exist.
    """
    reasons = []
    filled = text
    for name in re.findall(r"\$\{([^}]*)\}", text):
        if name not in ROOT_VARIABLES:
            allowed = " and ".join(f"${{{n}}}" for n in ROOT_VARIABLES)
            reasons.append(f"${{{name}}} is not allowed here; a data path may contain {allowed}")
        elif not os.environ.get(name):
            reasons.append(f"the environment variable {name} is not set: export {name}=FOLDER")
        else:
            filled = filled.replace(f"${{{name}}}", os.environ[name])
    path = Path(filled).expanduser()
    if not reasons and not path.exists():
        reasons.append(f"{path}: no such file or folder; set the path to the folder of the data")
    if reasons:
        raise SettingsError(f"the data path {text!r} cannot be used", reasons)
    return path


def medmnist_of(path: Path) -> MedMnistSet:
    """Read a MedMNIST file; the two files read last are cached."""
    state = path.stat()
    return _read_medmnist_once(path, state.st_size, state.st_mtime_ns)


def images_of(cases: Sequence[Case]) -> MedMnistSplit:
    """Return the stored images [N, *spatial] and labels [N, K], in the order of the cases.

    Raises:
        ValueError: if a case is not an image.
    """
    rows: dict[tuple[Path, str], list[int]] = defaultdict(list)
    places: dict[tuple[Path, str], list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        if case.row is None:
            raise ValueError(f"expected image cases, got the scan {case.case_id!r}")
        rows[case.path, case.origin].append(case.row)
        places[case.path, case.origin].append(place)
    parts = [(_stored(path, origin), rows[path, origin]) for path, origin in rows]
    order = np.argsort(np.concatenate([places[key] for key in rows]))
    images = np.concatenate([stored.images[wanted] for stored, wanted in parts])[order]
    labels = np.concatenate([stored.labels[wanted] for stored, wanted in parts])[order]
    return MedMnistSplit(images, labels)


def _stored(path: Path, origin: str) -> MedMnistSplit:
    return {str(name): part for name, part in medmnist_of(path).splits.items()}[origin]


@lru_cache(maxsize=2)
def _read_medmnist_once(path: Path, _size: int, _changed: int) -> MedMnistSet:
    return read_medmnist(path)


def luna16_cases(luna: Luna16Set, *, name: str, patients: Mapping[str, str]) -> CaseIndex:
    """Return the cases of a data set in the LUNA16 layout.

    Args:
        luna: the data set.
        name: name of the data set in reports.
        patients: maps each seriesuid to a patient; empty: each scan counts as one patient.

    Raises:
        SeriesError: if a coordinate is outside its scan, or a scan has no patient.
    """
    grids = {uid: read_grid(path) for uid, path in luna.scan_paths.items()}
    if reasons := check_coordinates(luna, grids):
        raise SeriesError(f"{name}: points outside their scans", reasons)
    if patients and (missing := sorted(set(luna.scan_paths) - set(patients))):
        reasons = [f"{uid}: no row in the patients table" for uid in missing]
        raise SeriesError(f"{name}: scans without a patient", reasons)
    positive = {nodule.seriesuid for nodule in luna.nodules}
    cases = tuple(
        Case(
            uid, patients.get(uid, uid), "scan", path=path, origin=f"subset{luna.subset[uid]}",
            generator=luna.generator,
        )
        for uid, path in sorted(luna.scan_paths.items())
    )  # fmt: skip
    note = () if patients else ("the set names no patients: each scan counts as one",)
    return CaseIndex(
        name=name,
        cases=cases,
        nodules=tuple(luna.nodules),
        excluded=tuple(luna.excluded),
        candidates=tuple(luna.candidates),
        labels={case.case_id: int(case.case_id in positive) for case in cases},
        label_names=("nodule",),
        fingerprint=luna.fingerprint,
        notes=(*luna.notes, *note),
    )
