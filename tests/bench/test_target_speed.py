"""Cost of a training step with stored answers, beside the live teacher and the student alone.

A 3-D ResNet-18 teaches a small student on patches of 32 voxels. The steps of the three alternate
in one run, so that anything else on the machine slows all of them. The gain depends on what the
student itself costs: the bar is for the student of `configs/bench/few_labels_ct3d.yaml`, a larger
one is measured beside it.
"""

import os
import platform
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medkd.data.augment import AugmentationSettings, view_batch
from medkd.jsonio import write_json
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
STUDENTS = {
    "of few_labels_ct3d": {"kind": "compact3d", "stem_channels": 8, "channels": [8, 16, 32, 48]},
    "larger": {"kind": "compact3d", "channels": [12, 24, 40, 56]},
}
VIEW = AugmentationSettings(shift_vox=2.0, rotate_degrees=10.0, flip=(0.5, 0.5, 0.5))


def build_store(folder: Path, ids: tuple[str, ...]) -> TargetStore:
    folder.mkdir()
    create_store(folder, TargetShape(ids, VIEWS, {LOGITS: (1,)}))
    store = TargetStore(folder)
    store.write(np.arange(len(ids) * VIEWS), {LOGITS: torch.randn(len(ids) * VIEWS, 1)})
    return store


def measure(student: dict[str, object], folder: Path) -> dict[str, float]:
    """Return the median seconds of a step in the three ways, and their two ratios."""
    teacher = FrozenTeacher(build_model(parse_model_settings({"kind": "resnet3d"}), seed=0))
    ids = tuple(f"s{number:04d}" for number in range(SAMPLES))
    stored = teacher.with_answers(StoredTeacher(build_store(folder, ids)))
    terms = TransferSettings.model_validate({"terms": [{"kind": "soft_label"}]})
    ways = {
        "alone": (None, terms.without_terms()),
        "stored": (stored, terms),
        "live": (teacher, terms),
    }
    trained = {}
    for name, (one, settings) in ways.items():
        network = build_model(parse_model_settings(student), seed=0)
        objective = TransferObjective(network, one, settings)
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
    return {
        "parameters": sum(weight.numel() for weight in trained["alone"][0].student.parameters()),
        **{f"{name}_s": value for name, value in median.items()},
        "live_over_stored": median["live"] / median["stored"],
        "stored_over_alone": median["stored"] / median["alone"],
    }


def test_stored_answers_cost_the_student_alone(tmp_path: Path) -> None:
    rows = {name: measure(own, tmp_path / name) for name, own in STUDENTS.items()}
    result = {
        "students": rows, "steps": STEPS, "batch": BATCH, "machine": platform.machine(),
        "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
    }  # fmt: skip
    folder = Path(os.environ.get("MEDKD_BENCH_OUT", tmp_path))
    write_json(folder / "target_speed.json", result)
    row = rows["of few_labels_ct3d"]
    assert row["live_over_stored"] >= LEAST_GAIN, row
    assert row["stored_over_alone"] <= MOST_COST, row
