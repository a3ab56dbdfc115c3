"""Decisions of readers on whole X-rays become labels: results, review, index, split, train."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medkd.index.case_store import open_image
from medkd.index.scan_states import label_values
from medkd.index.table import ArchiveIndex, read_index
from medkd.jsonio import read_json, write_json
from medkd.review.opened import open_review
from medkd.review.store import WHOLE_CASE, Decision, open_store
from medkd.runs import ResultsFolder, SearchRecord
from medkd.types import CaseResult, Evaluation
from tests.cli.test_hospital import TEACHER, command, settings

pytestmark = pytest.mark.slow

IMAGES = 32
NOTE = "seen by Dr Ottokar Quacksalber"


def write_pictures(root: Path) -> None:
    random = np.random.default_rng(2)
    root.mkdir()
    for number in range(IMAGES):
        pixels = random.normal(100, 20, (64, 64))
        pixels[24:40, 24:40] += 70 * (number % 2)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number:02d}.png")


def write_results(folder: Path, index: ArchiveIndex) -> ResultsFolder:
    """Write what `medkd detect` leaves of a model for masses and nodules."""
    folder.mkdir()
    results = ResultsFolder(folder)
    record = SearchRecord("image", "m", "i", IMAGES, labels=("Nodule or Mass",), notes=())
    write_json(results.record, record)
    for case in index.cases:
        probabilities = {"Nodule or Mass": 0.5}
        found = CaseResult(case.case_id, (), "analysed", kind="image", probabilities=probabilities)
        write_json(folder / f"{case.case_id}.json", found)
    return results


def decide(place: Path | str, *rows: tuple[str, str, str]) -> None:
    """Save (case, reader, verdict) rows in a store."""
    store = open_store(place)
    for case_id, reader, verdict in rows:
        seen = store.change(Decision(case_id, WHOLE_CASE, reader, "undecided"), "note", NOTE).newest
        store.change(seen, "verdict", verdict)
    store.close()


def is_bright(index: Path, case_id: str) -> bool:
    pixels = open_image(index, case_id).pixels
    return bool(pixels[26:38, 26:38].mean() > 1.3 * pixels[:20].mean())


@dataclass(frozen=True)
class Reviewed:
    """A folder with archive, INDEX and RESULTS; the agreed values; what `medkd index` printed."""

    place: Path
    wanted: dict[str, int]
    said: str

    @property
    def index(self) -> Path:
        return self.place / "work" / "index.csv"


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Reviewed:
    """Index X-rays without labels, decide on results, and index with the decisions."""
    place = tmp_path_factory.mktemp("reviewed")
    write_pictures(place / "archive")
    index = place / "work" / "index.csv"
    command("index", f"{place / 'archive'}", "--out", f"{index}")
    results = write_results(place / "found", read_index(index))
    bright = {case.case_id: int(is_bright(index, case.case_id)) for case in read_index(index).cases}
    assert sum(bright.values()) == IMAGES // 2
    tied, withdrawn, *_ = (name for name, value in bright.items() if value)
    outvoted = next(name for name, value in bright.items() if not value)
    words = {0: "reject", 1: "accept"}
    decide(
        results.review,
        *((name, "anna", words[value]) for name, value in bright.items()),
        (tied, "ben", "reject"),
        (withdrawn, "anna", "undecided"),
        (outvoted, "ben", "accept"),
        (outvoted, "carl", "accept"),
    )
    said = command("index", f"{place / 'archive'}", "--out", f"{index}", "--reviews",
                   f"{place / 'found'}")  # fmt: skip
    left = {name: value for name, value in bright.items() if name not in {tied, withdrawn}}
    return Reviewed(place, left | {outvoted: 1}, said)


def test_the_finding_of_the_results_is_in_the_index_with_readers_and_time(
    reviewed: Reviewed,
) -> None:
    readings = read_index(reviewed.index).readings
    assert {r.case_id: r.value for r in readings} == reviewed.wanted
    assert {r.finding for r in readings} == {"Nodule or Mass"}
    assert {r.readers for r in readings} == {("anna",), ("ben", "carl")}
    assert all(r.decided_at.startswith("20") for r in readings)
    assert f"the finding is present on {sum(reviewed.wanted.values())}" in reviewed.said
    assert "1 decisions on which equally many readers differ" in reviewed.said


def test_the_labels_are_those_that_the_model_was_trained_for(reviewed: Reviewed) -> None:
    labels = read_index(reviewed.index).labels
    assert {label.source for label in labels} == {"reviews"}
    assert label_values(labels, ["Mass", "Nodule"]) == reviewed.wanted
    absent = {name: value for name, value in reviewed.wanted.items() if not value}
    assert label_values(labels, ["Mass"]) == absent  # which of the two is present is not known


def test_a_store_in_the_folder_of_results_is_read_in_the_same_way(
    reviewed: Reviewed, tmp_path: Path
) -> None:
    out = tmp_path / "reviews.json"
    store = ResultsFolder(reviewed.place / "found").review
    for words in ([f"{store}"], [f"{reviewed.place / 'found'}", "--store", f"{store}"]):
        command("review", *words, "--export", f"{out}")
        exported = json.loads(out.read_text())
        assert {i["case_id"]: i["value"] for i in exported["images"]} == reviewed.wanted
    moved = tmp_path / "moved.sqlite"
    shutil.copy(store, moved)
    command("review", f"{moved}", "--export", f"{out}")
    assert json.loads(out.read_text())["images"] == []


def test_decisions_on_an_index_are_no_labels(reviewed: Reviewed, tmp_path: Path) -> None:
    index = tmp_path / "work" / "index.csv"
    archive = f"{reviewed.place / 'archive'}"
    command("index", archive, "--out", f"{index}")
    case = read_index(index).cases[0]
    decide(open_review(index).decisions, (case.case_id, "anna", "accept"))
    said = command("index", archive, "--out", f"{index}", "--reviews", f"{index}")
    assert "1 whole images with decisions are left out" in said
    assert (read_index(index).labels, read_index(index).readings) == ((), ())


def test_an_x_ray_model_learns_from_the_decisions(reviewed: Reviewed) -> None:
    split, run = reviewed.place / "split.json", reviewed.place / "run"
    command("split", f"{reviewed.index}", "--out", f"{split}", "--val", "0.3", "--test", "0.3")
    command(
        "train", "transfer/hospital_xray", "--out", f"{run}",
        *settings(*TEACHER, f"target.data.index={reviewed.index}", f"target.split.path={split}",
                  "target.data.positive=[Nodule, Mass]", "target.data.views=['']",
                  "target.loading=[{kind: image, source: file, size_px: [32, 32]}]",
                  "teacher.model={kind: shallow2d, channels: 8}",
                  "student.model={kind: shallow2d, channels: 4}"),
    )  # fmt: skip
    evaluation = read_json(run / "evaluation.json", Evaluation)
    counts = [(part["samples"], part["positives"]) for part in evaluation.splits.values()]
    wanted = reviewed.wanted.values()
    assert tuple(map(sum, zip(*counts, strict=True))) == (len(wanted), sum(wanted))
    assert NOTE.encode() not in reviewed.index.with_name("index.readings.csv").read_bytes()
