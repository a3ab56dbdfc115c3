"""The stored result of the realism bench, and the bars that it is held against."""

import json

import pytest

from medkd.synthetic.implant.make import VERSION
from tests.bench.implant_realism import RESULT, SEEDS, TUNING_SEEDS

STORED = json.loads(RESULT.read_text())


def test_the_result_is_that_of_these_implants():
    assert STORED["generator_version"] == VERSION
    assert STORED["seeds"] == list(SEEDS)
    assert not {*SEEDS} & {*TUNING_SEEDS}
    assert sum(STORED["implants_of_each_seed"].values()) >= 200


def test_the_discriminator_finds_pasted_spheres():
    assert STORED["positive_control"]["auc"] >= 0.90


@pytest.mark.parametrize("scan", ["ct_dicom", "ct_lung1"])
def test_the_real_classifier_takes_implants_for_nodules(scan):
    scores = STORED["classifier"]
    assert scores[f"real blob-like places, {scan}"]["p75"] < 0.1
    assert scores["real nodules"]["p50"] > 0.5
    assert scores[f"implants, {scan}"]["p50"] > 0.5
