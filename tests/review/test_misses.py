"""Missed nodules, false marks and their strata agree with the evaluation and with counting."""

import io

import numpy as np
import pytest
from PIL import Image

from medkd.geometry import VoxelGrid
from medkd.jsonio import read_json
from medkd.review.cases import CaseMarks, number_marks, read_case_marks
from medkd.review.crops import COLORS, draw_crop
from medkd.review.misses import WrongPlace, find_false_marks, find_missed, find_mistakes
from medkd.review.outcomes import nodule_name, numbered
from medkd.review.strata import ALL, NEAR_MM, Stratum, build_lung_map, find_strata
from medkd.types import (
    Candidate,
    CaseResult,
    Evaluation,
    LungPlace,
    MarkPlace,
    Nodule,
    Scan,
)
from tests.report.run_factory import write_example_run

SMALL = Nodule("a", (0.0, 0.0, 10.0), 4.0)
LARGE = Nodule("a", (50.0, 0.0, 0.0), 12.0)
OTHER = Nodule("b", (0.0, 0.0, 0.0), 8.0)
EXCLUDED = Nodule("a", (90.0, 0.0, 0.0), 6.0, "excluded")
FINDINGS = {"a": [SMALL, LARGE, EXCLUDED], "b": [OTHER], "c": []}


def marks_at(**scores_of_scans):
    """Build marks at (x, 0, 0) with a score, by scan."""
    return {
        scan: CaseMarks(number_marks([Candidate(scan, place, score, 7.0) for place, score in rows]),
                        "whole-scan")
        for scan, rows in scores_of_scans.items()
    }  # fmt: skip


MARKS = marks_at(
    a=[((50.0, 0.0, 1.0), 0.3), ((90.0, 0.0, 0.0), 0.9), ((20.0, 0.0, 0.0), 0.8)],
    b=[((0.0, 0.0, 0.0), 0.7), ((1.0, 0.0, 0.0), 0.6), ((99.0, 0.0, 0.0), 0.95)],
    c=[((5.0, 0.0, 0.0), 0.5)],
)


def test_missed_nodules_come_by_size_with_the_best_score_in_them():
    missed = find_missed(FINDINGS, MARKS, threshold=0.5)
    assert [(one.diameter_mm, one.score) for one in missed] == [(12.0, 0.3), (4.0, None)]
    assert find_missed(FINDINGS, MARKS, threshold=0.3) == missed[1:]


def test_a_missed_nodule_has_the_name_of_its_ring():
    (first, _) = find_missed(FINDINGS, MARKS, threshold=0.5)
    number = next(number for number, nodule in numbered(FINDINGS["a"]) if nodule == LARGE)
    assert first.ring_id == nodule_name(number)


def test_false_marks_come_by_score_without_hits_and_excluded_findings():
    false = find_false_marks(FINDINGS, MARKS, threshold=0.5)
    assert [(one.case_id, one.score) for one in false] == [("b", 0.95), ("a", 0.8), ("c", 0.5)]
    assert false[0].ring_id == MARKS["b"].marks[0].mark_id
    assert len(find_false_marks(FINDINGS, MARKS, threshold=None)) == 3


def test_mistakes_agree_with_the_evaluation(tmp_path):
    run = write_example_run(tmp_path / "run")
    evaluation = read_json(run.evaluation, Evaluation)
    found = find_mistakes(run, evaluation, read_case_marks(run, "student"), arm="student")
    point = evaluation.arm("student").froc[1].at_operating_point
    assert (found.track, found.threshold) == ("whole-scan", point.threshold)
    assert len(found.missed) == point.false_negatives
    assert len(found.false_marks) == point.false_positives


def test_a_run_of_images_has_no_mistakes_on_scans(tmp_path):
    run = write_example_run(tmp_path / "run", kind="image")
    evaluation = read_json(run.evaluation, Evaluation)
    assert find_mistakes(run, evaluation, {}, arm="student") is None


def searched(seriesuid, *rows):
    places = tuple(
        MarkPlace((0, 0, 0), lung=None if lung is None else LungPlace(*lung)) for _, lung in rows
    )
    marks = tuple(Candidate(seriesuid, point, 0.5) for point, _ in rows)
    return CaseResult(seriesuid, marks, "analysed", places=places)


def test_strata_count_nodules_found_ones_and_false_marks():
    lungs = build_lung_map([
        searched("a", ((0.0, 0.0, 12.0), ("right", "upper")),
                 ((52.0, 0.0, 0.0), ("left", "lower"))),
        searched("b", ((0.0, 0.0, 0.0), ("right", "lower"))),
    ])  # fmt: skip
    missed = find_missed(FINDINGS, MARKS, threshold=0.5)
    false = find_false_marks(FINDINGS, MARKS, threshold=0.5)
    assert find_strata(FINDINGS, missed, false, lungs) == [
        Stratum(ALL, "all nodules", 3, 1, 3),
        Stratum("diameter", "below 6 mm", 1, 0),
        Stratum("diameter", "6 to 10 mm", 1, 1),
        Stratum("diameter", "above 10 mm", 1, 0),
        Stratum("lung", "right", 2, 1, 1),  # the false mark at x = 20 in scan a
        Stratum("lung", "left", 1, 0, 0),
        Stratum("lung", "not known", 0, 0, 2),  # no stored mark near them
        Stratum("third of the lung", "upper", 1, 0, 1),
        Stratum("third of the lung", "lower", 2, 1, 0),
        Stratum("third of the lung", "not known", 0, 0, 2),
    ]


def test_a_place_far_from_every_mark_and_a_mark_without_a_place_are_not_known():
    lungs = build_lung_map([searched("a", ((0.0, 0.0, 0.0), ("left", "upper"))),
                            searched("b", ((0.0, 0.0, 0.0), None))])  # fmt: skip
    assert lungs.find("a", (NEAR_MM, 0.0, 0.0)) == LungPlace("left", "upper")
    assert lungs.find("a", (NEAR_MM + 0.1, 0.0, 0.0)) is None
    assert lungs.find("b", (0.0, 0.0, 0.0)) is None


@pytest.fixture(scope="module")
def scan():
    grid = VoxelGrid.from_parts((40, 40, 20), spacing_mm=(2, 2, 3), origin_mm=(-40, -40, -30))
    return Scan("a", np.full(grid.shape, -1000, dtype=np.int16), grid, "somebody")


def test_a_crop_is_grey_with_a_ring_outside_the_nodule(scan):
    png = draw_crop(scan, (0.0, 0.0, 0.0), 10.0, color="missed")
    pixels = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    ring = (pixels == COLORS["missed"]).all(axis=2)
    grey = (pixels == pixels[:, :, :1]).all(axis=2)
    assert (ring | grey).all()
    gaps = np.hypot(*(np.argwhere(ring) - (pixels.shape[0] - 1) / 2).T) * 0.25
    assert gaps.min() > 5.0  # mm: the radius of the nodule
    assert gaps.max() < 8.0


def test_a_crop_names_nobody_and_a_place_outside_the_scan_has_none(scan):
    png = draw_crop(scan, (0.0, 0.0, 0.0), None, color="mark")
    assert Image.open(io.BytesIO(png)).info == {}
    assert b"somebody" not in png
    assert draw_crop(scan, (0.0, 0.0, 500.0), None, color="mark") is None


def test_an_unknown_diameter_is_sorted_last():
    unknown = {"a": [Nodule("a", (0.0, 0.0, 0.0), -1.0), SMALL]}
    missed = find_missed(unknown, {}, threshold=None)
    assert [one.diameter_mm for one in missed] == [4.0, None]
    assert isinstance(missed[0], WrongPlace)
