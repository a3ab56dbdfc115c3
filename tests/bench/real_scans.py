"""What the shipped models find on whole real scans that they never saw.

    python -m tests.bench.real_scans WORK [--pictures FOLDER]

prints JSON. WORK keeps unpacked scans. Needs MEDKD_DATA. The thresholds are those in the models,
frozen on phantoms. FOLDER gets a picture of the first ten marks of each LIDC scan.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from medkd.detect import detect_nodules
from medkd.detect.thumbnails import draw_thumbnails
from medkd.io.luna16_tables import read_annotations
from medkd.io.pictures import SIDE_PX
from medkd.io.volume import read_volume
from medkd.models.package import FP_PER_SCAN, LoadedModel, load_model, whole_scan_point
from medkd.types import Candidate, Nodule, Scan
from tests.real_data import data_root, read_box, read_lidc

MODELS = ("ct-nodule-source", "ct-nodule-small")
TUMOUR = "tumour (mask)"


@dataclass(frozen=True, slots=True)
class Finding:
    """An annotated finding; `rank` counts from 1 (None: not among the marks)."""

    name: str
    diameter_mm: float
    rank: int | None
    probability: float | None
    found_diameter_mm: float | None


def real_scans(work: Path) -> Iterator[tuple[str, Scan, list[Nodule]]]:
    """Yield name, scan and annotated nodules of each scan."""
    nodules = read_annotations(data_root() / "luna16" / "annotations.csv")
    for patient in ("LIDC-IDRI-0001", "LIDC-IDRI-0005"):
        scan = read_lidc(patient, work)
        yield patient, scan, [n for n in nodules if n.seriesuid == scan.seriesuid]
    folder = data_root() / "ct_lung1"
    scan = read_volume(folder / "lung1_image.nrrd")
    yield "ct_lung1", scan, [tumour_of(folder / "lung1_label.nrrd", scan)]
    for name in ("normal001", "cap001"):
        yield name, read_box(name), []


def tumour_of(label: Path, scan: Scan) -> Nodule:
    """Return the tumour of a mask: its centroid and the diameter of a sphere of its volume."""
    mask = read_volume(label).voxels_hu > 0
    x, y, z = scan.grid.voxel_to_world(np.argwhere(mask).mean(axis=0)[None])[0].tolist()
    volume = float(mask.sum() * np.prod(scan.grid.spacing_mm))
    return Nodule(scan.seriesuid, (x, y, z), 2 * (3 * volume / (4 * np.pi)) ** (1 / 3))


def look_up(nodule: Nodule, marks: Sequence[Candidate]) -> Finding:
    """Return the first mark within the radius of a nodule, as LUNA16 counts a hit."""
    for rank, mark in enumerate(marks, start=1):
        apart = np.linalg.norm(np.subtract(mark.center_mm, nodule.center_mm))
        if apart < nodule.diameter_mm / 2:
            return Finding("", nodule.diameter_mm, rank, mark.score, mark.diameter_mm)
    return Finding("", nodule.diameter_mm, None, None, None)


def measure(model: LoadedModel, name: str, scan: Scan, nodules: Sequence[Nodule]) -> dict[str, Any]:
    """Search one scan and count its marks at each threshold."""
    result = detect_nodules(scan, model)
    points = model.info.operating_points
    above = {
        f"{rate:g}": sum(
            mark.score >= points[whole_scan_point(rate)].threshold for mark in result.candidates
        )
        for rate in FP_PER_SCAN
    }
    found = [asdict(look_up(nodule, result.candidates)) for nodule in nodules]
    for row in found:
        row["name"] = TUMOUR if name == "ct_lung1" else "LUNA16 nodule"
    return {
        "status": result.status,
        "seconds": result.seconds,
        "findings": found,
        "marks_above": above,
        "best": [round(mark.score, 4) for mark in result.candidates[:10]],
    }


def draw(scan: Scan, marks: Sequence[Candidate], nodules: Sequence[Nodule], path: Path) -> None:
    """Draw the first ten marks in two rows; a mark on a nodule has a white ring."""
    sheet = Image.new("L", (5 * (SIDE_PX + 4), 2 * (SIDE_PX + 18)), 255)
    pen = ImageDraw.Draw(sheet)
    for number, text in enumerate(draw_thumbnails(scan, marks)):
        left, top = number % 5 * (SIDE_PX + 4), number // 5 * (SIDE_PX + 18)
        sheet.paste(Image.open(io.BytesIO(base64.b64decode(text))), (left, top + 14))
        hit = any(look_up(nodule, [marks[number]]).rank for nodule in nodules)
        words = f"{number + 1}: p {marks[number].score:.2f}{', nodule' if hit else ''}"
        pen.text((left + 2, top + 1), words, fill=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for model_name in MODELS:
        model = load_model(model_name)
        rows[model_name] = {"weights_sha256": model.info.weights_sha256, "scans": {}}
        for name, scan, nodules in real_scans(given.work):
            rows[model_name]["scans"][name] = measure(model, name, scan, nodules)
            if given.pictures and name.startswith("LIDC") and model_name == MODELS[1]:
                marks = detect_nodules(scan, model).candidates
                draw(scan, marks, nodules, given.pictures / f"marks-{name}.png")
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
