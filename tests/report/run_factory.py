"""A plausible RUN folder without any training, for tests of what reads one (report, app).

`write_example_run(path)` leaves three arms on made-up candidates in tiny made-up scans (or on
made-up radiographs with `kind="image"`). Numbers follow from drawn scores, so counts, curves and
intervals agree with each other and with the CSV files. Same call, same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from medkd.jsonio import write_json
from medkd.runs import ARMS, Prediction, RunFolder, write_cases, write_predictions
from medkd.types import (
    ArmResult,
    Efficiency,
    Evaluation,
    PairedDifference,
    RunCase,
    RunRecord,
    TermRecord,
)
from tests.report.example_scans import ExampleScan, draw_scan, write_scan_files
from tests.report.example_scores import (
    classification_of,
    difference_of,
    fidelity_of,
    probability_of,
)

SKILL = {"teacher": 2.6, "control": 1.5, "student": 2.2}
LIKENESS = {"teacher": 1.0, "control": 0.4, "student": 0.9}
"""Share of the teacher's own noise in an arm's logit: what makes it close to the teacher."""
EFFICIENCY = {
    "teacher": Efficiency(14_356_929, 1_930_000_000, 54.8, 61.4, (1, 1, 32, 32, 32), "cpu", 2),
    "control": Efficiency(214_017, 41_200_000, 0.83, 3.1, (1, 1, 32, 32, 32), "cpu", 2),
    "student": Efficiency(214_017, 41_200_000, 0.83, 3.1, (1, 1, 32, 32, 32), "cpu", 2),
}
CONFIG = """\
name: example
seed: 7
data:
  source: {kind: phantom, site: a, scans: 20}
  target: {kind: phantom, site: b, scans: 14}
transfer:
  hard_label: {weight: 0.5}
  terms:
    - {kind: soft_label, weight: 0.5, temperature: 2.0}
    - {kind: hint, weight: 0.1, layers: [embedding]}
"""
RECORD = RunRecord(
    command="medkd demo --out example",
    started="2026-01-02T03:04:05+00:00",
    seconds=312.5,
    seed=7,
    medkd_version="0.1.0",
    python="3.12.1",
    platform="Linux-x86_64",
    processor="example processor",
    cores=2,
    device="cpu",
    deterministic=True,
    packages={"torch": "2.10.0", "monai": "1.6.1", "numpy": "2.3.0"},
    git_commit="0123456789abcdef0123456789abcdef01234567",
    git_dirty=False,
    config_sha256="c" * 64,
    data_fingerprints={"source": "a" * 64, "target": "b" * 64},
    weights_sha256={"teacher": "1" * 64, "control": "2" * 64, "student": "3" * 64},
)


def write_example_run(path: Path, *, kind: Literal["scan", "image"] = "scan") -> RunFolder:
    """Write a complete RUN at `path` and return it.

    "scan": phantom CT with candidates, whole-scan marks and one case that was not analysed;
    transfer took place. "image": radiographs, no FROC, transfer did not take place.
    """
    run = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    run.config.write_text(CONFIG, encoding="utf-8")
    write_json(run.record, RECORD)
    evaluation = _write_scans(run) if kind == "scan" else _write_images(run)
    for arm in ARMS:
        _write_log(run, arm, transfer=arm == "student")
    write_json(run.evaluation, evaluation)
    return run


def _write_scans(run: RunFolder) -> Evaluation:
    rng = np.random.default_rng(7)
    scans = [draw_scan(rng, number) for number in range(14)]
    split_of = {scan.seriesuid: "val" if n < 6 else "test" for n, scan in enumerate(scans)}
    predictions = {
        (arm, split): [
            row
            for order, scan in enumerate(scans)
            if split_of[scan.seriesuid] == split
            for row in _scan_predictions(scan, arm, seed=order)
        ]
        for arm in ARMS
        for split in ("val", "test")
    }
    tested = [scan for scan in scans if split_of[scan.seriesuid] == "test"]
    froc = write_scan_files(run, scans, tested, predictions)
    _write_scan_cases(run, scans, split_of, predictions)
    return _evaluation(
        run,
        predictions,
        froc=froc,
        synthetic=True,
        words=("phantom site B", "phantom site A, 20 scans", "phantom site B, 14 scans"),
        splits={
            "source train": {"scans": 16, "patients": 16, "samples": 480, "positives": 60},
            "source val": {"scans": 4, "patients": 4, "samples": 118, "positives": 14},
            "target train": {"scans": 10, "patients": 10, "samples": 160, "positives": 20},
        },
    )


def _scan_predictions(scan: ExampleScan, arm: str, *, seed: int) -> list[Prediction]:
    teachers = np.random.default_rng([seed, 100])
    own = np.random.default_rng([seed, ARMS.index(arm)])
    likeness = LIKENESS[arm]
    rows = []
    for number, (center_mm, label) in enumerate(scan.candidates):
        noise = likeness * teachers.normal() + np.sqrt(1 - likeness**2) * own.normal()
        logit = SKILL[arm] * (label - 0.5) - 0.9 + noise
        rows.append(
            Prediction(
                sample_id=f"{scan.seriesuid}#{number}",
                patient_id=scan.patient_id,
                seriesuid=scan.seriesuid,
                labels=(label,),
                logits=(round(float(logit), 6),),
                probabilities=(round(float(probability_of(logit * 1.3)), 6),),
                center_mm=center_mm,
            )
        )
    return rows


def _write_scan_cases(run: RunFolder, scans, split_of, predictions) -> None:
    best: dict[str, float] = {}
    for split in ("val", "test"):
        for row in predictions["student", split]:
            best[row.seriesuid] = max(best.get(row.seriesuid, 0.0), row.probabilities[0])
    cases = [
        RunCase(
            scan.seriesuid, scan.patient_id, "scan", f"data/{scan.seriesuid}.mhd",
            split_of[scan.seriesuid], None, int(bool(scan.nodules)), best[scan.seriesuid],
            "analysed",
        )
        for scan in scans
    ]  # fmt: skip
    reasons = ("slice spacing varies from 3.0 to 6.0 mm", "2 slices are missing at 118.0 mm")
    refused = RunCase(
        "example-99", "patient-99", "scan", "data/example-99.mhd", "test", None, None, None,
        "not_analysed", reasons,
    )  # fmt: skip
    write_cases(run.cases, [*cases, refused])


def _write_images(run: RunFolder) -> Evaluation:
    predictions = {}
    for n, arm in enumerate(ARMS):
        for split, count, prevalence in (("val", 120, 0.74), ("test", 150, 0.62)):
            draw = np.random.default_rng([n, count])
            predictions[arm, split] = _image_predictions(split, count, prevalence, draw, arm)
    rng = np.random.default_rng(9)
    cases = []
    for row in predictions["student", "test"][:12]:
        path = run.path / "data" / f"{row.sample_id}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(_draw_radiograph(rng, row.labels[0])).save(path)
        cases.append(
            RunCase(
                row.sample_id,
                row.patient_id,
                "image",
                f"data/{path.name}",
                "test",
                None,
                row.labels[0],
                row.probabilities[0],
                "analysed",
            )
        )
    write_cases(run.cases, cases)
    return _evaluation(
        run,
        predictions,
        froc={},
        synthetic=False,
        words=("example radiographs", "ImageNet", "example radiographs"),
        splits={"train": {"samples": 470, "patients": 470, "positives": 350}},
    )


def _image_predictions(split, count, prevalence, rng, arm) -> list[Prediction]:
    skill = SKILL["control"] if arm == "student" else SKILL[arm]
    rows = []
    for number in range(count):
        label = int(number < prevalence * count)
        logit = rng.normal(skill * (label - 0.5) + 0.4, 1.0)
        name = f"{split}-{number:04d}"
        probability = round(float(probability_of(logit)), 6)
        logits = (round(float(logit), 6),)
        rows.append(Prediction(name, name, name, (label,), logits, (probability,)))
    return rows


def _draw_radiograph(rng: np.random.Generator, label: int) -> np.ndarray:
    row, col = np.mgrid[0:64, 0:64]
    lungs = np.exp(-(((row - 32) / 22.0) ** 2)) * (
        np.exp(-(((col - 18) / 9.0) ** 2)) + np.exp(-(((col - 46) / 9.0) ** 2))
    )
    shade = 190 - 130 * lungs + label * 70 * np.exp(-(((row - 42) ** 2 + (col - 46) ** 2) / 60))
    return np.clip(shade + rng.normal(0, 5, shade.shape), 0, 255).astype(np.uint8)


def _evaluation(run: RunFolder, predictions, *, froc, synthetic, words, splits) -> Evaluation:
    for (arm, split), rows in predictions.items():
        write_predictions(run.predictions(arm, split), rows)
    for split in ("val", "test"):
        rows = predictions["student", split]
        splits = splits | {
            split: {
                "samples": len(rows),
                "patients": len({row.patient_id for row in rows}),
                "positives": sum(row.labels[0] for row in rows),
            }
        }
    arms = tuple(_arm(arm, predictions, froc.get(arm, ())) for arm in ARMS)
    fidelity = tuple(
        fidelity_of(arm, predictions["teacher", "test"], predictions[arm, "test"])
        for arm in ("control", "student")
    )
    took_place = fidelity[1].kl <= 0.7 * fidelity[0].kl
    warnings = [] if took_place else ["the student is no closer to the teacher than the control"]
    return Evaluation(
        name="example",
        dataset=words[0],
        source_data=words[1],
        target_data=words[2],
        trained_on_synthetic=synthetic,
        arms=arms,
        differences=_differences(predictions),
        terms=(
            TermRecord("hard_label", 0.5, "smoothing 0.0"),
            TermRecord("soft_label", 0.5, "temperature 2.0"),
            TermRecord("hint", 0.1, "layer embedding to embedding, linear projector"),
        ),
        fidelity=fidelity,
        transfer_took_place=took_place,
        splits=splits,
        warnings=(*warnings, "few labels: 20 positive samples to train on"),
        record=RECORD,
    )


def _arm(name: str, predictions, froc) -> ArmResult:
    val, test = predictions[name, "val"], predictions[name, "test"]
    threshold = float(np.median([row.probabilities[0] for row in val if row.labels[0]]) * 0.7)
    return ArmResult(
        name=name,
        model="resnet18-3d" if name == "teacher" else "compact-3d",
        initialisation="random",
        trained_on="source" if name == "teacher" else "target",
        classification={
            "val": (classification_of("val", val, threshold),),
            "test": (classification_of("test", test, threshold),),
        },
        froc=tuple(froc),
        efficiency=EFFICIENCY[name],
    )


def _differences(predictions) -> tuple[PairedDifference, ...]:
    found = []
    for second in ("control", "teacher"):
        for metric in ("roc_auc", "pr_auc", "brier"):
            first = predictions["student", "test"]
            primary = second == "control" and metric == "roc_auc"
            other = predictions[second, "test"]
            found.append(difference_of(first, other, second=second, metric=metric, primary=primary))
    return tuple(found)


def _write_log(run: RunFolder, arm: str, *, transfer: bool) -> None:
    rng = np.random.default_rng(len(arm))
    terms = ["term_hard_label"] + (["term_soft_label", "term_hint"] if transfer else [])
    lines = [",".join(["epoch", "train_loss", *terms, "val_roc_auc", "learning_rate", "seconds"])]
    for epoch in range(1, 13):
        decay = np.exp(-epoch / 4) + 0.02 * rng.random()
        decay *= {"teacher": 0.6, "control": 1.0, "student": 0.8}[arm]
        parts = [0.25 + 0.45 * decay, 0.05 + 0.30 * decay, 0.4 + 0.9 * decay][: len(terms)]
        rate = 0.001 * 0.5 * (1 + np.cos(np.pi * epoch / 12))
        row = [sum(parts), *parts, 0.93 - 0.3 * decay, rate, 4.2]
        lines.append(",".join([str(epoch), *(f"{value:.6f}" for value in row)]))
    run.log(arm).parent.mkdir(parents=True, exist_ok=True)
    run.log(arm).write_text("\n".join(lines) + "\n", encoding="utf-8")
