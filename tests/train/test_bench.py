"""Cells, rows and tables of a bench."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.jsonio import read_json, to_jsonable
from medkd.train import bench as bench_module
from medkd.train.bench import choose_headline, run_bench
from medkd.train.bench_record import (
    METRICS,
    BenchComparison,
    BenchRecord,
    BenchRow,
    BenchSamples,
    PublishedScore,
    bench_markdown,
    bench_notes,
    compare,
    seed_mean,
)
from medkd.types import RunRecord

Build = Callable[..., RunSettings]
LABELS = (0, 0, 1, 1) * 10


@pytest.fixture
def two_arms(image_values: dict[str, Any]) -> dict[str, Any]:
    transfer = image_values["transfer"]
    small = image_values["teacher"] | {"model": {"kind": "shallow2d", "channels": 6}}
    return {
        "teacher": None,
        "transfer": None,
        "bench": {
            "seeds": [0, 1],
            "teachers": {"big": image_values["teacher"], "small": small},
            "teacher_seeds": "shared",
            "arms": [
                {"name": "from_big", "teacher": "big", "transfer": transfer},
                {"name": "from_small", "teacher": "small", "transfer": transfer},
            ],
        },
    }


def test_a_bench_of_two_teachers_runs_every_cell_once(
    image_settings: Build, two_arms: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_bench(image_settings(**two_arms), tmp_path / "bench")
    assert record.arms() == ("big", "small", "control", "from_big", "from_small")
    assert record.metrics == METRICS
    assert [len(record.of(arm)) for arm in record.arms()] == [1, 1, 2, 2, 2]
    assert read_json(tmp_path / "bench" / "rows.json", BenchRecord) == record
    assert (tmp_path / "bench" / "table.md").read_text() == bench_markdown(record)
    monkeypatch.setattr("medkd.train.networks.fit", lambda *_, **__: pytest.fail("trained again"))
    again = run_bench(image_settings(**two_arms), tmp_path / "bench", resume=True)
    assert again.rows == record.rows


def test_cross_validation_never_scores_the_official_test_part(
    image_settings: Build, tmp_path: Path
) -> None:
    plan = {"seeds": [0], "protocol": "cross_validation", "folds": 3}
    record = run_bench(image_settings(bench=plan), tmp_path / "bench")
    patients = record.scored_samples().patients
    assert len(set(patients)) == len(patients) == 72
    assert not any("-test-" in patient for patient in patients)
    assert len(record.of("student")) == 3
    assert seed_mean(record, "student", "roc_auc").seeds == 1


def test_a_stopped_bench_goes_on_with_its_next_cell(
    image_settings: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = image_settings(bench={"seeds": [0, 1]})
    whole = bench_module.run_arms

    def stopping(own: RunSettings, *args: Any, **named: Any) -> Any:
        if own.seed == 1:
            raise KeyboardInterrupt
        return whole(own, *args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(bench_module, "run_arms", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_bench(settings, tmp_path / "bench")
    before = (tmp_path / "bench" / "seed-0" / "evaluation.json").read_bytes()
    record = run_bench(settings, tmp_path / "bench", resume=True)
    assert (tmp_path / "bench" / "seed-0" / "evaluation.json").read_bytes() == before
    assert {row.seed for row in record.rows} == {0, 1}


def test_a_configuration_without_a_bench_is_refused(image_settings: Build, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no bench section"):
        run_bench(image_settings(), tmp_path / "bench")


def make_row(arm: str, seed: int, skill: float, *, val: float = 0.9, **more: Any) -> BenchRow:
    """Scores that are right by `skill`, the same noise for every arm and seed."""
    noise = [((7 * n) % 10) / 10 for n in range(len(LABELS))]
    found = [
        round(0.02 + 0.96 * (skill * label + (1 - skill) * noise[n] + 0.001 * seed), 6)
        for n, label in enumerate(LABELS)
    ]
    validation = {"roc_auc": val, "pr_auc": val, "brier": 0.1, "prevalence": 0.5}
    return BenchRow(
        seed=seed, fold=None, arm=arm, role=more.pop("role", "student"), model="m", parameters=1,
        validation=validation, test=validation, threshold=0.4,
        probabilities=tuple(min(max(p, 0.0), 1.0) for p in found), record=make_run_record(), **more,
    )  # fmt: skip


def make_run_record() -> RunRecord:
    return RunRecord(
        "bench", "2026-01-01T00:00:00+00:00", 1.0, 0, "0", "3.12", "p", "c", 2, "cpu", True, {},
        None, None, "0" * 64,
    )  # fmt: skip


def make_record(rows: list[BenchRow]) -> BenchRecord:
    patients = tuple(f"p{n}" for n in range(len(LABELS)))
    return BenchRecord(
        name="b", dataset="d", protocol="test",
        primary=BenchComparison("headline", "control", "roc_auc"), headline=choose_headline(rows),
        samples={"test": BenchSamples(LABELS, patients)}, rows=tuple(rows), bootstrap=100,
    )  # fmt: skip


@pytest.fixture
def record() -> BenchRecord:
    rows = [make_row("control", seed, 0.2, role="control") for seed in range(3)]
    rows += [
        make_row("good", seed, 0.9, val=0.95, teacher="t", kl_to_teacher=0.1,
                 control_kl_to_teacher=1.0) for seed in range(3)
    ]  # fmt: skip
    rows += [make_row("plain", seed, 0.2, val=0.93, teacher="t") for seed in range(3)]
    return make_record([*rows, make_row("t", 0, 0.3, val=0.8, role="teacher")])


def test_the_headline_is_chosen_on_validation_alone() -> None:
    better_on_test = make_row("a", 0, 1.0, val=0.90)
    better_on_validation = make_row("b", 0, 0.1, val=0.91)
    assert choose_headline([better_on_test, better_on_validation]) == "b"


def test_one_comparison_is_primary_and_comes_first(record: BenchRecord) -> None:
    found = compare(record)
    assert [d.primary for d in found].count(True) == 1
    assert found[0].comparison == BenchComparison("good", "control", "roc_auc")
    assert found[0].estimate.value > 0.1
    assert found[0].estimate.interval is not None
    assert found[0].estimate.interval.low > 0


def test_equal_arms_show_no_difference(record: BenchRecord) -> None:
    (found,) = [
        d for d in compare(record) if d.comparison == BenchComparison("plain", "control", "roc_auc")
    ]
    assert (found.estimate.value, found.p_value) == (0.0, 1.0)


def test_accuracy_uses_the_threshold_that_each_row_froze(record: BenchRecord) -> None:
    half = seed_mean(record, "control", "accuracy@half").estimate.value
    frozen = seed_mean(record, "control", "accuracy@frozen").estimate.value
    rows = record.of("control")[0].probabilities
    by_hand = sum((p >= 0.4) == (y == 1) for p, y in zip(rows, LABELS, strict=True)) / 40
    assert frozen == pytest.approx(by_hand, abs=0.03)
    assert half != frozen


def test_balanced_accuracy_is_a_column_with_its_interval_and_is_compared(
    record: BenchRecord,
) -> None:
    mean = seed_mean(record, "control", "balanced_accuracy@frozen").estimate
    called = [[p >= 0.4 for p in row.probabilities] for row in record.of("control")]
    by_hand = [
        sum(is_right == bool(y) for is_right, y in zip(one, LABELS, strict=True) if y == label) / 20
        for one in called
        for label in (0, 1)
    ]
    assert mean.value == pytest.approx(sum(by_hand) / 6)

    text = bench_markdown(replace(record, metrics=METRICS))

    assert text.splitlines()[0].endswith("| balanced accuracy at the fixed threshold |")
    assert f"({mean.interval.low:.3f} to {mean.interval.high:.3f}) |" in text
    assert "good minus control, balanced accuracy at the fixed threshold" in text


def test_a_stored_bench_without_the_metric_keeps_its_table(
    record: BenchRecord, tmp_path: Path
) -> None:
    stored = to_jsonable(record)
    del stored["metrics"]
    (tmp_path / "rows.json").write_text(json.dumps(stored))
    read = read_json(tmp_path / "rows.json", BenchRecord)
    assert "balanced" not in bench_markdown(read)
    assert len(compare(read)) < len(compare(replace(read, metrics=METRICS)))


def test_a_published_row_leaves_empty_what_was_not_published(record: BenchRecord) -> None:
    published = (PublishedScore("Other", 0.9, 0.8, "a paper"),)
    lines = bench_markdown(replace(record, metrics=METRICS, published=published)).splitlines()
    assert "| Other (a paper) | | published | 0.900 | 0.800 | | |" in lines


def test_notes_name_transfer_and_weak_teachers(record: BenchRecord) -> None:
    notes = " ".join(bench_notes(record))
    assert "good: mean KL to its teacher is 0.10 of the control's: transfer took place" in notes
    assert "TEACHER NOT BETTER: on validation t has mean ROC AUC 0.8000" in notes


def test_transfer_that_self_training_gives_too_is_none(record: BenchRecord) -> None:
    rows = [
        replace(row, self_training_kl_to_teacher=0.12) if row.arm == "good" else row
        for row in record.rows
    ]
    notes = " ".join(bench_notes(replace(record, rows=tuple(rows))))
    said = "0.10 of the control's and 0.83 of self-training's: NO TRANSFER TOOK PLACE"
    assert f"good: mean KL to its teacher is {said}" in notes


def test_the_table_is_a_function_of_the_rows(record: BenchRecord, tmp_path: Path) -> None:
    from medkd.jsonio import write_json

    write_json(tmp_path / "rows.json", record)
    text = bench_markdown(read_json(tmp_path / "rows.json", BenchRecord))
    assert text == bench_markdown(record)
    assert "| **good** (headline): m | 1 | 3 |" in text
