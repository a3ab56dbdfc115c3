"""Frozen splits and leaks: patients and equal pixels stay together, labels and sites alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from medkd.archive.check import check_index
from medkd.archive.split import SplitSettings, find_leaks, freeze_split
from medkd.cli import app
from medkd.errors import SeriesError, SettingsError
from medkd.index.case import Case
from medkd.index.frozen_split import SplitFile, read_split, write_split
from medkd.index.table import ArchiveIndex, CaseLabel, write_index
from medkd.types import Nodule


def case(number: int, patient: str, **given_: object) -> Case:
    values = {"status": "ready", "content": f"d{number}", **given_}
    return Case(f"c{number}", patient, "image", **values)  # type: ignore[arg-type]


def an_index(count: int = 300, *, seed: int = 0) -> ArchiveIndex:
    """About 100 patients at two sites; a common label (30 %) and a rare one (4 %)."""
    random = np.random.default_rng(seed)
    patients = random.integers(0, count // 3, count).tolist()
    cases = [case(n, f"p{p}", site="ab"[p % 5 == 0]) for n, p in enumerate(patients)]
    labels = [
        CaseLabel(f"c{n}", name, int(random.random() < share))
        for n in range(count)
        for name, share in (("common", 0.3), ("rare", 0.04))
    ]
    return ArchiveIndex(tuple(cases), labels=tuple(labels), fingerprint="f")


def homes_of(split: SplitFile) -> dict[str, str]:
    return {case_id: name for name, ids in split.groups.items() for case_id in ids}


@given(st.integers(0, 50), st.sampled_from(["fractions", "folds"]))
def test_no_patient_and_no_pixels_stand_in_two_parts(seed: int, kind: str) -> None:
    index = an_index(60, seed=seed)
    copies = tuple(replace(c, content=f"d{n % 55}") for n, c in enumerate(index.cases))
    index = replace(index, cases=copies)
    split = freeze_split(index, SplitSettings(kind=kind, seed=seed, folds=3))  # type: ignore[arg-type]
    homes = homes_of(split)
    assert len(homes) == 60
    assert find_leaks(index.cases, homes) == []


def test_labels_and_sites_are_shared_out_as_the_parts_are() -> None:
    index = an_index(900)
    homes = homes_of(freeze_split(index, SplitSettings(val=0.2, test=0.3)))
    sites = {c.case_id: c.site for c in index.cases}
    for wanted in ("common", "rare"):
        found = Counter(homes[x.case_id] for x in index.labels if x.name == wanted and x.value)
        assert found["test"] / found.total() == pytest.approx(0.3, abs=0.06)
        assert found["val"] / found.total() == pytest.approx(0.2, abs=0.06)
    at_b = Counter(home for case_id, home in homes.items() if sites[case_id] == "b")
    assert at_b["test"] / at_b.total() == pytest.approx(0.3, abs=0.04)


def test_the_same_seed_gives_the_same_split_and_another_another() -> None:
    index = an_index()
    first, again = (freeze_split(index, SplitSettings(seed=3)) for _ in range(2))
    assert first == again
    assert freeze_split(index, SplitSettings(seed=4)).groups != first.groups


@pytest.mark.parametrize("patients", [3, 4, 7])
def test_a_few_patients_still_fill_every_part(patients: int) -> None:
    cases = tuple(case(n, f"p{n}") for n in range(patients))
    split = freeze_split(ArchiveIndex(cases), SplitSettings())
    assert min(len(ids) for ids in split.groups.values()) >= 1


def test_two_patients_cannot_fill_three_parts() -> None:
    cases = tuple(case(n, f"p{n % 2}") for n in range(10))
    with pytest.raises(SettingsError, match=r"no case is left for .*: 10 cases of 2 patients"):
        freeze_split(ArchiveIndex(cases), SplitSettings())


def test_the_command_warns_of_scans_that_training_will_leave_out(tmp_path: Path) -> None:
    cases = tuple(replace(case(n, f"p{n}"), kind="scan") for n in range(3))
    nodules = (Nodule("c0", (0, 0, 0), 5.0), Nodule("c1", (0, 0, 0), 5.0))
    write_index(tmp_path / "index.csv", ArchiveIndex(cases, nodules=nodules))
    command = ["split", str(tmp_path / "index.csv"), "--out", str(tmp_path / "split.json")]
    printed = CliRunner().invoke(app, command).output
    assert "test: 1 case of 1 patient\n" in printed
    assert "warning: few_annotated_patients: only 2 of 3 patients" in printed


def test_refused_cases_are_left_out() -> None:
    cases = tuple(case(n, f"p{n}", status="not_analysed") for n in range(5))
    more = tuple(case(n, f"p{n}") for n in range(5, 10))
    split = freeze_split(ArchiveIndex(cases + more), SplitSettings())
    assert set(homes_of(split)) == {f"c{n}" for n in range(5, 10)}


def official(*origins: str, patients: str = "abcdef") -> ArchiveIndex:
    cases = (case(n, patients[n], origin=origin) for n, origin in enumerate(origins))
    return ArchiveIndex(tuple(cases), fingerprint="f")


def test_the_folders_own_split_is_taken_if_it_does_not_leak() -> None:
    index = official("train", "val", "test", "train")
    split = freeze_split(index, SplitSettings(kind="official"))
    assert split.groups == {"train": ("c0", "c3"), "val": ("c1",), "test": ("c2",)}


def test_the_folders_own_split_is_refused_with_every_leaking_patient() -> None:
    index = official("train", "val", "test", "test", patients="aabb")
    with pytest.raises(SeriesError) as caught:
        freeze_split(index, SplitSettings(kind="official"))
    assert caught.value.reasons[0] == "patient a: 2 cases in train and val"
    assert not any(reason.startswith("patient b") for reason in caught.value.reasons)


def test_equal_pixels_under_two_identities_are_a_leak() -> None:
    index = official("train", "val", "test", patients="abc")
    same = tuple(replace(c, content="d") if c.origin != "val" else c for c in index.cases)
    with pytest.raises(SeriesError, match="0 patients and 1 equal pictures"):
        freeze_split(replace(index, cases=same), SplitSettings(kind="official"))


def test_luna16_subsets_become_folds_in_their_order() -> None:
    origins = [f"subset{n}" for n in (0, 10, 2)]
    split = freeze_split(official(*origins), SplitSettings(kind="official"))
    assert split.groups == {"fold0": ("c0",), "fold1": ("c2",), "fold2": ("c1",)}
    parts = split.parts(2)
    assert (parts.test, parts.val, parts.train) == (("c1",), ("c0",), ("c2",))


@pytest.mark.parametrize("origins", [("train", "test"), ("train", "val", "test", ""), ("", "")])
def test_folders_that_name_no_whole_split_are_refused(origins: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match="no official split"):
        freeze_split(official(*origins), SplitSettings(kind="official"))


@pytest.mark.parametrize("kind", ["fractions", "folds", "train", "subset"])
def test_a_split_reads_back_as_written(tmp_path: Path, kind: str) -> None:
    if kind in ("fractions", "folds"):
        split = freeze_split(an_index(), SplitSettings(kind=kind))  # type: ignore[arg-type]
    else:
        parts = ("train", "val", "test") if kind == "train" else ("subset0", "subset1", "subset2")
        split = freeze_split(official(*parts), SplitSettings(kind="official"))
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split


def test_a_check_names_what_leaks_in_a_frozen_split() -> None:
    index = an_index()
    split = freeze_split(index, SplitSettings())
    assert check_index(index, split).usable
    first = split.groups["train"][0]
    moved = {**split.groups, "test": (*split.groups["test"], first)}
    moved["train"] = tuple(c for c in split.groups["train"] if c != first)
    patient = next(c.patient_id for c in index.cases if c.case_id == first)
    found = check_index(index, replace(split, groups=moved))
    assert [leak.patients for leak in found.leaks[-1].leaks] == [(patient,)]
    assert not found.usable


def test_a_check_refuses_a_split_of_another_index() -> None:
    index = an_index()
    split = freeze_split(index, SplitSettings())
    with pytest.raises(SeriesError, match="not of this index"):
        check_index(replace(index, fingerprint="g"), split)
