"""What a run states about its sites: source and target, or the sites of one INDEX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medkd.config.run_settings import RunSettings
from medkd.index.table import read_index, write_index
from medkd.jsonio import read_json
from medkd.report.render import write_report
from medkd.runs import RunFolder
from medkd.train.domains import build_domain
from medkd.train.logs import no_progress
from medkd.train.plan import RunContext
from medkd.train.run import run_training
from medkd.train.shift import MOST_SITES, find_sites, measure_shift
from medkd.types import Evaluation, SiteShift
from tests.data.archives import write_xray_archive
from tests.train.two_sites import two_site_values

Values = dict[str, Any]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Values:
    return two_site_values(tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="module")
def finished(values: Values, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("finished") / "run")
    run_training(RunSettings.model_validate(values), run)
    return run


@pytest.fixture(scope="module")
def shift(finished: RunFolder) -> SiteShift:
    found = read_json(finished.evaluation, Evaluation).shift
    assert found is not None
    return found


def test_both_domains_are_sites_with_all_their_cases(shift: SiteShift) -> None:
    source, target = shift.sites
    assert (source.name, target.name) == ("source: pneumoniamnist", "target: pneumoniamnist")
    assert (source.cases, source.patients, source.measured) == (288, 288, 96)
    assert (target.cases, target.patients, target.measured) == (144, 144, 48)


def test_intensities_are_those_of_the_held_out_images(values: Values, shift: SiteShift) -> None:
    stored = np.load(values["target"]["data"]["path"])
    held = np.concatenate([stored[f"{part}_images"].ravel() for part in ("val", "test")])
    target = shift.sites[1]

    assert target.unit == "grey"
    assert target.mean == pytest.approx(held.mean())
    assert target.sd == pytest.approx(held.std())
    assert target.quantiles["0.5"] == np.quantile(held, 0.5, method="inverted_cdf")


def test_every_arm_has_a_distance_of_the_two_sites(shift: SiteShift) -> None:
    assert [found.arm for found in shift.distances] == ["teacher", "control", "student"]
    for found in shift.distances:
        assert found.samples == found.patients == (96, 48)
        assert 0.001 < found.p_value < 0.05  # 500 exchanges: at least 1 / 501
        assert 0.6 < found.roc_auc <= 1.0
        assert found.squared_mmd > 0.01


def test_the_same_run_measures_the_same_again(finished: RunFolder, values: Values, tmp_path: Path,
                                              shift: SiteShift) -> None:  # fmt: skip
    context = context_of(values, tmp_path)
    again = measure_shift(replace(context, run=finished), ["teacher", "control", "student"])

    assert again == shift


def test_the_report_of_the_run_shows_the_sites(finished: RunFolder) -> None:
    write_report(finished)
    page = finished.report.read_text(encoding="utf-8")

    assert "Shift between sites" in page
    assert "source: pneumoniamnist" in page


def context_of(values: Values, work: Path) -> RunContext:
    settings = RunSettings.model_validate(values)
    target = build_domain(settings.target, work_dir=work, seed=0)
    source = build_domain(settings.source, work_dir=work, seed=0) if settings.source else target
    return RunContext(settings, RunFolder(work / "run"), source, target, "cpu", no_progress)


def test_a_run_on_one_site_measures_nothing(values: Values, tmp_path: Path) -> None:
    context = context_of(values | {"source": None}, tmp_path)

    assert len(find_sites(context)) == 1
    assert measure_shift(context, ["teacher"]) is None


def xray_values(folder: Path, sites: int) -> Values:
    """A run on radiographs of an INDEX from several sites; the images of one site are alike."""
    index = write_xray_archive(folder, patients=48)
    archive = read_index(index)
    cases = tuple(
        replace(case, site=f"s{int(case.patient_id[1:]) // 2 % sites}") for case in archive.cases
    )
    write_index(index, replace(archive, cases=cases))
    training = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    return {
        "name": "xray",
        "device": "cpu",
        "target": {
            "data": {"kind": "archive", "index": str(index), "cases": "images"},
            "split": {"kind": "fractions", "val": 0.3, "test": 0.3},
            "loading": [{"kind": "image", "source": "file", "size_px": [20, 16]}],
        },
        "teacher": {"model": {"kind": "shallow2d", "channels": 4}, "training": training},
        "evaluation": {"bootstrap": 0},
    }


def test_the_sites_of_an_index_are_compared_within_one_domain(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")

    evaluation = run_training(RunSettings.model_validate(xray_values(tmp_path, 3)), run)

    found = evaluation.shift
    names = [site.name for site in found.sites]
    assert [name.rpartition(", ")[2] for name in names] == ["s0", "s1", "s2"]
    assert all(name.startswith("target: ") for name in names)
    assert sum(site.cases for site in found.sites) == 94  # 96, one refused, one lateral view
    pairs = {(d.first[-2:], d.second[-2:]) for d in found.distances}
    assert pairs == {("s0", "s1"), ("s0", "s2"), ("s1", "s2")}
    assert all(d.patients[0] < d.samples[0] for d in found.distances)  # two images a patient


def test_a_site_with_hardly_any_held_out_sample_is_left_out_and_named(
    values: Values, finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = replace(context_of(values, tmp_path), run=finished)
    source, target = find_sites(context)
    one = replace(target, name="target: small", rows={"val": [3], "test": []})
    monkeypatch.setattr("medkd.train.shift.find_sites", lambda _: [source, target, one])

    found = measure_shift(context, ["teacher"])

    assert [site.name for site in found.sites] == [source.name, target.name]
    assert found.notes == ("target: small is left out: it has 1 held-out samples, fewer than 2.",)


def test_of_many_sites_the_largest_are_compared_and_the_report_says_so(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")

    evaluation = run_training(RunSettings.model_validate(xray_values(tmp_path, 8)), run)

    found = evaluation.shift
    assert len(found.sites) == MOST_SITES
    assert found.notes == (f"Of 8 sites, the {MOST_SITES} with most cases are compared.",)
