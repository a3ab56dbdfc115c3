"""An archive as a data set: which cases train, what is unknown, what is refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medkd.data.archive_cases import ArchiveData, add_candidates
from medkd.data.cache_folder import CacheFolder
from medkd.data.candidate_patches import candidate_table, thin_negatives
from medkd.data.cases import CaseIndex, read_scan_of
from medkd.data.datasets import build_patches
from medkd.data.loading import parse_loading
from medkd.data.prepared import PreparedScans
from medkd.data.splits import FractionSplit, LabelLimit, build_split
from medkd.errors import SeriesError, SettingsError
from medkd.index.table import CaseLabel, read_index, write_index
from medkd.types import ReviewedMark
from tests.data.archives import write_scan_archive, write_xray_archive

IMAGE = parse_loading([{"kind": "image", "source": "file", "size_px": [10, 8]}])
CUBES = parse_loading(
    [
        {"kind": "load"},
        {"kind": "spacing", "spacing_mm": [2.0, 2.0, 2.0]},
        {"kind": "crop", "patch_shape": [8, 8, 8]},
        {"kind": "intensity"},
    ]
)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scan_archive(tmp_path_factory.mktemp("scans"))


def images_index(path: Path, **changed: object) -> CaseIndex:
    settings = ArchiveData(index=str(path), cases="images", **changed)  # type: ignore[arg-type]
    return settings.read_cases(path.parent)


def scans_index(path: Path, work_dir: Path, **changed: object) -> CaseIndex:
    settings = ArchiveData(index=str(path), cases="scans", **changed)  # type: ignore[arg-type]
    index = settings.read_cases(work_dir)
    scans, names = PreparedScans(CUBES, work_dir / "cache"), [c.case_id for c in index.cases]
    return add_candidates(index, settings, names, scans=scans, work_dir=work_dir)


def test_refused_and_lateral_images_do_not_train_and_are_counted(tmp_path: Path) -> None:
    index = images_index(write_xray_archive(tmp_path, patients=4))
    assert [case.case_id for case in index.cases] == [f"c{n:03d}" for n in range(2, 8)]
    assert [case.case_id for case in index.refused] == ["c000"]
    assert "1 images of view LL left out" in index.notes
    assert "1 images of the archive are not analysed: colour 1" in index.notes
    assert index.label_names == ("nodule",)


def test_images_are_resized_by_area_and_masked_where_unknown(tmp_path: Path) -> None:
    path = write_xray_archive(tmp_path, patients=4, values=(1, None, 0))
    index = images_index(path)
    ids = [case.case_id for case in index.cases]
    source = build_patches(index, ids, scans=PreparedScans(IMAGE, tmp_path / "cache"), seed=0)
    assert source.image_shape == (1, 10, 8)
    assert source.label_known[:, 0].tolist() == [False, False, True, True, True, True]
    image = source.__getitems__([2]).image[0, 0]
    from PIL import Image

    stored = np.asarray(Image.open(tmp_path / "DOE^JANE" / "4.png"), dtype=np.float32) / 255
    expected = stored.reshape(10, 2, 8, 2).mean(axis=(1, 3))
    assert np.abs(image.numpy() - expected).max() <= 0.5 / 255 + 1e-6


def test_images_have_several_labels_of_which_any_may_be_unknown(tmp_path: Path) -> None:
    path = write_xray_archive(tmp_path, patients=4, values=(1, None, 0), masses=(None, 0, 1, None))
    index = images_index(path, labels=["Mass", "nodule"])
    assert index.label_names == ("Mass", "nodule")
    # Of the first patient one image is refused and one is a lateral view.
    assert index.labels == {"c002": 0, "c003": 0, "c004": 1, "c005": 1, "c006": 1, "c007": 1}
    notes = [f"2 of 6 images have no known label {name}" for name in index.label_names]
    assert set(notes) <= set(index.notes)
    ids = [case.case_id for case in index.cases]
    source = build_patches(
        index, ids[:5], scans=PreparedScans(IMAGE, None), seed=0, unlabelled=ids[5:]
    )
    known = [[True, False]] * 2 + [[True, True]] * 2 + [[False, True], [False, False]]
    assert source.label_known.tolist() == known
    values = torch.where(source.label_known, source.label, torch.nan)
    assert values[2].tolist() == [1, 0]
    assert values[4, 1] == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"labels": ["Mass", "mass"]}, "a label is named twice"),
        ({"labels": ["Mass"], "cases": "scans"}, "for radiographs"),
    ],
)
def test_labels_that_cannot_be_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ArchiveData.model_validate({"index": "index.csv", "cases": "images", **changed})


def test_images_are_read_once_and_filling_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = images_index(write_xray_archive(tmp_path, patients=4))
    ids = [case.case_id for case in index.cases]
    lost = tmp_path / "DOE^JANE" / "5.png"
    kept = lost.read_bytes()
    lost.unlink()

    def source() -> torch.Tensor:
        made = build_patches(index, ids, scans=PreparedScans(IMAGE, tmp_path / "cache"), seed=0)
        made.prepare()
        return made.__getitems__(range(len(ids))).image

    with pytest.raises(SeriesError, match="c005: ") as refused:
        source()
    assert "DOE" not in str(refused.value)
    lost.write_bytes(kept)
    read: list[str] = []
    from medkd.data import radiograph_patches as module

    whole = module.open_image
    monkeypatch.setattr(
        module, "open_image", lambda path, name: (read.append(name), whole(path, name))[1]
    )
    first = source()
    assert read == ["c005"]
    assert torch.equal(source(), first)
    assert torch.equal(
        build_patches(index, ids, scans=PreparedScans(IMAGE, None), seed=0)
        .__getitems__(range(len(ids)))
        .image,
        first,
    )


def test_a_label_that_no_case_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"Nodule \(24\), Mass \(0\)"):
        images_index(write_xray_archive(tmp_path), positive=["nodule", "noodle"])


def test_an_index_without_such_cases_says_what_it_holds(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="4 scans ready") as refused:
        images_index(scans)
    assert "for its scans: transfer/hospital_ct" in refused.value.reasons
    assert "medkd check index.csv shows why cases are refused" in refused.value.reasons


def test_places_are_sought_in_the_scans_of_the_split_alone(scans: Path, tmp_path: Path) -> None:
    settings = ArchiveData(index=str(scans), cases="scans")
    index = settings.read_cases(tmp_path)
    assert index.candidates == ()
    some = add_candidates(
        index, settings, ["s1"], scans=PreparedScans(CUBES, None), work_dir=tmp_path
    )
    assert {c.seriesuid for c in some.candidates} == {"s1"}
    assert len(list((tmp_path / "data" / "proposals").iterdir())) == 1


def test_scans_give_nodules_and_negatives_and_leave_out_what_nobody_read(
    scans: Path, tmp_path: Path
) -> None:
    index = scans_index(scans, tmp_path)
    assert [case.case_id for case in index.cases] == ["s0", "s1", "s2"]
    assert [case.case_id for case in index.refused] == ["s3"]
    table = candidate_table(index, ["s0"])
    nodules = [n for n in index.nodules if n.seriesuid == "s0"]
    assert set(table.seriesuid) == {"s0"}
    assert table.label.sum() >= len(nodules)
    assert (table.label == 0).sum() > 30
    assert any("1 scan without any annotation left out" in note for note in index.notes)
    assert "1 scans of the archive are not analysed: missing_slices 1" in index.notes
    assert "3 scans are used in spite of faults: coarse_voxels 3" in index.notes
    assert index.synthetic


def test_unread_scans_are_negative_if_the_settings_say_so(scans: Path, tmp_path: Path) -> None:
    index = scans_index(scans, tmp_path, unannotated="negative")
    assert index.labels["s4"] == 0
    assert {c.label for c in index.candidates if c.seriesuid == "s4"} == {0}


def test_a_label_of_zero_makes_a_scan_negative_and_one_of_one_leaves_it_out(
    scans: Path, tmp_path: Path
) -> None:
    archive = read_index(scans)
    for value, used in ((0, True), (1, False)):
        path = tmp_path / f"{value}.csv"
        write_index(path, replace(archive, labels=(CaseLabel("s4", "Nodule", value),)))
        index = labelled_index(scans, path, tmp_path)
        assert ("s4" in index.by_id()) == used


def labelled_index(stored: Path, path: Path, work_dir: Path) -> CaseIndex:
    """Read another table over the same files."""
    place = path.with_suffix(".private")
    place.mkdir(mode=0o700)
    (place / "files.sqlite").write_bytes(
        (stored.with_suffix(".private") / "files.sqlite").read_bytes()
    )
    return scans_index(path, work_dir)


def test_scans_with_labels_but_no_places_are_refused_with_the_reason(
    scans: Path, tmp_path: Path
) -> None:
    archive = replace(read_index(scans), nodules=(), labels=(CaseLabel("s0", "nodule", 1),))
    write_index(tmp_path / "index.csv", archive)
    with pytest.raises(SettingsError, match="it has no position"):
        scans_index(tmp_path / "index.csv", tmp_path)


def test_a_patch_of_an_archive_is_that_of_its_volume(scans: Path, tmp_path: Path) -> None:
    index = scans_index(scans, tmp_path)
    archived = build_patches(index, ["s1"], scans=PreparedScans(CUBES, tmp_path / "c"), seed=0)
    files = replace(
        index,
        cases=tuple(
            replace(
                case,
                path=scans.parent.parent / "scans" / f"{case.case_id[1:]}.mhd",
                archived=False,
            )
            for case in index.cases
        ),
    )
    plain = build_patches(files, ["s1"], scans=PreparedScans(CUBES, None), seed=0)
    first, second = (s.__getitems__([0, 5, 9]).image for s in (archived, plain))
    # A HU that lies halfway may be rounded to either side.
    torch.testing.assert_close(first, second, atol=1.01 / 1400, rtol=0)
    scan = read_scan_of(index.by_id()["s1"])
    assert (scan.seriesuid, scan.patient_id) == ("s1", "p1")


def test_a_file_that_changed_makes_a_new_entry_though_its_pixels_are_the_same(
    tmp_path: Path,
) -> None:
    index = scans_index(write_scan_archive(tmp_path, scans=1), tmp_path)
    cache = tmp_path / "cache"

    def prepare() -> int:
        build_patches(index, ["s0"], scans=PreparedScans(CUBES, cache), seed=0).prepare()
        return len(CacheFolder(cache).entries())

    assert [prepare(), prepare()] == [1, 1]
    header = tmp_path / "scans" / "0.mhd"
    header.write_text(re.sub("^Offset = .*$", "Offset = 1 2 3", header.read_text(), flags=re.M))
    assert prepare() == 2
    header.unlink()
    with pytest.raises(SeriesError, match="s0: ") as refused:
        prepare()
    assert str(tmp_path) not in str(refused.value)


def test_unknown_cases_are_never_scored_and_train_by_transfer_if_asked(tmp_path: Path) -> None:
    index = images_index(write_xray_archive(tmp_path, values=(1, 0, None)))
    plain = build_split(index, FractionSplit(), seed=0)
    assert all(c in index.labels for part in (plain.train, plain.val, plain.test) for c in part)
    assert plain.unlabelled == ()
    assert any("train cases without a known label left out" in note for note in plain.notes)
    limit = LabelLimit(labelled_fraction=1.0, unlabelled="keep")
    kept = build_split(index, FractionSplit(limit=limit), seed=0)
    assert kept.train == plain.train
    assert kept.unlabelled
    assert not set(kept.unlabelled) & set(index.labels)


def test_the_same_pixels_under_two_patients_leave_the_earlier_part(tmp_path: Path) -> None:
    path = write_xray_archive(tmp_path)
    archive = read_index(path)
    same = tuple(
        replace(case, content="same") if case.case_id in {"c002", "c003", "c020"} else case
        for case in archive.cases
    )
    write_index(path, replace(archive, cases=same))
    index = images_index(path)
    splits = [build_split(index, FractionSplit(val=0.3, test=0.3), seed=s) for s in range(4)]
    for split in splits:
        held = [
            part
            for part in ("train", "val", "test")
            if {"c002", "c003", "c020"} & set(getattr(split, part))
        ]
        assert len(held) == 1
    assert any("the same pixels are in" in n for split in splits for n in split.notes)


def test_marks_that_readers_rejected_are_negatives_that_no_training_drops(
    scans: Path, tmp_path: Path
) -> None:
    archive = read_index(scans)
    included = next(n for n in archive.nodules if n.counts_as == "included")
    name, nodule = included.seriesuid, included.center_mm
    x, y, z = read_scan_of(archive.by_id()[name]).grid.voxel_to_world((1.0, 1.0, 1.0)).tolist()
    corner = (x, y, z)
    marks = (
        ReviewedMark(name, corner, -1.0, "rejected", ("anna",)),
        ReviewedMark(name, nodule, -1.0, "rejected", ("anna",)),
    )
    copy = shutil.copytree(scans.parent, tmp_path / "copy") / scans.name
    write_index(copy, replace(archive, marks=marks))
    index = scans_index(copy, tmp_path)
    labels = {c.center_mm: c.label for c in index.candidates if c.seriesuid == name}
    assert {c.center_mm for c in index.negatives} == {corner, nodule}
    assert labels[corner] == 0
    assert labels[nodule] == 1  # a rejected mark on a reference nodule is no negative
    table = candidate_table(index, [name])
    for seed in range(3):
        thin = thin_negatives(table, 1, seed=seed, kept_places=index.negatives)
        assert corner in (thin.center_mm or ())
        assert len(thin.seriesuid) == 2 * int(table.label.sum()) + 1
