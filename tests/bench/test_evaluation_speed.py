"""Processor time of scoring: `medkd froc` on real marks, and the comparison of arms over seeds."""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from medkd.evaluate.intervals import LabelledSamples, two_way_difference
from tests.real_data import data_root

pytestmark = pytest.mark.bench

FROC = "from medkd.cli import main; main()"
TABLES = """
import sys
import pandas
for path in sys.argv[1:]:
    pandas.read_csv(path)
"""
TABLES_BAR = 4.0


def child_seconds(program: str, *words: object) -> float:
    """Processor time of a Python process: other work on the machine does not count."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-c", program, *map(str, words)], check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_froc_of_55000_marks_costs_at_most_4_times_what_pandas_needs_to_read_the_tables() -> None:
    folder = data_root() / "luna16"
    names = ("deeplung_marks", "annotations", "annotations_excluded", "seriesuids")
    marks, annotations, excluded, seriesuids = (folder / f"{name}.csv" for name in names)
    words = ["--marks", marks, "--annotations", annotations, "--excluded", excluded]
    words += ["--seriesuids", seriesuids]
    froc, tables = [], []
    for _ in range(3):
        froc.append(child_seconds(FROC, "froc", *words))
        tables.append(child_seconds(TABLES, marks, annotations, excluded, seriesuids))
    assert min(froc) < TABLES_BAR * min(tables), (froc, tables)
    assert min(froc) < 3.0, froc


def test_five_seeds_of_624_samples_are_compared_within_3_seconds() -> None:
    generator = np.random.default_rng(0)
    samples = LabelledSamples(generator.integers(0, 2, 624), [str(i) for i in range(624)])
    first, second = generator.random((2, 5, 624))
    started = time.process_time()

    two_way_difference(first, second, samples, metric="roc_auc", resamples=1000)

    assert time.process_time() - started < 3.0
