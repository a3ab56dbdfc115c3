"""Which scans a folder holds: by content, each series once, nothing shortened in silence."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.io.find_scans import find_places, find_scans
from medkd.io.scans import read_place, read_scan
from tests.io.dicom_helper import SERIESUID, write_ct_series

SLICES = 6


def write_series(folder: Path, uid: str = SERIESUID, modality: str = "CT") -> list[Path]:
    """Write a small series; its files are called 00000 to 00005."""
    grid = VoxelGrid((8, 8, SLICES), np.diag([1.0, 1.0, 2.0, 1.0]))

    def edit(dataset: Dataset, k: int) -> None:
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid, f"{uid}.{k + 1}"
        dataset.Modality = modality

    voxels = np.random.default_rng(1).integers(-900, 100, grid.shape).astype(np.int16)
    return write_ct_series(folder, voxels, grid, edit=edit)


@pytest.mark.parametrize(
    "name",
    ["{0}", "{0}.dcm", "{0}.DCM", "{0}.IMA", "{0}.img", "{0}.dicom", "IM{0}.bak", "{0}.mhd.txt",
     "1.3.6.1.4.1.14519.5.2.1.{0}", "CT.1.2.840.113619.{0}", "Bild {0} (Kopie)", "übersicht{0}"],
)  # fmt: skip
def test_a_series_is_found_whatever_its_files_are_called(tmp_path: Path, name: str) -> None:
    for number, path in enumerate(write_series(tmp_path / "a")):
        path.rename(path.with_name(name.format(1000 + number)))
    assert find_scans(tmp_path) == (tmp_path / "a",)
    (place,) = find_places([tmp_path]).scans
    assert (place.seriesuid, len(place.files), place.reasons) == (SERIESUID, SLICES, ())
    assert read_place(place).voxels_hu.shape == (8, 8, SLICES)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mhd", ".nrrd", ".mha"])
def test_a_volume_and_a_series_beside_it_are_both_found(tmp_path: Path, suffix: str) -> None:
    write_series(tmp_path)
    (tmp_path / f"mask{suffix}").write_bytes(b"")
    assert find_scans(tmp_path) == (tmp_path, tmp_path / f"mask{suffix}")


def test_the_series_of_a_flat_export_are_scans_of_their_own(tmp_path: Path) -> None:
    flat = tmp_path / "export"
    for number, (uid, modality) in enumerate([("1.2.1", "CT"), ("1.2.2", "CT"), ("1.2.3", "MR")]):
        for path in write_series(tmp_path / uid, uid, modality):
            flat.mkdir(exist_ok=True)
            shutil.move(path, flat / f"IM{number}{path.name}")
    film = dcmread(flat / "IM000000")
    film.SOPClassUID, film.Modality = "1.2.840.10008.5.1.4.1.1.1", "CR"
    film.save_as(flat / "IM999")
    (flat / "README").write_text("exported")
    found = find_places([flat])
    assert [(p.seriesuid, len(p.files), p.reasons) for p in found.scans] == [
        ("1.2.1", SLICES, ()), ("1.2.2", SLICES, ()), ("1.2.3", SLICES, ())
    ]  # fmt: skip
    assert found.images == (flat / "IM999",)


def test_a_series_in_several_folders_or_inputs_is_one_scan(tmp_path: Path) -> None:
    for number, path in enumerate(write_series(tmp_path / "all")):
        part = tmp_path / f"part{number % 2}"
        part.mkdir(exist_ok=True)
        shutil.move(path, part / path.name)
    inputs = [[tmp_path], [tmp_path / "part0", tmp_path / "part1"], [tmp_path, tmp_path / "part0"]]
    for given in inputs:
        (place,) = find_places(given).scans
        assert len(place.files) == SLICES


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def web_page(path: Path) -> None:
    path.write_text("<html>404</html>")


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


def no_magic(path: Path) -> None:
    path.write_bytes(path.read_bytes()[40:])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("spoil", [empty, garbage, web_page, cut_header, no_magic, zeros])
@pytest.mark.parametrize("name", ["IM{0}", "{0}.dcm", "1.2.840.{0}"])
def test_a_last_slice_that_cannot_be_read_refuses_its_series(
    tmp_path: Path, spoil: Callable[[Path], None], name: str
) -> None:
    paths = write_series(tmp_path)
    for number, path in enumerate(paths):
        path.rename(path.with_name(name.format(number)))
    last = tmp_path / name.format(SLICES - 1)
    spoil(last)
    (place,) = find_places([tmp_path]).scans
    with pytest.raises(SeriesError) as refused:
        read_place(place)
    assert any(last.name in reason for reason in refused.value.reasons)
    with pytest.raises(SeriesError) as refused:
        read_scan(tmp_path)
    assert any(last.name in reason for reason in refused.value.reasons)


@pytest.mark.parametrize(
    ("name", "content"),
    [("README", b"hello"), (".DS_Store", bytes(99)), ("._IM1", b"\0\x05\x16\x07" + bytes(99)),
     ("report.pdf", b"%PDF-1.4 \0"), ("LIESMICH.TXT", b"x"), ("start.exe", b"MZ\x90\0"),
     ("Thumbs.db", b"\xd0\xcf\x11\xe0\0"), ("VERSION", b"7.1\n")],
)  # fmt: skip
def test_other_files_beside_a_series_do_not_refuse_it(
    tmp_path: Path, name: str, content: bytes
) -> None:
    for number, path in enumerate(write_series(tmp_path)):
        path.rename(path.with_name(f"IM{number}"))
    (tmp_path / name).write_bytes(content)
    (place,) = find_places([tmp_path]).scans
    assert place.reasons == ()
    assert len(read_scan(tmp_path).slices) == SLICES


def test_hidden_folders_and_what_systems_hide_are_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    (tmp_path / "a" / ".nothing").touch()
    (tmp_path / "a" / ".picture").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99))
    shutil.copytree(tmp_path / "a", tmp_path / ".snapshot")
    (place,) = find_places([tmp_path]).scans
    assert place.reasons == ()
    assert len(place.files) == SLICES


def test_a_slice_with_a_hidden_name_is_a_slice(tmp_path: Path) -> None:
    last = max(write_series(tmp_path))
    last.rename(last.with_name(f".{last.name}"))
    (place,) = find_places([tmp_path]).scans
    assert len(place.files) == len(read_scan(tmp_path).slices) == SLICES


def test_a_hidden_slice_that_is_cut_short_refuses_the_series(tmp_path: Path) -> None:
    last = max(write_series(tmp_path))
    last.with_name(f".{last.name}.part").write_bytes(last.read_bytes()[:-9])
    last.unlink()
    with pytest.raises(SeriesError):
        read_scan(tmp_path)


def test_pipes_links_and_loops_never_hang(tmp_path: Path) -> None:
    write_series(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (place,) = find_places([tmp_path]).scans
    assert len(place.files) == SLICES
    (named,) = find_places([tmp_path / "a" / "pipe"]).scans
    assert "not a regular file" in named.reasons[0]


def test_a_link_to_a_slice_that_is_gone_refuses_the_series(tmp_path: Path) -> None:
    paths = write_series(tmp_path)
    last = max(paths)
    last.unlink()
    last.symlink_to(tmp_path / "annex" / "gone")
    (place,) = find_places([tmp_path]).scans
    assert last.name in place.reasons[0]
    with pytest.raises(SeriesError) as refused:
        read_scan(tmp_path)
    assert last.name in refused.value.reasons[0]


def zipped(content: bytes, name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".7z": lambda content: b"7z\xbc\xaf\x27\x1c" + content,
    ".zst": lambda content: b"\x28\xb5\x2f\xfd" + content,
    ".zip": lambda content: zipped(content, "slice"),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", ["IM{0}", "{0}.dcm", "1.2.840.{0}", "CT.{0}.IMA"])
def test_a_last_slice_that_is_packed_refuses_its_series(
    tmp_path: Path, packing: str, name: str
) -> None:
    for number, path in enumerate(write_series(tmp_path)):
        path.rename(path.with_name(name.format(number)))
    last = tmp_path / name.format(SLICES - 1)
    packed = last.with_name(f"{last.name}{packing}")
    packed.write_bytes(PACKINGS[packing](last.read_bytes()))
    last.unlink()
    places = find_places([tmp_path]).scans
    (series,) = [place for place in places if place.seriesuid]
    assert packed.name in series.reasons[0]
    with pytest.raises(SeriesError) as refused:
        read_scan(tmp_path)
    assert packed.name in refused.value.reasons[0]


def test_a_packed_slice_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    last = max(write_series(tmp_path))
    (tmp_path / "backup.bin").write_bytes(gzip.compress(last.read_bytes()))
    last.unlink()
    (place,) = find_places([tmp_path]).scans
    assert "backup.bin" in place.reasons[0]
    assert "a gzip file that contains DICOM: unpack it" in place.reasons[0]


@pytest.mark.parametrize("name", ["notes.txt.gz", "masks.nii.gz", "findings.csv.gz", "old.tar.gz"])
def test_other_packed_files_beside_a_series_do_not_refuse_it(tmp_path: Path, name: str) -> None:
    for number, path in enumerate(write_series(tmp_path)):
        path.rename(path.with_name(f"IM{number}.dcm"))
    (tmp_path / name).write_bytes(gzip.compress(b"text"))
    (series,) = [place for place in find_places([tmp_path]).scans if place.seriesuid]
    assert series.reasons == ()
    assert len(read_scan(tmp_path).slices) == SLICES


def test_a_link_to_nothing_that_is_no_slice_by_its_name_does_not_refuse_the_series(
    tmp_path: Path,
) -> None:
    for number, path in enumerate(write_series(tmp_path)):
        path.rename(path.with_name(f"IM{number}.dcm"))
    (tmp_path / "README.txt").symlink_to(tmp_path / "gone")
    (place,) = find_places([tmp_path]).scans
    assert place.reasons == ()
    assert len(read_scan(tmp_path).slices) == SLICES


def test_a_folder_that_cannot_be_entered_is_a_refusal_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "a")
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def locked(path: str) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)  # modes do not bind root
    found = find_places([tmp_path]).scans
    assert [(p.path.name, bool(p.reasons)) for p in found] == [("a", False), ("locked", True)]


def nameless(dataset: Dataset, k: int) -> None:
    dataset.SeriesInstanceUID = ""


def test_slices_without_a_series_uid_are_the_series_of_their_folder(tmp_path: Path) -> None:
    grid = VoxelGrid((8, 8, SLICES), np.diag([1.0, 1.0, 2.0, 1.0]))
    for name in ("a", "b"):
        write_ct_series(tmp_path / name, np.zeros(grid.shape, np.int16), grid, edit=nameless)
    found = find_places([tmp_path]).scans
    assert [(p.path.name, len(p.files), p.reasons) for p in found] == [
        ("a", SLICES, ()), ("b", SLICES, ())
    ]  # fmt: skip
    assert len({p.seriesuid for p in found}) == 2


def test_a_slice_without_a_series_uid_refuses_the_series_beside_it(tmp_path: Path) -> None:
    last = max(write_series(tmp_path))
    dataset = dcmread(last)
    dataset.SeriesInstanceUID = ""
    dataset.save_as(last)
    named = next(p for p in find_places([tmp_path]).scans if p.seriesuid == SERIESUID)
    assert last.name in named.reasons[0]


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.66",
                                       "1.2.840.10008.5.1.4.1.1.1", "9.9.9"])  # fmt: skip
def test_a_slice_whose_class_is_damaged_refuses_its_series(tmp_path: Path, sop_class: str) -> None:
    last = max(write_series(tmp_path))
    dataset = dcmread(last)
    dataset.SOPClassUID = sop_class
    dataset.save_as(last)
    (place,) = find_places([tmp_path]).scans
    assert len(place.files) == SLICES
    with pytest.raises(SeriesError, match="expected SOPClassUID CT Image Storage"):
        read_place(place)


def test_a_screen_shot_of_a_series_leaves_its_slices_alone(tmp_path: Path) -> None:
    dataset = dcmread(max(write_series(tmp_path)))
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4"
    dataset.save_as(tmp_path / "shot.dcm")
    shot, series = sorted(find_places([tmp_path]).scans, key=lambda place: len(place.files))
    assert (len(shot.files), len(series.files)) == (1, SLICES)
