"""A frozen split: read back as written, refused where it was changed or names no such fold."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkd.errors import SeriesError
from medkd.index.frozen_split import Parts, SplitFile, read_split, write_split

PARTS = SplitFile("fractions", "f", {"train": ("a",), "val": ("b",), "test": ("c",)}, seed=1)
FOLDS = SplitFile("folds", "f", {"0": ("a",), "1": ("b",), "2": ("c",), "3": ("d",)})


@pytest.mark.parametrize("split", [PARTS, FOLDS])
def test_a_split_is_read_back_as_written(tmp_path: Path, split: SplitFile) -> None:
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json") == split


def test_a_fold_is_tested_the_next_one_validates_and_the_others_train() -> None:
    assert FOLDS.parts(3) == Parts(("b", "c"), ("a",), ("d",))
    assert PARTS.parts() == Parts(train=("a",), val=("b",), test=("c",))


@pytest.mark.parametrize(("split", "fold"), [(PARTS, 0), (FOLDS, None), (FOLDS, 4), (FOLDS, -1)])
def test_a_fold_that_is_not_there_is_refused(split: SplitFile, fold: int | None) -> None:
    with pytest.raises(SeriesError, match="not a fold of this split"):
        split.parts(fold)


def test_a_split_changed_by_hand_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path / "split.json", PARTS)
    text = (tmp_path / "split.json").read_text()
    (tmp_path / "split.json").write_text(text.replace('"a"', '"x"'))
    with pytest.raises(SeriesError, match="it was changed since it was frozen"):
        read_split(tmp_path / "split.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 1, "groups": 3}'])
def test_what_is_no_split_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(SeriesError, match="not a usable split"):
        read_split(tmp_path / "split.json")
