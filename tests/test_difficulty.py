"""The difficulty of a phantom generator, as it is printed beside every number."""

from __future__ import annotations

from medkd.difficulty import MEASURED, difficulty_words


def test_known_figures_are_given_in_one_line_with_their_intervals() -> None:
    ((stamp, figures),) = MEASURED.items()
    assert difficulty_words(stamp) == f"{stamp}: {figures}"


def test_figures_of_another_generator_are_not_shown() -> None:
    assert difficulty_words("medkd phantom 1").endswith("not measured for this generator")


def test_implanted_nodules_have_no_difficulty() -> None:
    assert difficulty_words("medkd implant 1").endswith(": synthetic nodules in real scans")
