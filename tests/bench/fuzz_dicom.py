"""Seeded mutations of DICOM series: what the reader makes of broken headers, files and streams.

    python -m tests.bench.fuzz_dicom --count 10000 --out tests/bench/results/fuzz_dicom.json

One file of a small series is mutated: bits and bytes of its header, its structure (cut, bytes
taken out, put in, doubled, zeroed, the file emptied, copied or lost), or its compressed pixels.
Bits inside uncompressed pixel data are left alone. Each case is read in a child process with 10 s
and 2 GiB. The outcome is one of

refused            SeriesError, every reason with a code of the closed list
equal              geometry (.1 mm at the corners) and voxels of the original
reported           same geometry, other voxels, and the scan's notes name what explains them: slices
                   that differ in rescale or padding (each slice has its own, as DICOM allows), a
                   value under a wrong VR, or bits above BitsStored that were left out
decoded_otherwise  a compressed stream was changed and decodes cleanly to other voxels

and must never be one of

wrong_geometry, wrong_voxels, unworded (another error, or a reason without a code), crash, hang

A single file that holds the whole volume (enhanced CT) can be changed into another valid object,
which no reader can tell: its header mutations count apart as other_object where geometry or voxels
differ.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.dicom.codes import CODES
from medkd.io.dicom.gate import GateSettings
from medkd.io.dicom.header import read_headers
from medkd.io.dicom.series import read_series
from medkd.io.file_ref import FileRef
from medkd.types import Scan
from tests.bench.fuzzing import Guarded, OneCase, changed_bytes, restructured, run_cases
from tests.io.dicom_helper import SYNTAXES, write_encoded_series, write_enhanced_ct
from tests.io.volume_helper import oblique_grid

GOOD = ("refused", "equal", "reported", "decoded_otherwise", "other_object")
BAD = ("wrong_geometry", "wrong_voxels", "unworded", "crash", "hang")
SLICES = 12
TOLD = ("differ between slices", " has VR ", "bits above BitsStored")
"""Words of the notes that explain other voxels."""


@dataclass(frozen=True)
class Series:
    """A valid series: its files, where the pixels of each begin, and what it holds."""

    name: str
    files: tuple[Path, ...]
    pixels_at: tuple[int, ...]
    ends: tuple[int, ...]
    compressed: bool
    whole: bool
    scan: Scan


@dataclass(frozen=True)
class Mutation:
    """New content of one file (None: lost), copied under another name or not, and where."""

    number: int
    content: bytes | None
    place: str
    doubled: bool = False


def body(grid: VoxelGrid) -> np.ndarray:
    """A bright tube that leans through air, so that every slice differs from the next."""
    i, j, k = np.indices(grid.shape)
    inside = np.hypot(i - 16 - k / 2, j - 14 + k / 3) < 6 + k / 4
    noise = np.random.default_rng(7).integers(-20, 20, grid.shape)
    return (np.where(inside, 40, -900) + noise).astype(np.int16)


def corpus(folder: Path) -> list[Series]:
    """Write the series that are mutated: one in each transfer syntax, without meta, enhanced."""
    grid = oblique_grid((36, 32, SLICES))
    scan = Scan("1.2.826.0.1.3680043.8.498.9", body(grid), grid, "p")
    extra = {
        "PixelPaddingValue": 63536, "InstitutionName": "Hospital", "StudyDate": "20200101",
        "ConvolutionKernel": "B30f", "KVP": "120",
    }  # fmt: skip
    found = []
    for syntax in SYNTAXES:
        home = folder / syntax
        write_encoded_series(scan, home, syntax=syntax, extra=extra)
        found.append(_series(syntax, home, scan))
    for syntax in ("explicit", "implicit"):
        home = folder / f"headless_{syntax}"
        write_encoded_series(scan, home, syntax=syntax, extra=extra)
        for file in home.iterdir():
            content = file.read_bytes()
            file.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
        found.append(_series(home.name, home, scan))
    for syntax in ("explicit", "rle"):
        write_enhanced_ct(folder / f"enhanced_{syntax}" / "E", scan, syntax=syntax)
        found.append(_series(f"enhanced_{syntax}", folder / f"enhanced_{syntax}", scan))
    return found


def _series(name: str, folder: Path, scan: Scan) -> Series:
    files = tuple(sorted(folder.iterdir()))
    compressed = not name.endswith(("explicit", "implicit"))
    starts = tuple(_pixels_at(file, name) for file in files)
    heights = [
        h.number("InstanceNumber") or 0 for h in read_headers(list(map(FileRef, files))).headers
    ]
    ends = (int(np.argmin(heights)), int(np.argmax(heights))) if len(files) > 1 else (0,)
    return Series(name, files, starts, ends, compressed, name.startswith("enhanced"), scan)


def _pixels_at(file: Path, name: str) -> int:
    if name == "deflated":  # everything behind the file meta is one compressed stream
        meta = pydicom.filereader.read_file_meta_info(file)
        return int(meta.FileMetaInformationGroupLength) + 144
    return read_headers([FileRef(file)]).headers[0].pixels.start


def mutate(series: Series, rng: np.random.Generator) -> Mutation:
    """Draw a mutation of one file."""
    number = int(rng.integers(len(series.files)))
    content = bytearray(series.files[number].read_bytes())
    start = series.pixels_at[number]
    draw = rng.random()
    if draw < 0.08:
        return _of_file(series, number, content, rng)
    if draw < 0.4:
        return Mutation(number, restructured(bytes(content), rng), "structure")
    in_stream = series.compressed and draw > 0.7
    low, high = (start, len(content)) if in_stream else (0, start)
    changed = changed_bytes(bytes(content), rng, low, high)
    return Mutation(number, changed, "stream" if in_stream else "header")


def _of_file(series: Series, number: int, content: bytearray, rng: np.random.Generator) -> Mutation:
    """Lose, empty or copy a file, or put another's content in its place."""
    kind = int(rng.integers(4))
    if kind == 0 and number not in series.ends:
        # That the first or last slice is lost cannot be known: only inner ones are lost.
        return Mutation(number, None, "file")
    if kind == 1:
        return Mutation(number, b"", "file")
    if kind == 2:
        return Mutation(number, bytes(content), "file", doubled=True)
    other = int(rng.integers(len(series.files)))
    return Mutation(number, series.files[other].read_bytes(), "file")


def judge(
    series: Series, mutation: Mutation, folder: Path, gate: GateSettings | None
) -> tuple[str, str]:
    """Read a mutated series: outcome, and the codes of the reasons or what went wrong."""
    refs = [FileRef(file) for file in series.files]
    if mutation.content is None:
        del refs[mutation.number]
    else:
        changed = folder / "changed"
        changed.write_bytes(mutation.content)
        if mutation.doubled:
            refs.append(FileRef(changed))
        else:
            refs[mutation.number] = FileRef(changed)
    try:
        scan = read_series(refs, gate=gate)
    except SeriesError as error:
        codes = sorted({reason.partition(":")[0] for reason in error.reasons})
        worded = bool(codes) and set(codes) <= set(CODES)
        return ("refused" if worded else "unworded"), "+".join(codes)
    except Exception as error:  # noqa: BLE001  # what the fuzzing looks for
        return "unworded", f"{type(error).__name__}: {error}"[:200]
    return _compared(series, mutation, scan)


def _compared(series: Series, mutation: Mutation, scan: Scan) -> tuple[str, str]:
    truth = series.scan
    single_object = series.whole and mutation.place != "stream"
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in truth.grid.shape])).reshape(3, -1).T
    same_place = scan.grid.shape == truth.grid.shape and np.allclose(
        scan.grid.voxel_to_world(corners), truth.grid.voxel_to_world(corners), atol=0.1
    )
    if not same_place:
        return ("other_object" if single_object else "wrong_geometry"), str(scan.grid)
    if np.array_equal(scan.voxels_hu, truth.voxels_hu):
        return "equal", ""
    if any(words in note for note in scan.notes for words in TOLD):
        return "reported", ""
    if series.compressed and mutation.place in ("stream", "structure"):
        return "decoded_otherwise", ""
    if single_object:
        return "other_object", ""
    return "wrong_voxels", str(np.unique(np.argwhere(scan.voxels_hu != truth.voxels_hu)[:, 2]))


def prepare(folder: Path) -> OneCase:
    """Make the corpus in a folder; return what draws and judges one case."""
    every = corpus(folder / "corpus")
    return lambda seed: one_case(every, seed, folder)


def one_case(every: list[Series], seed: tuple[int, int], folder: Path) -> tuple[str, str, str]:
    """Draw and judge case `seed`: name of the series and place of the mutation, outcome, detail."""
    rng = np.random.default_rng(seed)
    series = every[int(rng.integers(len(every)))]
    mutation = mutate(series, rng)
    gate = GateSettings(min_slices=2) if rng.random() < 0.5 else None
    outcome, detail = judge(series, mutation, folder, gate)
    return f"{series.name}/{mutation.place}", outcome, detail


def fuzz(
    count: int, seed: int, folder: Path, report: Callable[[int], None] = lambda done: None
) -> dict[str, object]:
    """Read `count` mutated series; return the counts by outcome, and every bad case."""
    found = run_cases(count, seed, Guarded(folder, prepare), bad=BAD, report=report)
    return {
        **found,
        "python": platform.python_version(), "numpy": np.__version__,
        "pydicom": pydicom.__version__,
    }  # fmt: skip


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the DICOM reader.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-dicom-"))
    try:
        found = fuzz(given.count, given.seed, folder, lambda done: done % 1000 or print(done))  # noqa: T201  # progress
    finally:
        shutil.rmtree(folder)
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
