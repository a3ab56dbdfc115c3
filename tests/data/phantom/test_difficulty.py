"""The generator's stamp, the hash that guards it, and the figures beside every number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medkd.data.phantom import DIFFICULTY, difficulty, difficulty_words, generator_stamp

FIGURES = {
    "generator_version": "9", "difficulty": "0123456789abcdef", "scans": 40,
    "blob_finder": {"cpm": 0.312, "interval_95": [0.28, 0.35], "marks": 4000},
    "luna16_classifier": {"roc_auc": 0.951, "interval_95": [0.93, 0.97], "nodules": 240},
    "masked_surroundings": {"roc_auc": 0.55, "interval_95": None},
}  # fmt: skip
STAMP = "medkd phantom 9 0123456789abcdef"


OLD_PROCESSOR = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-AVX,-FMA4"}
"""Makes the C library take the exponentials and sines of a processor without these (x86, Linux)."""


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(difficulty, "files", lambda _package: tmp_path)
    path = tmp_path / "difficulty.json"
    path.write_text(json.dumps(FIGURES))
    return path


@pytest.mark.slow
def test_the_difficulty_hash_is_that_of_what_the_generator_makes() -> None:
    assert difficulty.probe_hash() == DIFFICULTY, (
        "the same settings give other phantoms than before: raise GENERATOR_VERSION, set "
        "DIFFICULTY to this hash, and run `medkd bench bench/phantom_difficulty` anew"
    )


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_what_the_processor_can_do() -> None:
    features = np.show_config("dicts")["SIMD Extensions"]["found"]
    code = "from medkd.data.phantom.difficulty import probe_hash; print(probe_hash())"
    done = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", code],
        env={**os.environ, **OLD_PROCESSOR, "NPY_DISABLE_CPU_FEATURES": " ".join(features)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert features
    assert done.stdout.strip() == difficulty.probe_hash()


def test_known_figures_are_given_in_one_line_with_their_intervals(figures) -> None:
    assert difficulty_words(STAMP) == (
        f"{STAMP}: blob finder CPM 0.31 [0.28, 0.35], LUNA16 classifier AUC 0.95 [0.93, 0.97], "
        "masked surroundings AUC 0.55 (40 full scans)"
    )


def test_figures_of_another_generator_are_not_shown(figures) -> None:
    assert difficulty_words("medkd phantom 1").endswith("not measured for this generator")
    assert difficulty.known_figures(generator_stamp()) is None


def test_a_figure_that_was_not_measured_says_so(figures: Path) -> None:
    figures.write_text(json.dumps({**FIGURES, "luna16_classifier": None}))
    assert "LUNA16 classifier AUC not measured" in difficulty_words(STAMP)


def test_without_figures_it_says_not_measured(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(difficulty, "files", lambda _package: tmp_path)
    assert difficulty_words(STAMP) == f"{STAMP}: difficulty not measured for this generator"


def test_figures_that_no_bench_left_are_refused(figures: Path) -> None:
    figures.write_text("{}")
    with pytest.raises(ValueError, match=r"difficulty\.json"):
        difficulty.known_figures(STAMP)
