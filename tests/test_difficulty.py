"""The difficulty of a phantom generator, as it is printed beside every number."""

from __future__ import annotations

import pytest

from medkd import difficulty
from medkd.difficulty import Difficulty, Figure, difficulty_words

STAMP = "medkd phantom 9 0123456789abcdef"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Difficulty]:
    figures = Difficulty(40, Figure(0.312, 0.28, 0.35), None, Figure(0.55, 0.5, 0.6))
    known = {STAMP: figures}
    monkeypatch.setattr(difficulty, "MEASURED", known)
    return known


def test_known_figures_are_given_in_one_line_with_their_intervals(measured) -> None:
    assert difficulty_words(STAMP) == (
        f"{STAMP}: blob finder CPM 0.31 [0.28, 0.35], LUNA16 classifier AUC not measured, "
        "masked surroundings AUC 0.55 [0.50, 0.60] (40 full scans)"
    )


def test_figures_of_another_generator_are_not_shown(measured) -> None:
    assert difficulty_words("medkd phantom 1").endswith("not measured for this generator")
