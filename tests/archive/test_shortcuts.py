"""A planted number that predicts a label is reported; chance and balanced numbers are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medkd.archive.brightness import BRIGHT
from medkd.archive.notices import Notice
from medkd.archive.shortcuts import measure_numbers, numbers_of, shortcut_notices
from medkd.index.case import Case
from medkd.index.table import ArchiveIndex, CaseLabel

CASES = 200
Bools = NDArray[np.bool_]


def labels_of(cases: tuple[Case, ...], values: Any, name: str = "mass") -> tuple[CaseLabel, ...]:
    pairs = zip(cases, values, strict=True)
    return tuple(
        CaseLabel(case.case_id, name, None if v is None else int(v), "t") for case, v in pairs
    )


def images(present: Bools, **columns: Any) -> ArchiveIndex:
    """Build an index of images, two of each patient, with lists as columns and a label `mass`."""
    cases = tuple(
        Case(f"c{n}", f"p{n // 2}", "image", **{name: of[n] for name, of in columns.items()})
        for n in range(len(present))
    )
    return ArchiveIndex(cases, labels=labels_of(cases, present))


def warned(index: ArchiveIndex, bright: dict[str, float] | None = None) -> list[Notice]:
    return list(shortcut_notices(measure_numbers(index, bright or {})))


def drawn(seed: int = 0) -> tuple[np.random.Generator, Bools]:
    random = np.random.default_rng(seed)
    return random, random.random(CASES) < 0.4


def test_a_view_that_predicts_the_label_is_reported_with_its_shares() -> None:
    random, present = drawn()
    portable = random.random(CASES) < np.where(present, 0.8, 0.3)
    found = warned(images(present, view=np.where(portable, "AP", "PA").tolist()))

    assert [notice.code for notice in found] == ["shortcut"]
    first, second = (f"{100 * present[portable == one].mean():.0f} %" for one in (1, 0))
    assert found[0].text.startswith("in images, view alone predicts mass (AUC 0.")
    assert f"AP {first}" in found[0].text
    assert f"PA {second}" in found[0].text
    assert "balance" in found[0].remedy


def test_bright_pixels_that_predict_the_label_are_reported_as_part_of_the_finding() -> None:
    random, present = drawn()
    areas = np.where(present, 0.2, 0.1) + random.normal(0, 0.05, CASES)
    bright = {f"c{n}": float(area) for n, area in enumerate(areas)}

    found = warned(images(present), bright)

    assert [notice.text.partition(" alone")[0] for notice in found] == [f"in images, {BRIGHT}"]
    assert "only what it adds counts" in found[0].remedy


def test_a_status_that_follows_the_label_is_reported() -> None:
    random, present = drawn()
    refused = random.random(CASES) < np.where(present, 0.1, 0.7)
    status = np.where(refused, "not_analysed", "ready").tolist()

    found = warned(images(present, status=status))

    assert found[0].text.startswith("in images, status alone predicts mass")
    assert "no fair sample" in found[0].remedy


def test_columns_that_are_equal_in_both_classes_are_no_shortcut() -> None:
    present = np.arange(CASES) % 4 < 2  # both cases of a patient are alike
    views = ["AP" if n % 2 else "PA" for n in range(CASES)]
    index = images(present, view=views, manufacturer=[f"m{n % 2}" for n in range(CASES)])
    bright = {f"c{n}": (n % 40) / 100 for n in range(CASES)}

    assert {one.number for one in measure_numbers(index, bright)} == {
        "view", "manufacturer", BRIGHT
    }  # fmt: skip
    assert warned(index, bright) == []


def test_a_single_category_is_not_compared() -> None:
    _, present = drawn()
    assert measure_numbers(images(present, view=["PA"] * CASES), {}) == ()


def test_unknown_and_contradictory_labels_are_left_out() -> None:
    random, present = drawn()
    # Where the label is unknown every view is AP; where it is known, views are random.
    unknown = np.arange(CASES) >= 120
    views = np.where(unknown, "AP", random.choice(["AP", "PA"], CASES)).tolist()
    index = images(present, view=views)
    blank = [None if skip else one for skip, one in zip(unknown, present, strict=True)]
    contradicting = tuple(replace(one, value=1 - int(one.value or 0)) for one in index.labels[160:])
    labels = (*labels_of(index.cases, blank), *index.labels[160:], *contradicting)

    found = measure_numbers(replace(index, labels=labels), {})

    assert [one.separation.cases for one in found] == [120]


def test_few_cases_are_not_compared() -> None:
    present = np.arange(CASES) < 19
    views = np.where(present, "AP", "PA").tolist()
    assert measure_numbers(images(present, view=views), {}) == ()


@pytest.mark.parametrize("alike", [False, True], ids=["cases differ", "cases of a patient alike"])
def test_chance_among_many_columns_rarely_warns(*, alike: bool) -> None:
    """Of labels without any shortcut at most one in 20 may be warned about."""
    wrong = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        repeats = 2 if alike else 1

        def column(values: Any, repeats: int = repeats, random: Any = random) -> list[Any]:
            return np.repeat(random.choice(values, CASES // repeats), repeats).tolist()

        index = images(
            np.asarray(column([False, False, True])),
            site=column(["a", "b", "c"]),
            manufacturer=column(list("uuuuvwxyz")),
            view=column(["AP", "PA", "PA"]),
            shape=list(zip(column(range(900, 999)), column(range(900, 999)), strict=True)),
            spacing_mm=[(mm, mm) for mm in column(random.normal(0.2, 0.01, 99))],
        )
        rare = labels_of(index.cases, column([0, 0, 0, 0, 1]), "rare")
        bright = dict(zip([case.case_id for case in index.cases], column(range(99)), strict=True))
        found = measure_numbers(replace(index, labels=(*index.labels, *rare)), bright)
        assert len(found) == 2 * 7
        wrong += len({one.label for one in found if one.is_shortcut})
    assert wrong <= 7  # of 80 at 1/20: P(more than 7) = .05


def scans(present: Bools, extent: str = "whole", **columns: Any) -> ArchiveIndex:
    index = images(present, extent=[extent] * len(present), **columns)
    return replace(index, cases=tuple(replace(case, kind="scan") for case in index.cases))


def test_slice_thickness_of_scans_is_reported_and_patches_are_left_out() -> None:
    random, present = drawn()
    thick = np.where(random.random(CASES) < np.where(present, 0.9, 0.2), 1.0, 2.5).tolist()
    whole, patches = (scans(present, extent, slice_thickness_mm=thick)
                      for extent in ("whole", "patch"))  # fmt: skip

    assert "slice thickness alone predicts mass" in warned(whole)[0].text
    assert measure_numbers(patches, {}) == ()


def test_a_number_of_several_labels_is_one_warning_with_the_strongest_first() -> None:
    random, present = drawn()
    views = np.where(random.random(CASES) < np.where(present, 0.8, 0.2), "AP", "PA")
    index = images(present, view=views.tolist())
    copies = [labels_of(index.cases, views == "AP", f"l{n}") for n in range(4)]
    index = replace(index, labels=(*index.labels, *(row for rows in copies for row in rows)))

    found = warned(index)

    assert len(found) == 1
    assert "predicts l0 (AUC 1.00" in found[0].text
    assert "and 2 more labels" in found[0].text


@pytest.mark.parametrize(
    ("kind", "names"),
    [("scan", {"kernel", "slice thickness", "slice spacing", "number of slices"}),
     ("image", {"modality", "view"})],
)  # fmt: skip
def test_a_case_has_the_columns_of_its_kind(kind: Any, names: set[str]) -> None:
    size = (4, 5, 6) if kind == "scan" else (5, 4)  # (i, j, k), and (row, column)
    found = numbers_of(Case("c", "p", kind, shape=size))
    common = {"status", "site", "manufacturer", "generator", "rows", "columns", "pixel spacing"}
    assert set(found) == common | names
    assert (found["rows"], found["columns"]) == (5.0, 4.0)


def test_synthetic_and_real_cases_differ_in_their_generator() -> None:
    _, present = drawn()
    found = warned(images(present, generator=["phantom 3" if one else "" for one in present]))
    assert "generator alone predicts mass (AUC 1.00" in found[0].text
