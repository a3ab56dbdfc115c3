"""Decisions of readers become training data: review, index, split, train."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from medkd.cli import app
from medkd.config.load import find_config, load_settings
from medkd.config.run_settings import RunSettings
from medkd.index.pseudonyms import open_pseudonyms, private_folder_of
from medkd.index.scan_states import label_values, scan_states
from medkd.index.table import read_index, read_index_record, table_path
from medkd.io.dicom.write import write_dicom_series
from medkd.jsonio import read_json
from medkd.review.cases import mark_id
from medkd.review.opened import open_review
from medkd.review.store import WHOLE_CASE, Decision, new_mark_id, open_store
from medkd.synthetic.phantom import PhantomSettings, make_phantom
from medkd.train.crops import build_crop_loader, rejected_places
from medkd.train.domains import build_domain
from medkd.types import Candidate, Evaluation

pytestmark = pytest.mark.slow

NOTE = "seen by Dr Ottokar Quacksalber"
SHORT = [
    "student.training.epochs=1", "student.training.warmup_epochs=0",
    "student.training.max_steps_per_epoch=2", "student.training.batch_size=8",
    "evaluation.bootstrap=20", "device=cpu", "detection.arms=[student]",
    "target.crops.mining.per_scan=2", "target.crops.per_epoch=64",
    "target.loading=[{kind: load}, {kind: spacing, spacing_mm: [1, 1, 1]}, "
    "{kind: crop, patch_shape: [16, 16, 16]}, {kind: intensity}]",
]  # fmt: skip


def command(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def away_from(nodules, grid, count):
    """Draw places inside the volume, at least 25 mm from every nodule and from each other."""
    random, found = np.random.default_rng(1), []
    while len(found) < count:
        voxel = random.uniform(0.2, 0.8, 3) * (np.array(grid.shape) - 1)
        place = tuple(np.round(grid.voxel_to_world(voxel), 2).tolist())
        if all(math.dist(place, other) > 25 for other in [*nodules, *found]):
            found.append(place)
    return found


def decide(store, case_id, phantom):
    """Accept the first nodule as a mark of a model, add the others, and reject two places."""
    places = [nodule.center_mm for nodule in phantom.nodules]
    rejected = away_from(places, phantom.scan.grid, 2)
    for verdict, place in (("accept", places[0]), *(("reject", p) for p in rejected)):
        name = mark_id(Candidate(case_id, place, 0.5))
        seen = Decision(case_id, name, "anna", "undecided", score=0.5, center_mm=place)
        seen = store.change(seen, "diameter_mm", phantom.nodules[0].diameter_mm).newest
        store.change(store.change(seen, "note", NOTE).newest, "verdict", verdict)
    for nodule in phantom.nodules[1:]:
        size = nodule.diameter_mm
        added = Decision(case_id, new_mark_id(), "anna", "added", diameter_mm=size)
        store.add_nodule(replace(added, center_mm=nodule.center_mm))
    store.change(Decision(case_id, WHOLE_CASE, "anna", "undecided"), "verdict", "reviewed")
    return rejected


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    """Index phantoms without annotations, decide on the INDEX, and index with the decisions."""
    place = tmp_path_factory.mktemp("reviewed")
    made = [make_phantom(PhantomSettings(site="a"), number) for number in range(6)]
    for number, phantom in enumerate(made):
        write_dicom_series(phantom.scan, place / "archive" / f"s{number}",
                           patient_name=f"Name{number}", patient_id=f"PID-{number}")  # fmt: skip
    index = place / "work" / "index.csv"
    command("index", place / "archive", "--out", index)
    pseudonyms = open_pseudonyms(private_folder_of(index), "pseudonymise")
    named = {p.scan.seriesuid: pseudonyms.case(p.scan.seriesuid) for p in made}
    assert set(named.values()) == set(read_index(index).by_id())
    store = open_store(open_review(index).decisions)
    rejected = {}
    for phantom in made[:5]:
        case_id = named[phantom.scan.seriesuid]
        rejected[case_id] = decide(store, case_id, phantom)
    free = named[made[5].scan.seriesuid]  # read completely, and nothing was marked
    store.change(Decision(free, WHOLE_CASE, "ben", "undecided"), "verdict", "reviewed")
    store.close()
    said = command("index", place / "archive", "--out", index, "--reviews", store.name)
    names = [named[phantom.scan.seriesuid] for phantom in made]
    return place, index, dict(zip(names, made, strict=True)), rejected, free, said


def test_accepted_and_added_marks_are_nodules_of_the_index(reviewed):
    _, path, made, rejected, free, said = reviewed
    index = read_index(path)
    wanted = {(case_id, nodule.center_mm) for case_id, phantom in made.items()
              for nodule in phantom.nodules if case_id != free}  # fmt: skip
    assert {(n.seriesuid, n.center_mm) for n in index.nodules} == wanted
    assert {n.sources for n in index.nodules} == {("reviews",)}
    sizes = {n.center_mm: n.diameter_mm for p in made.values() for n in p.nodules}
    assert all(n.diameter_mm == sizes[n.center_mm] for n in index.nodules)
    assert f"decisions of readers: {len(rejected)} accepted" in said


def test_rejected_marks_are_in_the_record_with_reader_and_time(reviewed):
    _, path, _, rejected, _, _ = reviewed
    marks = [mark for mark in read_index(path).marks if mark.verdict == "rejected"]
    wanted = {(case_id, place) for case_id, places in rejected.items() for place in places}
    assert {(mark.seriesuid, mark.center_mm) for mark in marks} == wanted
    assert {mark.readers for mark in marks} == {("anna",)}
    assert all(mark.decided_at.startswith("20") for mark in marks)


def test_a_scan_that_was_read_completely_without_a_nodule_is_free_of_nodules(reviewed):
    _, path, _, _, free, _ = reviewed
    index = read_index(path)
    states = scan_states(index.cases, index.nodules, known=label_values(index.labels, ["nodule"]))
    assert {name: state for name, state in states.items() if state != "nodules"} == {free: "free"}


def test_no_note_of_a_reader_is_in_the_index(reviewed):
    place = reviewed[0]
    for file in (place / "work").rglob("*"):
        if file.is_file() and "index.review" not in file.parts:
            assert b"Quacksalber" not in file.read_bytes(), file


def test_a_short_training_reads_the_nodules_and_the_negatives(reviewed):
    place, index, _, rejected, _, _ = reviewed
    split = place / "split.json"
    command("split", index, "--out", split, "--val", "0.3", "--test", "0.3")
    options = [
        *SHORT,
        f"target.cache_dir={place / 'cache'}",
        f"target.data.index={index}",
        f"target.split.path={split}",
    ]
    words = [word for text in options for word in ("--set", text)]
    command("train", "transfer/hospital_ct", "--out", place / "run", *words)
    evaluation = read_json(place / "run" / "evaluation.json", Evaluation)
    assert [arm.name for arm in evaluation.arms] == ["teacher", "control", "student"]

    settings = load_settings(find_config("transfer/hospital_ct"), RunSettings, overrides=options)
    domain = build_domain(settings.target, work_dir=place / "run", seed=settings.seed)
    train = set(domain.split.train)
    assert rejected_places(domain) == {
        name: rejected[name] for name in sorted(train & set(rejected))
    }
    candidates = {(c.seriesuid, c.center_mm): c.label for c in domain.index.candidates}
    assert {candidates[name, at] for name in rejected for at in rejected[name]} == {0}
    loader = build_crop_loader(domain, settings.student.training, seed=0, progress=lambda *_: None)
    cases = {name.partition(":")[0] for batch in loader.epoch(0) for name in batch.sample_id}
    assert cases == train


def test_indexing_again_without_the_decisions_removes_them(reviewed, tmp_path):
    place, path, *_ = reviewed
    index = shutil.copytree(path.parent, tmp_path / "work") / "index.csv"
    assert read_index(index).marks
    command("index", place / "archive", "--out", index)
    assert (read_index(index).marks, read_index(index).nodules) == ((), ())
    assert not table_path(index, "marks").exists()
    assert read_index_record(index)["counts"].get("marks") is None
