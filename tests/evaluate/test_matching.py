"""The best mark of each nodule."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medkd.evaluate.matching import match_marks, nodule_scores
from tests.evaluate.places import mark, nodule, reference


def test_each_nodule_has_the_score_of_its_best_mark_in_its_own_order() -> None:
    truth = reference(nodule("b", 0), nodule("a", 0), nodule("a", 50), uids="ab")
    marks = [mark("a", 1, 0.2), mark("a", -1, 0.7), mark("b", 3.9, 0.5), mark("a", 54, 0.9)]
    assert nodule_scores(marks, truth).tolist() == [0.5, 0.7, -np.inf]  # 4 mm is not inside


@given(st.lists(st.tuples(st.integers(0, 120), st.floats(0, 1)), max_size=130))
def test_it_agrees_with_the_official_matching(rows: list[tuple[int, float]]) -> None:
    truth = reference(*(nodule("a", x) for x in (0, 20, 40)))
    marks = [mark("a", x, score) for x, score in rows]
    found = match_marks(marks, truth)
    best = nodule_scores(marks, truth)
    assert sorted(best[np.isfinite(best)]) == sorted(found.scores[found.is_nodule])
