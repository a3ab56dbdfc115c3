"""From the settings of a data set to its cases: one `CaseIndex` whatever the source.

LUNA16 in its official layout, phantoms written in the same layout, a MedMNIST file, or the INDEX
of a hospital's archive.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from medkd.data.archive_cases import ArchiveData, archive_index
from medkd.data.cases import Case, CaseIndex
from medkd.data.phantom import PhantomSettings, generator_stamp, write_phantom_set
from medkd.errors import SeriesError, SettingsError
from medkd.io.annotations import read_patients
from medkd.io.luna16 import Luna16Set, check_coordinates, read_luna16
from medkd.io.medmnist import MedMnistSet, MedMnistSplit, read_medmnist
from medkd.io.volume import read_grid
from medkd.provenance import sha256_of_text
from medkd.settings import InputPath, Settings

ROOT_VARIABLES = ("MEDKD_DATA", "LUNA16_ROOT")
"""The only environment variables that a root or path may name, as ${NAME}."""


class Luna16Data(Settings):
    """LUNA16, or any set in its official layout."""

    kind: Literal["luna16"] = "luna16"
    root: InputPath = Field(description="Folder with subset0..9 and the CSV files.")
    candidates: Literal["candidates_V2", "candidates"] = Field(
        "candidates_V2", description="Which file of candidates is used."
    )
    allow_partial: bool = Field(False, description="Leave out rows whose scan is absent.")
    patients: InputPath | None = Field(
        None, description="CSV `seriesuid,patient_id`; without it each scan counts as a patient."
    )


class PhantomData(PhantomSettings):
    """Phantoms in LUNA16's layout, written on first use."""

    kind: Literal["phantom"] = "phantom"
    candidates: Literal["candidates_V2", "candidates"] = Field(
        "candidates_V2", description="Which file of candidates is used."
    )


class MedMnistData(Settings):
    """A MedMNIST file, 2-D or 3-D, of any size."""

    kind: Literal["medmnist"] = "medmnist"
    path: InputPath = Field(description="The .npz file.")


AnySet = Luna16Data | PhantomData | MedMnistData | ArchiveData
DataSettings = Annotated[AnySet, Field(discriminator="kind")]


def build_index(
    settings: AnySet,
    *,
    work_dir: Path,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> CaseIndex:
    """Read what a data set holds; phantoms are written first if they are not there yet.

    Args:
        settings: which set.
        work_dir: where phantoms are written, below `data/`.
        workers: processes that write phantoms.
        progress: called with (phantoms written, phantoms in all).

    Raises:
        SettingsError: if a path names an environment variable that is unknown or not set, or
            does not exist.
        SeriesError: if the set is broken, with every reason.
    """
    if isinstance(settings, MedMnistData):
        return _medmnist_index(find_data(settings.path))
    if isinstance(settings, ArchiveData):
        return archive_index(settings, find_data(settings.index))
    if isinstance(settings, PhantomData):
        root = _phantom_root(settings, work_dir, workers=workers, progress=progress)
        luna = read_luna16(root, candidates=settings.candidates)
        return _luna16_index(luna, name=f"phantom, site {settings.site}", patients={})
    luna = read_luna16(
        find_data(settings.root),
        candidates=settings.candidates,
        allow_partial=settings.allow_partial,
    )
    patients = read_patients(find_data(settings.patients)) if settings.patients else {}
    return _luna16_index(luna, name="LUNA16 layout", patients=patients)


def find_data(text: str) -> Path:
    """Turn a root or path of the settings into an existing path.

    Raises:
        SettingsError: if it names a variable that is not allowed or not set, or nothing there.
    """
    reasons = []
    filled = text
    for name in re.findall(r"\$\{([^}]*)\}", text):
        if name not in ROOT_VARIABLES:
            allowed = " and ".join(f"${{{n}}}" for n in ROOT_VARIABLES)
            reasons.append(f"${{{name}}} is not allowed here; a data path may name {allowed}")
        elif not os.environ.get(name):
            reasons.append(f"the environment variable {name} is not set: export {name}=FOLDER")
        else:
            filled = filled.replace(f"${{{name}}}", os.environ[name])
    path = Path(filled).expanduser()
    if not reasons and not path.exists():
        reasons.append(f"{path}: no such file or folder; set the data path to where the set is")
    if reasons:
        raise SettingsError(f"the data path {text!r} cannot be used", reasons)
    return path


def medmnist_of(path: Path) -> MedMnistSet:
    """Read a MedMNIST file, or give the one just read."""
    state = path.stat()
    return _read_medmnist_once(path, state.st_size, state.st_mtime_ns)


def images_of(cases: Sequence[Case]) -> MedMnistSplit:
    """Return the stored images [N, *spatial] and labels [N, K] of image cases, in their order.

    Raises:
        ValueError: if a case is no image.
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


def label_count(held: MedMnistSet) -> int:
    """Return how many label outputs a MedMNIST set needs: 1 for two classes."""
    columns = held.splits["train"].labels.shape[1]
    return columns if columns > 1 or len(held.label_names) <= 2 else len(held.label_names)


def _medmnist_index(path: Path) -> CaseIndex:
    held = medmnist_of(path)
    cases: list[Case] = []
    labels: dict[str, int] = {}
    for origin, (_, label) in held.splits.items():
        # Several columns: a case is positive if any of its labels is.
        for row, value in enumerate(label.max(axis=1).tolist()):
            case_id = f"{held.name}-{origin}-{row:06d}"
            cases.append(Case(case_id, case_id, "image", path, row, origin))
            labels[case_id] = value
    two_classes = label_count(held) == 1
    return CaseIndex(
        name=held.name,
        cases=tuple(cases),
        nodules=(),
        excluded=(),
        candidates=(),
        labels=labels,
        label_names=held.label_names[-1:] if two_classes else held.label_names,
        fingerprint=held.sha256,
        notes=(*held.notes, "the set names no patients: each image counts as one"),
    )


def _phantom_root(
    settings: PhantomData,
    work_dir: Path,
    *,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Path:
    wanted = PhantomSettings(**settings.model_dump(exclude={"kind", "candidates"}))
    key = sha256_of_text(f"{generator_stamp()} {wanted.model_dump_json()}")[:8]
    root = work_dir / "data" / f"site_{settings.site}-{key}"
    if not (root / "phantom.json").is_file():  # written last, and the folder whole or not at all
        given = str(find_data(wanted.lidc)) if wanted.lidc else None
        wanted = wanted.model_copy(update={"lidc": given})
        write_phantom_set(root, wanted, workers=workers, progress=progress)
    return root


def _luna16_index(luna: Luna16Set, *, name: str, patients: Mapping[str, str]) -> CaseIndex:
    grids = {uid: read_grid(path) for uid, path in luna.scan_paths.items()}
    if reasons := check_coordinates(luna, grids):
        raise SeriesError(f"{name}: points outside their scans", reasons)
    if patients and (missing := sorted(set(luna.scan_paths) - set(patients))):
        reasons = [f"{uid}: no row in the table of patients" for uid in missing]
        raise SeriesError(f"{name}: scans without a patient", reasons)
    positive = {nodule.seriesuid for nodule in luna.nodules}
    cases = tuple(
        Case(
            uid, patients.get(uid, uid), "scan", path, None, f"subset{luna.subset[uid]}",
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
