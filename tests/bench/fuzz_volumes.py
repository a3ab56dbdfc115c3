"""Seeded mutations of volume files: what the readers make of broken headers, files and streams.

    python -m tests.bench.fuzz_volumes --count 3000 --out tests/bench/results/fuzz_volumes.json

`count` cases of each format: MHD (raw, zraw, big-endian, LIST, pattern, .mha plain and compressed),
NRRD (raw, gzip, bzip2, detached, detached LIST) and NIfTI (plain, gzip, big-endian, scaled,
NIfTI-2). The files of the corpus are written by SimpleITK and nibabel where those can write them.
One file of a volume is mutated: bits and bytes of its header, its structure (cut, bytes taken out,
put in, doubled, appended, set to 0 or copied from elsewhere), its compressed stream, or the file as
a whole (lost, emptied, replaced by another). Each case is read in a child process with 10 s and
2 GiB. The outcome is one of

refused       SeriesError, every reason with a code of the closed list
equal         geometry (.1 mm at the corners) and voxels of the original
noted         something differs, and a note of the scan says it: forms of a NIfTI that differ by
              less than .5 mm, or a scaling of its values
raw_pixels    nothing but bytes of voxels that are stored without compression changed: none of the
              three formats has a checksum for them
other_object  the header now states another valid volume, as when a digit of ElementSpacing changes,
              which no reader can tell. It counts only if bytes of the header changed and an
              independent reader (SimpleITK, nibabel for NIfTI) finds the same geometry and voxels

and must never be one of

wrong_geometry, wrong_voxels, unworded (another error, a reason without a code, or a refusal that
hides an error of the reader itself), crash, hang
"""

from __future__ import annotations

import argparse
import bz2
import json
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813  # its customary name

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid, lps_to_ras
from medkd.io.dicom.codes import CODES
from medkd.io.volume import read_volume
from medkd.types import Scan
from tests.bench.fuzzing import Guarded, OneCase, changed_bytes, restructured, run_cases
from tests.io.volume_helper import oblique_grid

FORMATS = ("mhd", "nrrd", "nifti")
GOOD = ("refused", "equal", "noted", "raw_pixels", "other_object")
BAD = ("wrong_geometry", "wrong_voxels", "unworded", "crash", "hang")
EXPLAINING = ("differ by up to", "x the stored values", "are ignored: stored values are HU")
OWN_FAULTS = (TypeError, IndexError, KeyError, AttributeError, AssertionError, UnicodeError)
SHAPE = (18, 16, 12)


@dataclass(frozen=True)
class Volume:
    """A valid volume: the file that is opened first, what follows it, and what it holds.

    `header_bytes` of the first file are its header; the rest of it, and the other files, are
    voxels, `packed` or not.
    """

    name: str
    files: tuple[Path, ...]
    header_bytes: int
    packed: bool
    scan: Scan


@dataclass(frozen=True)
class Mutation:
    """New content of one file (None: lost), and where it was changed."""

    number: int
    content: bytes | None
    place: str


def voxels_of(grid: VoxelGrid) -> np.ndarray:
    """A bright tube that leans through air, so that every slice differs from the next."""
    i, j, k = np.indices(grid.shape)
    inside = np.hypot(i - 8 - k / 3, j - 7 + k / 4) < 4 + k / 5
    noise = np.random.default_rng(7).integers(-20, 20, grid.shape)
    return (np.where(inside, 40, -900) + noise).astype(np.int16)


def corpus(kind: str, folder: Path) -> list[Volume]:
    """Write the volumes of one format that are mutated."""
    grid = oblique_grid(SHAPE)
    voxels = voxels_of(grid)
    makers = {"mhd": _write_mhds, "nrrd": _write_nrrds, "nifti": _write_niftis}
    found = []
    for name, files in makers[kind](folder, voxels, grid).items():
        scan = read_volume(files[0])
        assert np.array_equal(scan.voxels_hu, voxels), name
        assert np.allclose(scan.grid.affine_lps_mm, grid.affine_lps_mm, atol=1e-3), name
        assert independent_agrees(files[0], scan), name
        content = files[0].read_bytes()
        packed = files[0].suffix == ".gz" or any(w in name for w in ("zraw", "gzip", "bzip2"))
        found.append(Volume(name, files, _header_bytes(content, files), packed, scan))
    return found


def _header_bytes(content: bytes, files: tuple[Path, ...]) -> int:
    if files[0].name.endswith(".nii.gz"):
        return 0
    if files[0].suffix == ".nii":
        return 544 if content[:2] in (b"\x1c\x02", b"\x02\x1c") else 352
    end = {".mha": b"LOCAL\n", ".nrrd": b"\n\n"}.get(files[0].suffix, b"")
    return content.index(end) + len(end) if len(files) == 1 else len(content)


def _image(voxels: np.ndarray, grid: VoxelGrid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.origin_mm.tolist())
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def _fresh(folder: Path, name: str) -> Path:
    (folder / name).mkdir(parents=True)
    return folder / name


def _write_mhds(folder: Path, voxels: np.ndarray, grid: VoxelGrid) -> dict[str, tuple[Path, ...]]:
    found = {}
    for name, file in (
        ("raw", "a.mhd"),
        ("zraw", "a.mhd"),
        ("mha", "a.mha"),
        ("mha_zraw", "a.mha"),
    ):
        home = _fresh(folder, name)
        sitk.WriteImage(_image(voxels, grid), str(home / file), useCompression="zraw" in name)
        found[name] = (home / file, *sorted(p for p in home.iterdir() if p.name != file))
    text = found["raw"][0].read_text()
    slices = [voxels[:, :, k].T.tobytes() for k in range(voxels.shape[2])]
    names = [f"s{k:02d}.raw" for k in range(len(slices))]
    for name, stated in (
        ("list", "LIST\n" + "\n".join(names) + "\n"),
        ("pattern", "s%02d.raw 0 11 1"),
    ):
        home = _fresh(folder, name)
        (home / "a.mhd").write_text(text.replace("a.raw", stated))
        for file, content in zip(names, slices, strict=True):
            (home / file).write_bytes(content)
        found[name] = (home / "a.mhd", *sorted(home.glob("*.raw")))
    home = _fresh(folder, "big_endian")
    (home / "a.mhd").write_text(text.replace("MSB = False", "MSB = True"))
    (home / "a.raw").write_bytes(voxels.T.astype(">i2").tobytes())
    found["big_endian"] = (home / "a.mhd", home / "a.raw")
    return found


def _write_nrrds(folder: Path, voxels: np.ndarray, grid: VoxelGrid) -> dict[str, tuple[Path, ...]]:
    found = {}
    for name in ("raw", "gzip"):
        path = _fresh(folder, name) / "a.nrrd"
        sitk.WriteImage(_image(voxels, grid), str(path), useCompression=name == "gzip")
        found[name] = (path,)
    head, _, _ = found["raw"][0].read_bytes().partition(b"\n\n")
    content = voxels.T.tobytes()
    path = _fresh(folder, "bzip2") / "a.nrrd"
    packed = bz2.compress(content)
    path.write_bytes(head.replace(b"encoding: raw", b"encoding: bzip2") + b"\n\n" + packed)
    found["bzip2"] = (path,)
    home = _fresh(folder, "detached")
    (home / "a.nrrd").write_bytes(head + b"\nbyte skip: 5\ndata file: a.raw\n")
    (home / "a.raw").write_bytes(b"12345" + content)
    found["detached"] = (home / "a.nrrd", home / "a.raw")
    home = _fresh(folder, "detached_list")
    names = [f"s{k:02d}.raw" for k in range(voxels.shape[2])]
    listed = "".join(f"{name}\n" for name in names).encode()
    (home / "a.nrrd").write_bytes(head + b"\ndata file: LIST\n" + listed)
    for k, name in enumerate(names):
        (home / name).write_bytes(voxels[:, :, k].T.tobytes())
    found["detached_list"] = (home / "a.nrrd", *(home / name for name in names))
    return found


def _write_niftis(folder: Path, voxels: np.ndarray, grid: VoxelGrid) -> dict[str, tuple[Path, ...]]:
    affine = lps_to_ras(grid.affine_lps_mm)
    found = {}
    for name in ("plain", "gzip", "big_endian", "scaled", "nifti2"):
        path = _fresh(folder, name) / f"a.nii{'.gz' if name == 'gzip' else ''}"
        kind = nibabel.Nifti2Image if name == "nifti2" else nibabel.Nifti1Image
        header = kind.header_class(endianness=">" if name == "big_endian" else "<")
        header.set_data_dtype("i2")
        stored = voxels - 7 if name == "scaled" else voxels
        image = kind(stored.astype(np.int16), affine, header)
        image.header.set_xyzt_units("mm", "sec")
        image.set_qform(affine, 1)
        image.set_sform(affine, 1)
        nibabel.save(image, path)
        if name == "scaled":
            content = bytearray(path.read_bytes())
            content[112:120] = np.array([1, 7], "<f4").tobytes()  # scl_slope, scl_inter
            path.write_bytes(bytes(content))
        found[name] = (path,)
    return found


def mutate(volume: Volume, rng: np.random.Generator) -> Mutation:
    """Draw a mutation of one file."""
    draw = rng.random()
    # A header among many slices is not left to chance.
    number = 0 if draw < 0.5 else int(rng.integers(len(volume.files)))
    content = volume.files[number].read_bytes()
    header = volume.header_bytes if number == 0 else 0
    if draw < 0.4 and header:
        return Mutation(number, changed_bytes(content, rng, 0, header), "header")
    if draw < 0.47:
        return _of_file(volume, number, rng)
    if draw > 0.8 and volume.packed and header < len(content):
        return Mutation(number, changed_bytes(content, rng, header, len(content)), "stream")
    if rng.random() < 0.3:
        return Mutation(number, _overwritten(content, rng), "structure")
    return Mutation(number, restructured(content, rng), "structure")


def _of_file(volume: Volume, number: int, rng: np.random.Generator) -> Mutation:
    """Lose or empty a file, or put another's content in its place."""
    kind = int(rng.integers(3))
    if kind == 0:
        return Mutation(number, None, "file")
    if kind == 1:
        return Mutation(number, b"", "file")
    other = int(rng.integers(len(volume.files)))
    return Mutation(number, volume.files[other].read_bytes(), "file")


def _overwritten(content: bytes, rng: np.random.Generator) -> bytes:
    """Set a run of bytes to 0, or copy it from elsewhere; the size stays."""
    size = min(int(rng.choice([4, 16, 64, 512])), len(content))
    at, start = (int(n) for n in rng.integers(0, len(content) - size + 1, 2))
    new = bytes(size) if rng.random() < 0.5 else content[start : start + size]
    return content[:at] + new + content[at + size :]


def judge(volume: Volume, mutation: Mutation) -> tuple[str, str]:
    """Read a mutated volume: outcome, and the codes of the reasons or what went wrong."""
    file = volume.files[mutation.number]
    original = file.read_bytes()
    try:
        if mutation.content is None:
            file.unlink()
        else:
            file.write_bytes(mutation.content)
        return _judged(volume, mutation, original)
    finally:
        file.write_bytes(original)


def _judged(volume: Volume, mutation: Mutation, original: bytes) -> tuple[str, str]:
    try:
        scan = read_volume(volume.files[0])
    except SeriesError as error:
        codes = sorted({reason.partition(":")[0] for reason in error.reasons})
        worded = bool(codes) and set(codes) <= set(CODES)
        if isinstance(error.__cause__, OWN_FAULTS):
            return "unworded", f"{error.__cause__!r}"[:200]
        return ("refused" if worded else "unworded"), "+".join(codes)
    except Exception as error:  # noqa: BLE001  # what the fuzzing looks for
        return "unworded", f"{type(error).__name__}: {error}"[:200]
    return _compared(volume, mutation, scan, original)


def _compared(volume: Volume, mutation: Mutation, scan: Scan, original: bytes) -> tuple[str, str]:
    truth = volume.scan
    same_place = _same_place(scan.grid, truth.grid)
    if same_place and np.array_equal(scan.voxels_hu, truth.voxels_hu):
        return "equal", ""
    if any(word in note for note in set(scan.notes) - set(truth.notes) for word in EXPLAINING):
        return "noted", ""
    header = volume.header_bytes if mutation.number == 0 else 0
    content = mutation.content or b""
    if same_place and _only_raw(volume, original, content, header):
        return "raw_pixels", ""
    if content[:header] != original[:header] and independent_agrees(volume.files[0], scan):
        return "other_object", ""
    if not same_place:
        return "wrong_geometry", str(scan.grid)
    return "wrong_voxels", str(np.unique(np.argwhere(scan.voxels_hu != truth.voxels_hu)[:, 2]))


def _same_place(grid: VoxelGrid, other: VoxelGrid) -> bool:
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in other.shape])).reshape(3, -1).T
    return grid.shape == other.shape and np.allclose(
        grid.voxel_to_world(corners), other.voxel_to_world(corners), atol=0.1
    )


def _only_raw(volume: Volume, original: bytes, content: bytes, header: int) -> bool:
    same_size = len(content) == len(original)
    return not volume.packed and same_size and content[:header] == original[:header]


def independent_agrees(path: Path, scan: Scan) -> bool:
    """Say whether another reader finds the same volume in a file."""
    try:
        if ".nii" in path.suffixes:
            image = nibabel.load(path)
            affine, voxels = lps_to_ras(image.affine), np.asarray(image.dataobj)
        else:
            read = sitk.ReadImage(str(_for_itk(path)))
            voxels = sitk.GetArrayFromImage(read).T
            affine = np.eye(4)
            affine[:3, :3] = np.reshape(read.GetDirection(), (3, 3)) * read.GetSpacing()
            affine[:3, 3] = read.GetOrigin()
        other = VoxelGrid(voxels.shape, affine)
    except Exception:  # noqa: BLE001  # it does not read the file: then it does not agree
        return False
    same = np.array_equal(np.rint(voxels), scan.voxels_hu)
    return same and _same_place(scan.grid, other)


def _for_itk(path: Path) -> Path:
    """Unpack what ITK's reader of NRRD cannot; spell MetaIO's keys as that of MHD asks."""
    if path.suffix in (".mhd", ".mha"):
        content = path.read_bytes()
        for key in (
            b"CompressedData",
            b"Offset",
            b"TransformMatrix",
            b"ElementSpacing",
            b"DimSize",
        ):
            content = re.sub(rb"(?im)^" + key + rb"(?= *=)", key, content)
        plain = path.with_stem("plain")
        plain.write_bytes(content)
        return plain
    head, _, packed = path.read_bytes().partition(b"\n\n")
    if b": bzip2" not in head:
        return path
    plain = path.with_name("plain.nrrd")
    plain.write_bytes(head.replace(b"bzip2", b"raw") + b"\n\n" + bz2.decompress(packed))
    return plain


def prepare(kind: str, folder: Path) -> OneCase:
    """Make the corpus of a format; return what draws and judges one case."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    every = corpus(kind, folder)

    def one_case(seed: tuple[int, int]) -> tuple[str, str, str]:
        rng = np.random.default_rng(seed)
        volume = every[int(rng.integers(len(every)))]
        mutation = mutate(volume, rng)
        return f"{volume.name}/{mutation.place}", *judge(volume, mutation)

    return one_case


def fuzz(
    kind: str, count: int, seed: int, folder: Path,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, object]:  # fmt: skip
    """Read `count` mutated volumes of a format; return the counts, and every bad case."""
    return run_cases(count, seed, Guarded(folder, partial(prepare, kind)), bad=BAD, report=report)


def _tell(done: int) -> None:
    if done % 1000 == 0:
        print(done)  # noqa: T201  # progress


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of volume files.")
    parser.add_argument("--count", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-volumes-"))
    try:
        found: dict[str, object] = {
            kind: fuzz(kind, given.count, given.seed, folder, _tell) for kind in FORMATS
        }
    finally:
        shutil.rmtree(folder)
    found |= {
        "python": platform.python_version(), "numpy": np.__version__,
        "SimpleITK": sitk.Version.VersionString(), "nibabel": nibabel.__version__,
    }  # fmt: skip
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
