from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from medkd.evaluate.curves import build_froc_curve, count_roc

samples = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=40)


@settings(max_examples=150, deadline=None)
@given(samples, st.booleans())
def test_points_are_those_of_scikit_learn(rows, drop):
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] / 4 for row in rows])
    if positive.all() or not positive.any():
        return

    counts = count_roc(positive, scores, drop_intermediate=drop)

    fpr, tpr, thresholds = roc_curve(positive, scores, drop_intermediate=drop)
    assert (counts.false_positives / (~positive).sum()).tolist() == fpr[1:].tolist()
    assert (counts.true_positives / positive.sum()).tolist() == tpr[1:].tolist()
    assert counts.thresholds.tolist() == thresholds[1:].tolist()


@settings(max_examples=100, deadline=None)
@given(samples, st.integers(0, 5), st.integers(1, 30))
def test_the_froc_curve_is_bit_for_bit_that_of_the_official_formulas(rows, missed, scans):
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] / 4 for row in rows])
    if positive.all() or not positive.any():
        return
    nodules = int(positive.sum()) + missed

    curve = build_froc_curve(positive, scores, nodules=nodules, scans=scans)

    # computeFROC of the official script, as written there.
    fpr, tpr, _ = roc_curve(positive, scores)
    assert curve.fp_per_scan.tolist() == (fpr * (len(rows) - positive.sum()) / scans).tolist()
    assert curve.sensitivity.tolist() == ((tpr * positive.sum()) / nodules).tolist()


def test_points_evenly_between_their_neighbours_are_dropped():
    positive = [True, False, False, False, False]

    curve = build_froc_curve(positive, [0.9, 0.8, 0.7, 0.6, 0.5], nodules=1, scans=1)

    # Of 1, 2, 3 and 4 false positives at full sensitivity the last alone stays.
    assert curve.fp_per_scan == pytest.approx([0, 0, 4])
