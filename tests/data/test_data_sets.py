"""The index of cases: three sources, one form; paths and tables refused with all reasons."""

from pathlib import Path

import numpy as np
import pytest

from medkd.data.data_sets import (
    Luna16Data,
    MedMnistData,
    find_data,
    images_of,
)
from medkd.errors import SeriesError, SettingsError
from medkd.synthetic.source import PhantomData


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PhantomData]:
    work_dir = tmp_path_factory.mktemp("phantom")
    settings = PhantomData(site="b", scans=2, seed=1, nodules_per_scan="2-2")
    settings.read_cases(work_dir)
    return work_dir, settings


def phantom_root(work_dir: Path) -> Path:
    (root,) = (work_dir / "data").iterdir()
    return root


def test_images_become_cases_with_their_official_split(medmnist_file: Path) -> None:
    index = MedMnistData(path=str(medmnist_file)).read_cases(medmnist_file.parent)
    assert [c.origin for c in index.cases] == ["train"] * 20 + ["val"] * 6 + ["test"] * 8
    assert index.cases[21].row == 1
    assert index.labels[index.cases[0].case_id] == 0
    assert index.labels[index.cases[1].case_id] == 1
    assert index.label_names == ("pneumonia",)
    assert not index.synthetic
    assert any("each image counts as one" in note for note in index.notes)


def test_pixels_come_in_the_order_of_the_cases(medmnist_file: Path) -> None:
    index = MedMnistData(path=str(medmnist_file)).read_cases(medmnist_file.parent)
    stored = np.load(medmnist_file)
    mixed = [index.cases[n] for n in (33, 2, 21, 0)]
    expected = [
        stored["test_images"][7],
        stored["train_images"][2],
        stored["val_images"][1],
        stored["train_images"][0],
    ]
    assert (images_of(mixed).images == np.stack(expected)).all()
    assert images_of(mixed).labels[:, 0].tolist() == [1, 1, 1, 0]


def test_phantoms_are_written_once_and_read_as_luna16(phantom: tuple[Path, PhantomData]) -> None:
    work_dir, settings = phantom
    before = (phantom_root(work_dir) / "phantom.json").stat().st_mtime_ns
    index = settings.read_cases(work_dir)
    assert (phantom_root(work_dir) / "phantom.json").stat().st_mtime_ns == before
    assert [c.origin for c in sorted(index.cases, key=lambda c: c.origin)] == ["subset0", "subset1"]
    assert all(case.path.suffix == ".mhd" for case in index.cases)
    assert len(index.nodules) == 4
    assert {c.label for c in index.candidates} == {0, 1}
    assert index.labels == {case.case_id: 1 for case in index.cases}
    assert index.synthetic


def test_other_phantom_settings_get_a_folder_of_their_own(
    phantom: tuple[Path, PhantomData], tmp_path: Path
) -> None:
    _, settings = phantom
    one = settings.model_copy(update={"scans": 1}).read_cases(tmp_path)
    two = settings.model_copy(update={"scans": 1, "seed": 2}).read_cases(tmp_path)
    assert len(list((tmp_path / "data").iterdir())) == 2
    assert one.fingerprint != two.fingerprint


def test_a_table_of_patients_joins_scans_of_one_patient(
    phantom: tuple[Path, PhantomData], tmp_path: Path
) -> None:
    root = phantom_root(phantom[0])
    uids = [path.stem for path in sorted(root.glob("subset*/*.mhd"))]
    table = tmp_path / "patients.csv"
    table.write_text("seriesuid,patient_id\n" + "".join(f"{uid},p1\n" for uid in uids))
    index = Luna16Data(root=str(root), patients=str(table)).read_cases(tmp_path)
    assert {case.patient_id for case in index.cases} == {"p1"}
    assert not any("each scan counts as one" in note for note in index.notes)


def test_a_scan_without_a_patient_is_refused(
    phantom: tuple[Path, PhantomData], tmp_path: Path
) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("seriesuid,patient_id\nunknown,p1\n")
    root = phantom_root(phantom[0])
    with pytest.raises(SeriesError) as refused:
        Luna16Data(root=str(root), patients=str(table)).read_cases(tmp_path)
    assert len(refused.value.reasons) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("series,patient\n", "expected the column 'seriesuid'"),
        ("seriesuid,patient_id\na,\n", "row 2"),
        ("seriesuid,patient_id\na,p\na,q\n", "a"),
    ],
)
def test_a_broken_table_of_patients_is_refused(
    phantom: tuple[Path, PhantomData], tmp_path: Path, text: str, reason: str
) -> None:
    table = tmp_path / "patients.csv"
    table.write_text(text)
    root = phantom_root(phantom[0])
    with pytest.raises(SeriesError) as refused:
        Luna16Data(root=str(root), patients=str(table)).read_cases(tmp_path)
    assert reason in refused.value.reasons[0]


def test_a_candidate_outside_its_scan_is_refused(
    phantom: tuple[Path, PhantomData], tmp_path: Path
) -> None:
    import shutil

    root = tmp_path / "copy"
    shutil.copytree(phantom_root(phantom[0]), root)
    uid = next(root.glob("subset*/*.mhd")).stem
    with (root / "candidates_V2.csv").open("a") as stream:
        stream.write(f"{uid},5000.0,0.0,0.0,0\n")
    with pytest.raises(SeriesError, match="outside"):
        Luna16Data(root=str(root)).read_cases(tmp_path)


def test_a_path_may_name_the_listed_variables_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDKD_DATA", str(tmp_path))
    (tmp_path / "set").mkdir()
    assert find_data("${MEDKD_DATA}/set") == tmp_path / "set"
    with pytest.raises(SettingsError, match=r"HOME.* not allowed"):
        find_data("${HOME}/set")


def test_a_variable_that_is_not_set_and_a_missing_path_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LUNA16_ROOT", raising=False)
    with pytest.raises(SettingsError, match="export LUNA16_ROOT=FOLDER"):
        find_data("${LUNA16_ROOT}")
    with pytest.raises(SettingsError, match="no such file or folder"):
        find_data(str(tmp_path / "nowhere"))
