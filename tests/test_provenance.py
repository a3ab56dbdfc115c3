"""How many scans are synthetic, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medkd.io.synthetic_mark import count_origins, is_synthetic_note, synthetic_note
from medkd.models.package import ModelInfo, read_info
from medkd.provenance import origin_words, synthetic_words
from medkd.types import CaseOrigins


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"phantom": 7, "real": 4}, "7 synthetic and 4 real scans"),
        ({"phantom": 1, "real": 1}, "1 synthetic and 1 real scan"),
        ({"phantom": 16}, "16 synthetic scans"),
        ({"phantom": 1}, "1 synthetic scan"),
        ({"real": 3}, "3 real scans"),
        ({"implanted": 5}, "5 real scans with synthetic nodules"),
        ({"implanted": 1, "real": 2}, "1 real scan with synthetic nodules and 2 real scans"),
        (
            {"phantom": 7, "implanted": 3, "real": 4},
            "7 synthetic scans, 3 real scans with synthetic nodules and 4 real scans",
        ),
        ({}, "no scans"),
        ({"real": 2, "kind": "images"}, "2 real images"),
    ],
)
def test_counts_become_words(counts: dict[str, int], words: str) -> None:
    assert origin_words(CaseOrigins(**counts)) == words


def test_a_model_of_real_scans_alone_says_nothing() -> None:
    assert synthetic_words(CaseOrigins(real=3), synthetic=False) == ""


def test_scans_that_nobody_counted_are_not_counted() -> None:
    said = "trained on synthetic scans: no clinical performance known"
    assert synthetic_words(None, synthetic=True) == said


def test_a_model_directory_without_counts_still_loads(tmp_path: Path) -> None:
    old = {"settings": {"kind": "shallow2d"}, "trained_on_synthetic": True,
           "generators": ["medkd phantom 1"]}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(old))
    info = read_info(tmp_path)
    assert (info.origins, info.preprocessing.views) == (None, None)
    assert info == ModelInfo({"kind": "shallow2d"}, trained_on_synthetic=True,
                             generators=("medkd phantom 1",))  # fmt: skip


def test_phantoms_and_implants_are_counted_apart_and_noted_differently() -> None:
    stamps = [
        "medkd phantom 2 0123456789abcdef",
        "medkd implant 1",
        "",
        "medkd phantom, version not stated",
    ]
    assert count_origins(stamps, kind="scans") == CaseOrigins(real=1, implanted=1, phantom=2)
    notes = [synthetic_note(stamp) for stamp in stamps[:2]]
    assert notes[0].startswith("synthetic scan: ")
    assert notes[1].startswith("synthetic nodules in a real scan: ")
    assert all(map(is_synthetic_note, notes))
    assert not is_synthetic_note("allowed: slice_thickness")
