"""The one way to the pixels of an INDEX: every form, refusals without a path."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medkd.errors import SeriesError
from medkd.geometry import VoxelGrid
from medkd.index.case import Case
from medkd.index.case_store import (
    CaseFiles,
    CaseForm,
    locate_case,
    open_image,
    open_scan,
    write_case_store,
)
from medkd.index.pseudonyms import make_private_folder, private_folder_of
from medkd.io.dicom.write import write_dicom_series
from medkd.io.file_ref import FileRef
from medkd.io.volume import write_mhd
from medkd.types import Scan
from tests.io.radiograph_helper import write_dx

NAME = "Mustermann_Erika"


def stored(
    tmp_path: Path,
    form: CaseForm = "dicom",
    refs: tuple[FileRef, ...] = (),
    reasons: tuple[str, ...] = (),
) -> Path:
    index = tmp_path / "work" / "index.csv"
    make_private_folder(private_folder_of(index))
    case = Case("c1", "p1", "image" if form == "image" else "scan", reasons=reasons)
    cases = [(case, CaseFiles(form, refs))]
    write_case_store(index, cases, settings='{"gate": {"min_slices": 2}}')
    return index


def a_scan() -> Scan:
    voxels = np.random.default_rng(0).integers(-1000, 400, (7, 6, 5)).astype(np.int16)
    grid = VoxelGrid.from_parts((7, 6, 5), spacing_mm=[0.7, 0.7, 1.25], origin_mm=[5, -3, 2])
    return Scan("1.2.3", voxels, grid, "p")


def labelled(paths: list[Path]) -> tuple[FileRef, ...]:
    return tuple(FileRef(path, label=f"f{n:06d}") for n, path in enumerate(paths))


def zipped(tmp_path: Path, paths: list[Path]) -> tuple[FileRef, ...]:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"{NAME}/{path.name}")
    return tuple(
        FileRef(tmp_path / "all.zip", f"{NAME}/{path.name}", f"f{n:06d}")
        for n, path in enumerate(paths)
    )


@pytest.mark.parametrize("within_zip", [False, True])
@pytest.mark.parametrize("form", ["dicom", "volume"])
def test_a_scan_comes_back_under_its_case_id(
    tmp_path: Path, form: CaseForm, within_zip: bool
) -> None:
    scan, folder = a_scan(), tmp_path / NAME
    if form == "dicom":
        paths = write_dicom_series(scan, folder, patient_name=NAME, patient_id="17")
    else:
        folder.mkdir()
        write_mhd(scan, folder / "x.mhd")
        paths = [folder / "x.mhd", folder / "x.raw"]
    refs = zipped(tmp_path, paths) if within_zip else labelled(paths)
    read = open_scan(stored(tmp_path, form, refs), "c1")
    assert (read.seriesuid, read.patient_id) == ("c1", "p1")
    assert np.array_equal(read.voxels_hu, scan.voxels_hu)


def test_a_radiograph_comes_back_under_its_case_id(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.png"
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(path)
    index = stored(tmp_path, "image", labelled([path]))
    read = open_image(index, "c1")
    assert (read.imageuid, read.patient_id, read.pixels.shape) == ("c1", "p1", (4, 6))
    with pytest.raises(SeriesError, match=r"not a scan[\s\S]*the case is an image"):
        open_scan(index, "c1")


def test_a_scan_is_not_opened_as_an_image(tmp_path: Path) -> None:
    write_mhd(a_scan(), tmp_path / "x.mhd")
    index = stored(tmp_path, "volume", labelled([tmp_path / "x.mhd", tmp_path / "x.raw"]))
    with pytest.raises(SeriesError, match=r"not an image[\s\S]*the case is a scan"):
        open_image(index, "c1")


def test_the_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    index = stored(tmp_path)
    place = private_folder_of(index) / "files.sqlite"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_refused_case_says_its_reasons(tmp_path: Path) -> None:
    index = stored(tmp_path, reasons=("gantry_tilt: 18.5 degrees",))
    with pytest.raises(SeriesError) as caught:
        open_scan(index, "c1")
    assert caught.value.reasons == ("gantry_tilt: 18.5 degrees",)


def test_a_refused_scan_is_read_for_a_reader_if_it_is_a_volume(tmp_path: Path) -> None:
    scan, folder = a_scan(), tmp_path / NAME
    paths = write_dicom_series(scan, folder, patient_name=NAME, patient_id="17")
    reasons = ("few_slices: 5, at least 20",)
    index = stored(tmp_path, "dicom", labelled(paths), reasons)
    assert np.array_equal(open_scan(index, "c1", refused=True).voxels_hu, scan.voxels_hu)
    with pytest.raises(SeriesError, match="not analysed"):
        open_scan(index, "c1")


def test_a_refused_scan_that_is_no_volume_is_not_read(tmp_path: Path) -> None:
    paths = write_dicom_series(a_scan(), tmp_path / NAME, patient_name=NAME, patient_id="17")
    reasons = ("missing_slices: one",)
    index = stored(tmp_path, "dicom", labelled([*paths[:2], *paths[3:]]), reasons)
    with pytest.raises(SeriesError, match="missing_slices") as caught:
        open_scan(index, "c1", refused=True)
    assert NAME not in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "code"),
    [({"BodyPartExamined": "KNEE"}, ""), ({"BurnedInAnnotation": "YES"}, "burned_in")],
)
def test_a_refused_radiograph_is_read_for_a_reader_unless_it_may_name_the_patient(
    tmp_path: Path, facts: dict[str, str], code: str
) -> None:
    path = write_dx(tmp_path / "x.dcm", np.arange(600, dtype=np.uint16).reshape(20, 30), **facts)
    index = stored(tmp_path, "image", labelled([path]), ("refused: for some reason",))
    if not code:
        assert open_image(index, "c1", refused=True).pixels.shape == (20, 30)
        return
    with pytest.raises(SeriesError) as caught:
        open_image(index, "c1", refused=True)
    assert [reason.partition(":")[0] for reason in caught.value.reasons] == [code]


def test_an_unknown_case_and_a_missing_store_are_refused(tmp_path: Path) -> None:
    index = stored(tmp_path)
    with pytest.raises(SeriesError, match="c9: no such case"):
        locate_case(index, "c9")
    (private_folder_of(index) / "files.sqlite").unlink()
    with pytest.raises(SeriesError, match="missing"):
        locate_case(index, "c9")


@pytest.mark.parametrize("content", [b"", b"no volume", None])
@pytest.mark.parametrize("suffix", [".mhd", ".nrrd", ".nii.gz", ".png"])
def test_no_message_shows_a_path_or_a_name(
    tmp_path: Path, suffix: str, content: bytes | None
) -> None:
    path = tmp_path / NAME / f"{NAME}_ct{suffix}"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    form = "image" if suffix == ".png" else "volume"
    index = stored(tmp_path, form, labelled([path]))  # type: ignore[arg-type]  # a literal
    with pytest.raises(SeriesError) as caught:
        (open_image if form == "image" else open_scan)(index, "c1")
    assert NAME not in str(caught.value)
    assert "f000000" in str(caught.value) or content is not None
