"""A tiny archive behind an INDEX: radiographs as PNG, phantoms as volumes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from medkd.index.case import Case
from medkd.index.case_store import CaseFiles, write_case_store
from medkd.index.pseudonyms import open_pseudonyms, private_folder_of
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.io.file_ref import FileRef
from medkd.io.metaimage import write_mhd
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.types import Nodule

READY = Case("", "", "image", "ready", view="PA")


def write_archive(
    folder: Path,
    cases: Iterable[tuple[Case, tuple[Path, ...]]],
    *,
    nodules: Iterable[Nodule] = (),
    labels: Iterable[CaseLabel] = (),
) -> Path:
    """Write an INDEX over files that are there; return index.csv."""
    index = folder / "index.csv"
    folder.mkdir(parents=True, exist_ok=True)
    open_pseudonyms(private_folder_of(index), "pseudonymise")
    rows = list(cases)
    known = tuple(case for case, _ in rows)
    write_index(index, ArchiveIndex(known, tuple(nodules), tuple(labels)))
    stored = [
        (
            case,
            CaseFiles(
                "image" if case.kind == "image" else "volume",
                tuple(FileRef(path, label=f"f{n:06d}") for n, path in enumerate(paths)),
            ),
        )
        for case, paths in rows
    ]
    write_case_store(index, stored)
    return index


def write_xray_archive(
    folder: Path,
    *,
    patients: int = 24,
    values: tuple[int | None, ...] = (1, 0),
    masses: tuple[int | None, ...] = (0,),
) -> Path:
    """Write two images a patient: a bright blob is a nodule, a bright band a mass.

    The labels of patients go round `values` (nodule) and `masses`. The first case is refused, the
    second is a lateral view.
    """
    random = np.random.default_rng(3)
    cases, labels = [], []
    for number in range(2 * patients):
        value = values[(number // 2) % len(values)]
        pixels = random.normal(90, 25, (20, 16))
        if value:
            pixels[6:14, 5:11] += 90
        mass = masses[(number // 2) % len(masses)]
        if mass:
            pixels[16:] += 90
        path = folder / "DOE^JANE" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        case = replace(
            READY, case_id=f"c{number:03d}", patient_id=f"p{number // 2:02d}", content=f"d{number}"
        )
        if number == 0:
            case = replace(case, status="not_analysed", reasons=("colour: channels differ",))
        if number == 1:
            case = replace(case, view="LL")
        cases.append((case, (path,)))
        labels.append(CaseLabel(case.case_id, "Nodule", value, "table"))
        labels.append(CaseLabel(case.case_id, "Mass", mass, "table"))
    return write_archive(folder / "work", cases, labels=labels)


def write_scan_archive(folder: Path, *, scans: int = 3) -> Path:
    """Write phantoms with their nodules; after them a refused series and one nobody read."""
    settings = PhantomSettings(site="b", nodules_per_scan="2-3")
    cases, nodules = [], []
    for number in range(scans + 2):
        made = make_phantom(settings, number % scans)
        path = folder / "scans" / f"{number}.mhd"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mhd(made.scan, path)
        case = replace(
            READY, case_id=f"s{number}", patient_id=f"p{number}", kind="scan", view="",
            content=f"d{number}", synthetic=True, allowed=("coarse_voxels: 2 mm, limit 1.2 mm",),
        )  # fmt: skip
        if number == scans:
            reasons = ("missing_slices: after position -120.0 mm",)
            case = replace(case, status="not_analysed", reasons=reasons)
        cases.append((case, (path, path.with_suffix(".raw"))))
        if number < scans:
            found = (*made.nodules, *made.excluded)
            nodules += [replace(nodule, seriesuid=case.case_id) for nodule in found]
    return write_archive(folder / "work", cases, nodules=nodules)
