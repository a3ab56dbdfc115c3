"""Write the packed real LUNA16 candidates (2-D, 50 x 50 pixels) in MedMNIST's layout.

    python -m tests.bench.candidates2d OUT

Needs MEDKD_DATA. Writes OUT/candidates2d.npz, and OUT/patients.csv for `data.patients`. The series
of a candidate is not known, but rows of `candidates.csv` that lie together are of one series. So
the rows are cut into 20 contiguous blocks, which a fixed shuffle gives to train (12), validation
(3) and test (5); at each cut between two parts, `GAP` rows are left out. Runs of `RUN` rows, about
as many as a series has, stand for patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tests.bench.medmnist_layout import Part, write_set
from tests.real_data import data_root

BLOCKS = {"train": 12, "val": 3, "test": 5}
GAP = 8
RUN = 7


def split_rows(count: int) -> dict[str, list[int]]:
    """Return the positions of each part; positions are those of rows sorted by candidate_row."""
    names = [name for name, blocks in BLOCKS.items() for _ in range(blocks)]
    order = np.random.default_rng(0).permutation(len(names))
    home = [names[place] for place in order]
    edges = np.linspace(0, count, len(names) + 1).astype(int)
    parts: dict[str, list[int]] = {name: [] for name in BLOCKS}
    for block, name in enumerate(home):
        first = edges[block] + (GAP if block and home[block - 1] != name else 0)
        parts[name] += range(first, edges[block + 1])
    return parts


def write_candidates(out: Path) -> None:
    """Write the set and the table of its patients."""
    with np.load(data_root() / "luna16_candidates2d" / "patches.npz") as packed:
        order = np.argsort(packed["candidate_row"], kind="stable")
        images, labels = packed["image"][order], packed["label"][order]
    parts = {
        part: Part(images[places], labels[places], [f"run-{place // RUN:04d}" for place in places])
        for part, places in split_rows(len(labels)).items()
    }
    write_set(out, "candidates2d", parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    write_candidates(parser.parse_args().out)


if __name__ == "__main__":
    main()
