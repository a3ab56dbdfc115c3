"""Cost of a training step with stored answers, beside the live teacher and the student alone.

A 3-D ResNet-18 teaches a small student on patches of 32 voxels. The steps of the three alternate
in one run, so that anything else on the machine slows all of them.
"""

import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medkd.data.augment import AugmentationSettings, view_batch
from medkd.models.table import build_model, parse_model_settings
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.targets import LOGITS, StoredTeacher, TargetShape, TargetStore, create_store
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import PatchBatch

pytestmark = pytest.mark.bench

SAMPLES, BATCH, VIEWS, EDGE = 256, 32, 4, 32
STEPS, FIRST = 50, 5
LEAST_GAIN, MOST_COST = 8.0, 1.25
STUDENT = {"kind": "compact3d", "channels": [12, 24, 40, 56]}  # less than .3 M parameters
VIEW = AugmentationSettings(shift_vox=2.0, rotate_degrees=10.0, flip=(0.5, 0.5, 0.5))


def build_store(folder: Path, ids: tuple[str, ...]) -> TargetStore:
    folder.mkdir()
    create_store(folder, TargetShape(ids, VIEWS, {LOGITS: (1,)}))
    store = TargetStore(folder)
    store.write(np.arange(len(ids) * VIEWS), {LOGITS: torch.randn(len(ids) * VIEWS, 1)})
    return store


def test_stored_answers_cost_the_student_alone(tmp_path: Path) -> None:
    teacher = FrozenTeacher(build_model(parse_model_settings({"kind": "resnet3d"}), seed=0))
    ids = tuple(f"s{number:04d}" for number in range(SAMPLES))
    stored = teacher.with_answers(StoredTeacher(build_store(tmp_path / "store", ids)))
    terms = TransferSettings.model_validate({"terms": [{"kind": "soft_label"}]})
    ways = {
        "student alone": (None, terms.without_terms()),
        "stored answers": (stored, terms),
        "live teacher": (teacher, terms),
    }
    trained = {}
    for name, (one, settings) in ways.items():
        student = build_model(parse_model_settings(STUDENT), seed=0)
        objective = TransferObjective(student, one, settings)
        trained[name] = objective, torch.optim.AdamW(objective.trainable_parameters())
    pixels = torch.rand(SAMPLES, 1, EDGE, EDGE, EDGE)
    random = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for step in range(FIRST + STEPS):
        rows = random.integers(SAMPLES, size=BATCH)
        batch = PatchBatch(
            pixels[rows], torch.ones(BATCH, 1), torch.ones(BATCH, 1).bool(),
            tuple(ids[row] for row in rows), tuple(random.integers(VIEWS, size=BATCH).tolist()),
        )  # fmt: skip
        for name, (objective, optimizer) in trained.items():
            start = time.perf_counter()
            objective(view_batch(batch, VIEW, seed=0), 0.5).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step >= FIRST:
                seconds[name].append(time.perf_counter() - start)
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    row = {
        "step_s": median,
        "live_over_stored": median["live teacher"] / median["stored answers"],
        "stored_over_alone": median["stored answers"] / median["student alone"],
        "steps": STEPS, "batch": BATCH, "machine": platform.machine(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "load_average": os.getloadavg()[0],
    }  # fmt: skip
    text = json.dumps(row, indent=1) + "\n"
    folder = Path(os.environ.get("MEDKD_BENCH_OUT", tmp_path))
    (folder / "target_speed.json").write_text(text)
    assert row["live_over_stored"] >= LEAST_GAIN, text
    assert row["stored_over_alone"] <= MOST_COST, text
