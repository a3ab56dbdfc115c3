"""Write crops of real LUNA16 nodules and of places beside them (24^3 mm) in MedMNIST's layout.

    python -m tests.bench.crops3d OUT [--phantoms FOLDER]

Needs MEDKD_DATA. Writes OUT/crops3d.npz, and OUT/patients.csv for `data.patients`. Present: a crop
around a nodule; absent: a crop of the same patch that is centred beside its nodule, so that both
kinds come from the same scans. Test is the first of the five folds by patient of `real_nodules.py`;
every sixth of the other patients is in val. With `--phantoms` (the output of
`medkd phantom --size region`), the crops of phantoms are written, for a student that begins there.
"""

from __future__ import annotations

import argparse
import csv
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from medkd.data.sampling import derive_seed
from medkd.io.scans import read_scan
from tests.bench.medmnist_layout import Part, write_set
from tests.bench.node21_layout import SHAPE, read_rows
from tests.real_data import data_root

EDGE, AWAY_MM, FOLDS = 24, 6.0, 5
LOW_HU, HIGH_HU = -1000.0, 400.0
Voxels = NDArray[np.float32]


class Crops:
    """Crops [EDGE, EDGE, EDGE] uint8 with label and patient, by part."""

    def __init__(self) -> None:
        self.images: dict[str, list[NDArray[np.uint8]]] = {"train": [], "val": [], "test": []}
        self.labels: dict[str, list[int]] = {part: [] for part in self.images}
        self.patients: dict[str, list[str]] = {part: [] for part in self.images}

    def add(self, part: str, patient: str, crop: Voxels, label: int) -> None:
        unit = np.clip((crop - LOW_HU) / (HIGH_HU - LOW_HU), 0, 1)
        self.images[part].append(np.round(unit * 255).astype(np.uint8))
        self.labels[part].append(label)
        self.patients[part].append(patient)

    def write(self, out: Path, name: str) -> None:
        """Write NAME.npz and patients.csv."""
        parts = {
            part: Part(np.stack(images), np.array(self.labels[part], np.uint8), self.patients[part])
            for part, images in self.images.items()
        }
        write_set(out, name, parts)


def cut(voxels: Voxels, center: Sequence[float]) -> Voxels | None:
    """Return the crop around a place in voxels; None if it leaves the array."""
    first = np.round(np.asarray(center) - (EDGE - 1) / 2).astype(int)
    if (first < 0).any() or (first + EDGE > voxels.shape).any():
        return None
    i, j, k = first
    return voxels[i : i + EDGE, j : j + EDGE, k : k + EDGE]


def place_beside(
    shape: Sequence[int], nodules: NDArray[np.float64], random: np.random.Generator
) -> NDArray[np.float64] | None:
    """Draw a centre more than AWAY_MM from the edge of every nodule [N, 4]: place and diameter."""
    half = EDGE / 2
    for _ in range(100):
        center = random.uniform(half, np.asarray(shape) - half)
        gaps = np.linalg.norm(nodules[:, :3] - center, axis=1) - nodules[:, 3] / 2
        if gaps.min() > AWAY_MM:
            return center
    return None


def add_both(
    crops: Crops,
    part: str,
    patient: str,
    voxels: Voxels,
    nodules: NDArray[np.float64],
    random: np.random.Generator,
) -> None:
    """Add a crop of each nodule, and as many crops beside them."""
    for nodule in nodules:
        if (crop := cut(voxels, nodule[:3])) is not None:
            crops.add(part, patient, crop, 1)
        beside = place_beside(voxels.shape, nodules, random)
        if beside is not None and (crop := cut(voxels, beside)) is not None:
            crops.add(part, patient, crop, 0)


def real_crops() -> Crops:
    """Return the crops of the packed nodules of LUNA16."""
    rows = read_rows(data_root())
    packed = lzma.decompress((data_root() / "luna16_nodules3d" / "patches.u8.xz").read_bytes())
    coded = np.frombuffer(packed, np.uint8).reshape(-1, *SHAPE)
    patches = np.cumsum(coded, axis=1, dtype=np.uint8)
    patients = sorted({row["patient_id"] for row in rows})
    order = np.random.default_rng(derive_seed(0, "folds")).permutation(len(patients))
    part_of = {patients[n]: _part(place) for place, n in enumerate(order.tolist())}
    random, crops = np.random.default_rng(0), Crops()
    for row in rows:
        voxels = patches[int(row["row"])].astype(np.float32).T * 8 - 1024
        place = [float(row[f"center_{axis}"]) for axis in "ijk"]
        diameter = float(row["diameter_mm"] or row["segmented_diameter_mm"])
        nodules = np.array([[*place, diameter]])
        add_both(crops, part_of[row["patient_id"]], row["patient_id"], voxels, nodules, random)
    return crops


def _part(place: int) -> str:
    if place % FOLDS == 0:
        return "test"
    return "val" if place % 6 == 1 else "train"


def phantom_scans(folder: Path) -> Iterator[tuple[str, Voxels, NDArray[np.float64]]]:
    """Yield name, voxels at 1 mm and nodules in voxels of the phantoms of a folder."""
    with (folder / "annotations.csv").open(encoding="utf-8", newline="") as stream:
        annotated = list(csv.DictReader(stream))
    for path in sorted(folder.glob("subset*/*.mhd")):
        scan = read_scan(path)
        voxels = zoom(scan.voxels_hu.astype(np.float32), scan.grid.spacing_mm, order=1)
        rows = [row for row in annotated if row["seriesuid"] == path.stem]
        world = np.array([[float(row[f"coord{axis}"]) for axis in "XYZ"] for row in rows])
        places = np.array([scan.grid.world_to_voxel(tuple(point)) for point in world])
        diameters = np.array([[float(row["diameter_mm"])] for row in rows])
        yield path.stem, voxels, np.hstack([places * scan.grid.spacing_mm, diameters])


def phantom_crops(folder: Path) -> Crops:
    """Return the crops of phantoms; every sixth scan is in val, every seventh in test."""
    random, crops = np.random.default_rng(0), Crops()
    for number, (name, voxels, nodules) in enumerate(phantom_scans(folder)):
        part = "test" if number % 7 == 0 else "val" if number % 6 == 0 else "train"
        add_both(crops, part, name, voxels, nodules, random)
    return crops


def main() -> None:
    """Write the crops, and say how many there are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--phantoms", type=Path)
    asked = parser.parse_args()
    crops = phantom_crops(asked.phantoms) if asked.phantoms else real_crops()
    crops.write(asked.out, "phantoms3d" if asked.phantoms else "crops3d")
    for part, labels in crops.labels.items():
        print(f"{part}: {sum(labels)} present, {len(labels) - sum(labels)} absent")  # noqa: T201


if __name__ == "__main__":
    main()
