"""Splits: by patient, planted leaks found, few labels by patient, frozen by a fingerprint."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from medkd.data.cases import Case, CaseIndex
from medkd.data.data_sets import MedMnistData
from medkd.data.splits import (
    CrossValidationSplit,
    FoldSplit,
    FractionSplit,
    FrozenSplit,
    LabelLimit,
    OfficialSplit,
    Split,
    build_split,
    check_leaks,
)
from medkd.errors import SeriesError, SettingsError
from medkd.index.frozen_split import SplitFile, write_split
from tests.real_data import data_root


def scans(count: int = 40, *, scans_a_patient: int = 2) -> CaseIndex:
    """Scans in ten subsets; each third patient is positive."""
    cases = tuple(
        Case(
            f"s{i}",
            f"p{i // scans_a_patient}",
            "scan",
            path=Path("x.mhd"),
            origin=f"subset{i % 10}",
        )
        for i in range(count)
    )
    labels = {c.case_id: int(int(c.patient_id[1:]) % 3 == 0) for c in cases}
    return CaseIndex("scans", cases, labels, ("nodule",), "f")


def patients(index: CaseIndex, ids: tuple[str, ...]) -> set[str]:
    return {index.by_id()[c].patient_id for c in ids}


def images(path: Path) -> CaseIndex:
    return MedMnistData(path=str(path)).read_cases(path.parent)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_shares_never_divide_a_patient(seed: int) -> None:
    index = scans()
    split = build_split(index, FractionSplit(val=0.2, test=0.3), seed=seed)
    parts = [patients(index, part) for part in (split.train, split.val, split.test)]
    assert [len(p) for p in parts] == [10, 4, 6]
    assert len(set.union(*parts)) == 20
    assert len(split.train + split.val + split.test) == 40


def test_random_shares_hold_positive_patients_in_like_proportion() -> None:
    index = scans(400)
    split = build_split(index, FractionSplit(val=0.2, test=0.2), seed=0)
    for part in (split.train, split.val, split.test):
        share = sum(index.labels[c] for c in part) / len(part)
        assert share == pytest.approx(67 / 200, abs=0.02)


def test_the_same_seed_gives_the_same_split_and_fingerprint() -> None:
    first, again = (build_split(scans(), FractionSplit(), seed=3) for _ in range(2))
    other = build_split(scans(), FractionSplit(), seed=4)
    assert first == again
    assert first.fingerprint != other.fingerprint


def test_the_order_of_the_cases_does_not_change_who_is_where() -> None:
    index = scans()
    turned = replace(index, cases=index.cases[::-1])
    first, second = (build_split(i, FractionSplit(), seed=0) for i in (index, turned))
    assert set(first.test) == set(second.test)


def test_subsets_go_where_the_folds_say() -> None:
    index = scans(40, scans_a_patient=1)
    split = build_split(index, FoldSplit(val=(8,), test=(9, 0)), seed=0)
    origin = {c.case_id: c.origin for c in index.cases}
    assert {origin[c] for c in split.val} == {"subset8"}
    assert {origin[c] for c in split.test} == {"subset9", "subset0"}
    assert len(split.train) == 28


def test_a_patient_in_two_splits_is_refused_by_name() -> None:
    # Two scans of a patient stand in neighbouring subsets: p4 in 8 and 9, p0 in 0 and 1, ...
    with pytest.raises(SeriesError) as refused:
        build_split(scans(20), FoldSplit(val=(8,), test=(9,)), seed=0)
    assert "patient p4: in test and val" in refused.value.reasons
    assert "2 patients" in str(refused.value)


def test_every_shared_patient_is_a_reason() -> None:
    split = Split(train=("s0", "s2", "s4"), val=("s1",), test=("s3", "s10"))
    with pytest.raises(SeriesError) as refused:
        check_leaks(scans(), split)
    assert refused.value.reasons[:2] == (
        "patient p0: in train and val",
        "patient p1: in test and train",
    )


def test_planted_copies_are_dropped_from_train_and_named(medmnist_file: Path) -> None:
    index = images(medmnist_file)
    split = build_split(index, OfficialSplit(), seed=0)
    gone = {f"pneumoniamnist-train-{row:06d}" for row in range(20)} - set(split.train)
    assert gone == {"pneumoniamnist-train-000003", "pneumoniamnist-train-000007"}
    assert (len(split.val), len(split.test)) == (6, 8)
    assert "2 train images dropped: the same pixels are in val or test" in split.notes


def test_a_validation_image_that_stands_in_test_is_dropped_and_test_is_kept(
    medmnist_file: Path,
) -> None:
    index = images(medmnist_file)
    names = [f"pneumoniamnist-{part}" for part in ("train", "val", "test")]
    # Row 7 of train is a copy of row 0 of test.
    planted = Split((f"{names[0]}-000000",), (f"{names[0]}-000007",), (f"{names[2]}-000000",))
    clean = check_leaks(index, planted)
    assert (len(clean.train), len(clean.val), len(clean.test)) == (1, 0, 1)


def test_copies_within_one_split_stay(medmnist_file: Path) -> None:
    arrays = dict(np.load(medmnist_file))
    arrays["train_images"][1] = arrays["train_images"][0]
    np.savez(medmnist_file, **arrays)
    split = build_split(images(medmnist_file), OfficialSplit(), seed=0)
    assert len(split.train) == 18


def test_the_other_kind_is_advised_where_a_kind_does_not_fit() -> None:
    with pytest.raises(SettingsError, match="use kind folds or fractions"):
        build_split(scans(), OfficialSplit(), seed=0)


def test_absent_subsets_are_named() -> None:
    with pytest.raises(SettingsError, match="no case comes from subset9"):
        build_split(scans(9, scans_a_patient=1), FoldSplit(val=(8,), test=(9,)), seed=0)


def test_a_set_too_small_to_split_is_refused() -> None:
    with pytest.raises(SettingsError, match="train: no case is left"):
        build_split(scans(4), FractionSplit(), seed=0)


def test_a_part_that_cannot_be_filled_is_named_with_what_was_left_out() -> None:
    index = replace(scans(4), notes=("3 scans without any annotation left out",))
    with pytest.raises(SettingsError) as caught:
        build_split(index, FractionSplit(), seed=0)
    assert "note: 3 scans without any annotation left out" in caught.value.reasons
    assert caught.value.reasons[-1].startswith("to do: ")


def test_folds_cover_every_case_once_as_test_and_leave_official_test_alone(
    medmnist_file: Path,
) -> None:
    index = images(medmnist_file)
    folds = [build_split(index, CrossValidationSplit(folds=3, fold=k), seed=0) for k in range(3)]
    held_out = [c for split in folds for c in split.test]
    assert len(held_out) == len(set(held_out)) == 26
    assert not any("-test-" in c for split in folds for c in split.train + split.val + split.test)
    assert "8 official test cases left out" in folds[0].notes[0]


def test_few_labels_are_drawn_by_patient_and_the_rest_is_dropped() -> None:
    index = scans(400)
    limit = LabelLimit(labelled_fraction=0.1)
    whole = build_split(index, FractionSplit(), seed=0)
    few = build_split(index, FractionSplit(limit=limit), seed=0)
    assert set(few.train) < set(whole.train)
    assert len(patients(index, few.train)) == 12  # of 120 training patients
    assert len(few.train) == 24  # both scans of each
    assert few.unlabelled == ()
    assert "24 of 240" in few.notes[-1]


def test_few_labels_hold_both_classes() -> None:
    limit = LabelLimit(labelled_cases=8)
    few = build_split(scans(400), FractionSplit(limit=limit), seed=5)
    labels = Counter(scans(400).labels[c] for c in few.train)
    assert len(few.train) == 8
    assert labels[1] in (2, 4)  # a third of 4 patients of 2 scans


def test_the_labels_that_are_used_are_counted_by_class() -> None:
    plain = scans(40, scans_a_patient=1)
    labels = {case.case_id: number % 4 for number, case in enumerate(plain.cases)}
    index = replace(plain, labels=labels, label_names=("a", "b", "c", "d"), exclusive=True)
    split = FractionSplit(val=0.2, test=0.2, limit=LabelLimit(labelled_cases=12))
    (note,) = build_split(index, split, seed=0).notes
    assert "12 of 24 training cases used (3 a, 3 b, 3 c, 3 d)" in note


def test_unlabelled_cases_can_be_kept_for_transfer() -> None:
    limit = LabelLimit(labelled_fraction=0.1, unlabelled="keep")
    whole = build_split(scans(400), FractionSplit(), seed=0)
    kept = build_split(scans(400), FractionSplit(limit=limit), seed=0)
    assert sorted(kept.train + kept.unlabelled) == sorted(whole.train)
    assert (kept.val, kept.test) == (whole.val, whole.test)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (LabelLimit, {}),
        (LabelLimit, {"labelled_fraction": 0.1, "labelled_cases": 5}),
        (FractionSplit, {"val": 0.5, "test": 0.5}),
        (FoldSplit, {"val": (8,), "test": (8,)}),
        (CrossValidationSplit, {"folds": 5, "fold": 5}),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    kind: type, values: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        kind(**values)


def test_ten_real_training_rows_of_pneumoniamnist_are_dropped() -> None:
    index = images(data_root() / "pneumoniamnist" / "pneumoniamnist.npz")
    split = build_split(index, OfficialSplit(), seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (4698, 524, 624)
    assert "10 train images dropped: the same pixels are in val or test" in split.notes


def test_the_leak_in_the_real_nih_split_is_found() -> None:
    with (data_root() / "nih1000" / "index.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    part = {"train": "train", "valid": "val", "test": "test"}
    cases = tuple(
        Case(r["image"], r["patient"], "scan", path=Path(r["file"]), origin=part[r["split"]])
        for r in rows
    )
    labels = {r["image"]: int(r["label"]) for r in rows}
    index = CaseIndex("nih", cases, labels, ("finding",), "f")
    with pytest.raises(SeriesError, match="nih: 30 patients are in more than one part"):
        build_split(index, OfficialSplit(), seed=0)
    split = build_split(index, FractionSplit(), seed=0)
    assert not patients(index, split.train) & patients(index, split.test)


def frozen(path: Path, **changed: object) -> FrozenSplit:
    """Write a frozen split of the 40 scans: patients 0..9 train, 10..14 validate, 15..19 test."""
    ids = [f"s{i}" for i in range(40)]
    groups = {"train": tuple(ids[:20]), "val": tuple(ids[20:30]), "test": tuple(ids[30:])}
    split = SplitFile("fractions", "f", groups)
    write_split(path, replace(split, **changed))
    return FrozenSplit(path=str(path))


def test_a_frozen_split_is_taken_as_it_stands(tmp_path: Path) -> None:
    settings = frozen(tmp_path / "split.json")
    split = build_split(scans(), settings, seed=0)
    assert split.test == tuple(f"s{i}" for i in range(30, 40))
    assert split == build_split(scans(), settings, seed=9)


def test_a_frozen_split_passes_over_cases_that_are_not_trained_on(tmp_path: Path) -> None:
    settings = frozen(tmp_path / "split.json")
    index = scans()
    fewer = replace(index, cases=tuple(c for c in index.cases if c.case_id != "s35"))
    assert "s35" not in build_split(fewer, settings, seed=0).test


def test_a_frozen_split_of_another_index_is_refused(tmp_path: Path) -> None:
    settings = frozen(tmp_path / "split.json", index_fingerprint="g")
    with pytest.raises(SettingsError, match="the split of another index"):
        build_split(scans(), settings, seed=0)


def test_a_frozen_fold_tests_and_its_neighbour_validates(tmp_path: Path) -> None:
    groups = {f"fold{n}": tuple(f"s{i}" for i in range(40) if i // 2 % 4 == n) for n in range(4)}
    frozen(tmp_path / "split.json", kind="folds", groups=groups)
    settings = FrozenSplit(path=str(tmp_path / "split.json"), fold=3)
    split = build_split(scans(), settings, seed=0)
    assert set(split.test) == set(groups["fold3"])
    assert set(split.val) == set(groups["fold0"])
    with pytest.raises(SeriesError, match="expected a fold of 0 to 3, got None"):
        build_split(scans(), FrozenSplit(path=settings.path), seed=0)


def test_a_frozen_split_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    settings = frozen(tmp_path / "split.json")
    path = tmp_path / "split.json"
    path.write_text(path.read_text().replace('"s0"', '"s39"', 1))
    with pytest.raises(SeriesError, match="changed since it was frozen"):
        build_split(scans(), settings, seed=0)
