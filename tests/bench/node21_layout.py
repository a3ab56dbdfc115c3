"""Writes the packed real nodules of LUNA16 in NODE21's layout, which `medkd index` reads.

    python -m tests.bench.node21_layout OUT --leave-out LIDC-IDRI-0001,LIDC-IDRI-0005
    medkd index OUT --out INDEX/index.csv --identity keep --patients OUT/patients.csv \
        --annotations $MEDKD_DATA/luna16/annotations.csv

MEDKD_DATA must hold `luna16_nodules3d`. HU have steps of 8, from -1024 to 1016, as they are packed.
Patches beyond the scan stay filled with -1024. `patients.csv` names the patient of each series.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its customary name

from medkd.errors import SettingsError
from medkd.files import replacing

SHAPE = (50, 50, 50)
AXES = ("x", "y", "z")

Row = dict[str, str]


def read_rows(data: Path) -> list[Row]:
    """Return the rows of the packed set's `index.csv`, in the order of its arrays."""
    with (data / "luna16_nodules3d" / "index.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def choose_rows(
    rows: Sequence[Row], *, only: Collection[str] = (), leave_out: Collection[str] = ()
) -> list[Row]:
    """Choose the rows of patients.

    Args:
        rows: of `read_rows`.
        only: the patients to keep; empty: all.
        leave_out: the patients to leave out.

    Raises:
        SettingsError: naming patients that the set does not have, or if no row is left.
    """
    known = {row["patient_id"] for row in rows}
    if unknown := sorted({*only, *leave_out} - known):
        raise SettingsError(
            "patients that the set does not have",
            [f"expected patients of its index.csv, got {', '.join(unknown)}"],
        )
    wanted = (set(only) or known) - set(leave_out)
    chosen = [row for row in rows if row["patient_id"] in wanted]
    if not chosen:
        raise SettingsError("no patient is left", ["choose others, or leave out fewer"])
    return chosen


def write_layout(data: Path, out: Path, rows: Sequence[Row], *, compress: bool = False) -> None:
    """Write a pair of `.mha` files for each row, and `patients.csv`; the folder appears when whole.

    Args:
        data: the folder of MEDKD_DATA.
        out: a new or empty folder.
        rows: of `choose_rows`.
        compress: compress the voxels.

    Raises:
        SettingsError: if `out` holds something, which would be lost.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"{out}: not an empty folder", ["give a new folder"])
    packed = data / "luna16_nodules3d"
    coded = _unpacked(packed / "patches.u8.xz")
    bits = _unpacked(packed / "masks.bits.xz")
    # Along z, each slice is stored as its difference from the slice before.
    values = np.cumsum(coded.reshape(-1, *SHAPE), axis=1, dtype=np.uint8)
    masks = np.unpackbits(bits)[: values.size].reshape(values.shape)
    with replacing(out) as folder:
        folder.mkdir()
        for row in rows:
            number = int(row["row"])
            voxels_hu = values[number].astype(np.int16) * 8 - 1024
            for role, voxels in (("dcm", voxels_hu), ("seg", masks[number])):
                path = folder / f"{row['seriesuid']}_{role}_{row['number']}.mha"
                _write_mha(path, voxels, row, compress=compress)
        _write_patients(folder / "patients.csv", rows)


def _unpacked(path: Path) -> np.ndarray[Any, Any]:
    return np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8)


def _write_mha(path: Path, voxels: np.ndarray[Any, Any], row: Row, *, compress: bool) -> None:
    """Write voxels [k, j, i] at 1 mm along the axes of LPS."""
    image = sitk.GetImageFromArray(voxels)
    image.SetOrigin([float(row[f"origin_{axis}_mm"]) for axis in AXES])
    sitk.WriteImage(image, str(path), useCompression=compress)


def _write_patients(path: Path, rows: Sequence[Row]) -> None:
    named = sorted({(row["seriesuid"], row["patient_id"]) for row in rows})
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([("seriesuid", "patient_id"), *named])


def main(words: Sequence[str] | None = None) -> None:
    """Convert the set of MEDKD_DATA."""
    parser = argparse.ArgumentParser(description="LUNA16 nodules in NODE21's layout.")
    parser.add_argument("out", type=Path, help="a new or empty folder")
    parser.add_argument("--only", default="", help="patients to keep, separated by commas")
    parser.add_argument("--leave-out", default="", help="patients to leave out")
    parser.add_argument("--compress", action="store_true", help="compress the voxels")
    given = parser.parse_args(words)
    data = Path(os.environ["MEDKD_DATA"])
    only, leave_out = (
        list(filter(None, text.split(","))) for text in (given.only, given.leave_out)
    )
    rows = choose_rows(read_rows(data), only=only, leave_out=leave_out)
    write_layout(data, given.out, rows, compress=given.compress)
    patients = len({row["patient_id"] for row in rows})
    sys.stdout.write(f"{len(rows)} patches of {patients} patients: {given.out}\n")


if __name__ == "__main__":
    main()
