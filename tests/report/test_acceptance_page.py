"""The page of an acceptance test: words and order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medkd.acceptance.results import Acceptance, AcceptanceSettings, ScoredNodule, ScoredScan
from medkd.acceptance.score import score_points
from medkd.provenance import start_record
from medkd.report.acceptance import build_acceptance_page, summary_of
from medkd.synthetic.implant.kept import NoduleRow, Views
from medkd.types import OperatingPoint

POINTS = {
    "whole-scan": OperatingPoint(0.5, "r", fp_per_scan=1.0),
    "whole-scan@1": OperatingPoint(0.5, "r", fp_per_scan=1.0),
    "whole-scan@4": OperatingPoint(0.1, "r", chosen_on="local scans", fp_per_scan=3.9),
}


def nodule(number: int, score: float) -> ScoredNodule:
    row = NoduleRow((0.0, 0.0, 0.0), 5.0 + number, "solid", "round", "vessel", 40, 800, 9.0)
    return ScoredNodule(row, score, 0.2)


def example(count: int = 20) -> Acceptance:
    """Of the nodules of two scans, every second has no mark; the others have 0.75."""
    scans = tuple(
        ScoredScan(
            f"s{n}", f"p{n}", analysed=True, annotated=n == 0, false_scores=(0.6, 0.2),
            nodules=tuple(nodule(i, 0.75 * (i % 2)) for i in range(count)),
        )
        for n in range(2)
    )  # fmt: skip
    return Acceptance(
        model="detector3d, weights 0123",
        settings=AcceptanceSettings().model_dump(mode="json"),
        ready=7,
        scans=(*scans, ScoredScan("s9", "p9", analysed=False, reasons=("dark <b>",))),
        points=tuple(score_points(scans, POINTS, seed=0)),
        cautions=("the model was trained on synthetic scans",),
        record=start_record("", seed=0, device="cpu", deterministic=False, command="medkd accept"),
    )


def views_of(result: Acceptance) -> list[Views]:
    picture = np.zeros((4, 4), dtype=np.int16)
    return [
        Views(n.nodule, picture, picture, picture, picture, aspect=1.0) for _, n in result.nodules
    ]


def test_one_sentence_for_each_threshold() -> None:
    first, second = summary_of(example())
    assert first == (
        "At the threshold for 1 FP per scan (default): 20 of 40 synthetic nodules found, "
        "sensitivity 0.500 (0.500 to 0.500); 1.000 (1.000 to 1.000) false marks per unchanged scan."
    )
    assert second.startswith("At the threshold for 4 FP per scan: 20 of 40")


def test_missed_nodules_are_shown_first() -> None:
    result = example(count=6)
    page = build_acceptance_page(result, views_of(result))
    (pictures,) = [section for section in page.sections if section.key == "pictures"]
    titles = [figure.title for figure in pictures.figures]
    assert [("missed" in title) for title in titles] == [True] * 6 + [False] * 6
    assert titles[0] == "s0: 5.0 mm, solid, at a vessel; missed, no mark"
    assert titles[-1].endswith("found, probability 0.750")


def test_tables_have_the_chance_row_the_expected_rate_and_the_reasons() -> None:
    result = example()
    sections = build_acceptance_page(result, views_of(result)).sections
    page = {section.key: section for section in sections}
    (sensitivity,) = page["sensitivity"].tables
    assert sensitivity.rows[-1] == ("All, before they were added", "40", "0.000", "1.000")
    (false,) = page["false"].tables
    assert false.rows[1][-2:] == ("local scans", "3.90")
    assert page["scans"].tables[1].rows == (("s9", "not analysed", "dark <b>"),)
    assert "Caution: the model was trained on synthetic scans." in page["summary"].paragraphs


def test_without_nodules_the_page_has_the_false_marks_alone() -> None:
    result = example()
    bare = tuple(replace(scan, nodules=()) for scan in result.scans)
    result = replace(result, scans=bare, points=tuple(score_points(bare, POINTS, seed=0)))
    page = build_acceptance_page(result, [])
    assert "pictures" not in [section.key for section in page.sections]
    assert summary_of(result)[0] == (
        "At the threshold for 1 FP per scan (default): 1.000 (1.000 to 1.000) false marks per "
        "unchanged scan."
    )
