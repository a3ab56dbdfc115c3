"""`medkd accept`: synthetic nodules in a site's own scans, and a page of results."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medkd.acceptance import run as running
from medkd.acceptance.results import Acceptance
from medkd.cli import app
from medkd.errors import MedkdError
from medkd.index.case import Case
from medkd.io.metaimage import write_mhd
from medkd.jsonio import read_json
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from tests.calibration_worlds import write_density_model
from tests.data.archives import write_archive
from tests.report.pages import Page

OPTIONS = ("--n", "2", "--sizes", "5-12")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two phantoms, of which the first has annotations; between them a scan cut off."""
    folder = tmp_path_factory.mktemp("site")
    cases, nodules = [], []
    for number, seed in enumerate((3, 4, 5)):
        made = make_phantom(PhantomSettings(site="b", seed=seed), 0)
        path = folder / "DOE^JANE" / f"{number}.mhd"
        path.parent.mkdir(exist_ok=True)
        write_mhd(made.scan, path)
        cases.append((Case(f"s{number}", f"p{number}", "scan"), (path, path.with_suffix(".raw"))))
        if number == 0:
            found = (*made.nodules, *made.excluded)
            nodules = [replace(nodule, seriesuid="s0") for nodule in found]
    (folder / "DOE^JANE" / "1.raw").write_bytes(b"cut off")
    return write_archive(folder / "work", cases, nodules=nodules)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_density_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def made(index: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out") / "accepted"
    done = invoke(model, index, "--out", out)
    assert done.exit_code == 0, done.output
    return out, done.output


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, ["accept", *map(str, words), *OPTIONS])


def result_of(out: Path) -> Acceptance:
    return read_json(out / "acceptance.json", Acceptance)


def test_a_scan_that_cannot_be_read_is_listed_and_does_not_end_the_test(made) -> None:
    out, output = made
    result = result_of(out)
    assert [scan.analysed for scan in result.scans] == [True, False, True]
    assert "not analysed: s1" in output
    assert "2 scans of 2 patients tested, 4 synthetic nodules" in output
    assert "s1" in (out / "report.html").read_text()


def test_every_nodule_has_a_row_with_the_probability_of_its_mark(made) -> None:
    with (made[0] / "nodules.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["s0", "s0", "s2", "s2"]
    assert all(5 <= float(row["diameter_mm"]) <= 12 for row in rows)
    scores = [nodule.score for _, nodule in result_of(made[0]).nodules]
    assert [float(row["probability"]) for row in rows] == scores
    assert max(scores) > 0


def test_a_mark_on_an_annotated_finding_is_not_false(index: Path, made) -> None:
    first, _, last = result_of(made[0]).scans
    assert (first.annotated, last.annotated) == (True, False)
    assert all(len(scan.false_scores) <= 100 for scan in (first, last))
    assert list(first.false_scores) == sorted(first.false_scores, reverse=True)


def test_the_page_says_what_it_is_and_what_it_is_not(made) -> None:
    text = (made[0] / "report.html").read_text()
    page = Page(text)
    assert page.balanced
    for words in (
        "no clinical performance can be read from them",
        "No evidence of clinical performance",
        "No independent test, if the same program made nodules from which the model learned",
        "upper bound",
        "protect this page like the scans",
    ):
        assert words in text
    assert text.count("data:image/png") == 4


def test_no_name_of_a_patient_or_folder_is_in_the_result(made) -> None:
    texts = [path.read_text() for path in made[0].iterdir()]
    assert len(texts) == 3
    assert not any("DOE" in text or "work/index" in text for text in texts)


def test_a_stopped_test_goes_on_after_its_last_scan(
    index: Path, model: Path, made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = running.implant_scan, []

    def stop_at_second(*given, **named):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given, **named)

    monkeypatch.setattr(running, "implant_scan", stop_at_second)
    stopped = invoke(model, index, "--out", tmp_path / "a")
    assert stopped.exit_code == 130
    assert [path.name for path in tmp_path.iterdir()] == [".a.unfinished"]
    assert invoke(model, index, "--out", tmp_path / "a").exit_code == 0
    assert len(calls) == 3
    assert result_of(tmp_path / "a").scans == result_of(made[0]).scans
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_scans_that_failed_are_tried_again_and_if_all_fail_nothing_is_written(
    index: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(running, "open_scan", broken)
        refused = invoke(model, index, "--out", tmp_path / "a")
    assert isinstance(refused.exception, MedkdError)
    assert "s0: unexpected: OSError" in str(refused.exception)
    assert not (tmp_path / "a").exists()
    assert invoke(model, index, "--out", tmp_path / "a").exit_code == 0


def test_a_scan_without_room_still_counts_for_false_marks(
    index: Path, model: Path, tmp_path: Path
) -> None:
    words = ["accept", str(model), str(index), "--out", str(tmp_path / "a"), "--n", "200"]
    done = CliRunner().invoke(app, [*words, "--sizes", "30-40"])
    assert done.exit_code == 0, done.output
    result = result_of(tmp_path / "a")
    assert len(result.analysed) == 2
    assert result.nodules == ()
    assert "no nodules added: s0" in done.output
    assert "false marks per unchanged scan" in done.output


def refusal(*words: object) -> str:
    done = invoke(*words)
    assert isinstance(done.exception, MedkdError), done.output
    return str(done.exception)


def test_a_model_without_a_threshold_for_scans_is_refused(index: Path, tmp_path: Path) -> None:
    plain = write_density_model(tmp_path / "m", operating_points={})
    text = refusal(plain, index, "--out", tmp_path / "out")
    assert "expected a threshold named whole-scan, got none" in text
    assert "medkd calibrate" in text


def test_the_default_model_is_the_shipped_one(index: Path, tmp_path: Path) -> None:
    from medkd.models.shipped import shipped_models

    done = invoke(index, "--out", tmp_path / "out")
    assert "model: ct-nodule-small" in done.output
    assert (done.exit_code == 0) == ("ct-nodule-small" in shipped_models())


def test_exactly_one_index_is_needed(index: Path, model: Path, tmp_path: Path) -> None:
    scan = index.parent.parent / "DOE^JANE" / "0.mhd"
    assert "one index.csv" in refusal(model, scan, "--out", tmp_path / "out")
    assert "one index.csv" in refusal(model, index, index, "--out", tmp_path / "out")
    assert "a model without an input" in refusal(model, "--out", tmp_path / "out")


def test_a_folder_that_is_not_empty_is_refused(index: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    assert "is not empty" in refusal(model, index, "--out", tmp_path)


def test_wrong_options_for_nodules_are_named_together(
    index: Path, model: Path, tmp_path: Path
) -> None:
    words = ["accept", str(model), str(index), "--out", str(tmp_path / "a")]
    done = CliRunner().invoke(app, [*words, "--sizes", "1-2", "--textures", "soft"])
    assert isinstance(done.exception, MedkdError)
    assert "--sizes" in str(done.exception)
    assert "--textures" in str(done.exception)
