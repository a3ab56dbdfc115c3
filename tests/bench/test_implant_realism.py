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


@pytest.mark.xfail(strict=True, reason="mean of five seeds .77, .70 wanted; real nodules have .83")
def test_borders_of_implants_are_hardly_told_from_real_ones():
    assert STORED["discriminator"]["outline"]["auc"] <= 0.70


@pytest.mark.xfail(strict=True, reason=".72 in slices of 3 mm, where version 2 had .69; .70 wanted")
def test_borders_in_slices_of_3_mm_are_hardly_told_from_real_ones():
    assert STORED["by_scan"]["ct_dicom"]["outline"]["auc"] <= 0.70


@pytest.mark.parametrize(
    "scan",
    [
        "ct_dicom",
        pytest.param(
            "ct_lung1",
            marks=pytest.mark.xfail(
                strict=True, reason=".883 in slices of 5 mm; up to .870 wanted"
            ),
        ),
    ],
)
def test_implants_are_told_no_farther_than_real_nodules(scan):
    at_1_mm = STORED["at_1_mm"]
    assert at_1_mm["pairs"] >= 60
    assert at_1_mm[f"implants, {scan}"]["auc"] <= at_1_mm["real nodules"]["high"]


def test_the_same_discriminator_knows_pasted_nodules():
    assert STORED["positive_control"]["outline"]["auc"] >= 0.90


@pytest.mark.parametrize("scan", ["ct_dicom", "ct_lung1"])
def test_the_real_classifier_takes_implants_for_nodules(scan):
    scores = STORED["classifier"]
    assert scores[f"real blob-like places, {scan}"]["p75"] < 0.1
    assert scores["real nodules"]["p50"] > 0.5
    assert scores[f"implants, {scan}"]["p50"] > 0.5
