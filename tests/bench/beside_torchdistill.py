"""Training steps and correctness beside torchdistill, in one run.

    python -m tests.bench.beside_torchdistill OUT.json

Needs `pip install torchdistill` (1.1.5 was measured). Both sides get the same networks with equal
weights, the same batches and the same optimizer; their steps alternate, so that anything else on
the machine slows both.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchdistill
from torch import Tensor, nn
from torchdistill.core.distillation import DistillationBox
from torchdistill.losses.mid_level import ATLoss, KDLoss
from torchvision.models import mobilenet_v3_small, resnet18

from medkd.jsonio import write_json
from medkd.models.table import build_model, parse_model_settings
from medkd.transfer.attention import attention_loss
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.soft_labels import soft_label_loss
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import PatchBatch

STEPS, FIRST, BATCH, RATE, TEMPERATURE = 50, 5, 16, 1e-3, 4.0
POSITIONS = 16.0
"""Positions of the compared layers: torchdistill takes the mean over them, medkd the sum."""

STUDENT_3D = {"kind": "compact3d", "channels": [12, 24, 40, 56], "label_count": 2}
Pair = tuple[nn.Module, nn.Module]
Step = Callable[[Tensor, Tensor], float]


def pair_2d() -> Pair:
    """Return teacher and student of torchvision, 64 x 64 pixels."""
    torch.manual_seed(0)
    return resnet18(num_classes=2), mobilenet_v3_small(num_classes=2, dropout=0.0)


def pair_3d() -> Pair:
    """Return a 3-D ResNet-18 and a student of less than .3 M parameters, 32 voxels."""
    teacher = parse_model_settings({"kind": "resnet3d", "label_count": 2})
    return build_model(teacher, seed=0), build_model(parse_model_settings(STUDENT_3D), seed=0)


TASKS: dict[str, tuple[Callable[[], Pair], tuple[int, ...], tuple[str, str] | None]] = {
    "2-D, soft labels": (pair_2d, (3, 64, 64), None),
    "2-D, soft labels and attention": (pair_2d, (3, 64, 64), ("layer3", "features.8")),
    "3-D, soft labels": (pair_3d, (1, 32, 32, 32), None),
}


def our_step(pair: Pair, shape: tuple[int, ...], layers: tuple[str, str] | None) -> Step:
    """Return a training step of medkd, which returns its loss."""
    teacher, student = map(copy.deepcopy, pair)
    terms: list[dict[str, Any]] = [
        {"kind": "soft_label", "temperature": TEMPERATURE, "weight": 0.5}
    ]
    if layers:
        named = {"teacher_layer": layers[0], "student_layer": layers[1]}
        terms.append({"kind": "attention", "weight": 1.0, **named})
    settings = TransferSettings.model_validate(
        {"outputs": "exclusive", "hard_label": {"weight": 0.5}, "terms": terms}
    )
    objective = TransferObjective(student, FrozenTeacher(teacher), settings, view_shape=shape)
    objective.train()
    optimizer = torch.optim.SGD(objective.trainable_parameters(), lr=RATE)

    def step(image: Tensor, label: Tensor) -> float:
        one_hot = torch.nn.functional.one_hot(label, 2).float()
        names = tuple(map(str, range(len(image))))
        batch = PatchBatch(image, one_hot, torch.ones_like(one_hot).bool(), names)
        loss = objective(batch, 0.5).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def box_of(pair: Pair, layers: tuple[str, str] | None, **teacher: Any) -> DistillationBox:
    """Return torchdistill's box for the same losses; `teacher`: more of its configuration."""
    place = {"student_module_path": ".", "student_module_io": "output",
             "teacher_module_path": ".", "teacher_module_io": "output"}  # fmt: skip
    kd = {"key": "KDLoss", "kwargs": {**place, "temperature": TEMPERATURE, "alpha": 0.5}}
    terms = {"kd": {"criterion": kd, "weight": 1.0}}
    hooks = ({}, {})
    if layers:
        sides = zip(("teacher", "student"), layers, strict=True)
        pairs = {side: {"io": "output", "path": path} for side, path in sides}
        at = {"at_pairs": {"one": {**pairs, "weight": 1.0}}, "mode": "code"}
        terms["at"] = {"criterion": {"key": "ATLoss", "kwargs": at}, "weight": POSITIONS}
        hooks = tuple({"forward_hook": {"input": [], "output": [path]}} for path in layers)
    config = {
        "num_epochs": 1,
        "teacher": {**hooks[0], "forward_proc": "forward_batch_only", **teacher},
        "student": {**hooks[1], "forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": RATE}},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}},
    }
    return DistillationBox(*pair, {}, config, torch.device("cpu"), None, False, 1)


def their_step(pair: Pair, shape: tuple[int, ...], layers: tuple[str, str] | None) -> Step:
    """Return a training step of torchdistill, with the frozen teacher in eval mode as ours."""
    teacher, student = map(copy.deepcopy, pair)
    box = box_of((teacher.eval(), student), layers, requires_grad=False)
    box.student_model.train()

    def step(image: Tensor, label: Tensor) -> float:
        loss = box.forward_process(image, label)
        value = loss.item()
        box.post_forward_process(loss)
        return value

    return step


def measure(name: str) -> dict[str, float]:
    """Return the median seconds of a step on both sides, and how far their losses differ."""
    build, shape, layers = TASKS[name]
    pair = build()
    steps = {
        "medkd": our_step(pair, shape, layers),
        "torchdistill": their_step(pair, shape, layers),
    }
    random = torch.Generator().manual_seed(0)
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    losses: dict[str, list[float]] = {side: [] for side in steps}
    for number in range(FIRST + STEPS):
        image = torch.rand(BATCH, *shape, generator=random)
        label = torch.randint(2, (BATCH,), generator=random)
        for side in sorted(steps, reverse=bool(number % 2)):
            start = time.perf_counter()
            losses[side].append(steps[side](image, label))
            seconds[side].append(time.perf_counter() - start)
    median = {side: float(np.median(times[FIRST:])) for side, times in seconds.items()}
    apart = np.abs(np.subtract(losses["medkd"], losses["torchdistill"])).max()
    ratio = median["medkd"] / median["torchdistill"]
    return {**{f"{side}_s": value for side, value in median.items()}, "ratio": ratio,
            "largest_difference_of_loss": float(apart)}  # fmt: skip


def teacher_after_steps() -> dict[str, dict[str, Any]]:
    """Train a few steps with the settings that each side has by default; say what moved."""
    found = {}
    for side in ("medkd", "torchdistill"):
        teacher, student = pair_2d()
        before = copy.deepcopy(teacher.state_dict())
        image, label = torch.rand(BATCH, 3, 64, 64), torch.randint(2, (BATCH,))
        if side == "medkd":
            frozen = FrozenTeacher(teacher)
            terms = {"outputs": "exclusive", "terms": [{"kind": "soft_label"}]}
            settings = TransferSettings.model_validate(terms)
            objective = TransferObjective(student, frozen, settings, view_shape=(3, 64, 64))
            objective.train()
            one_hot = torch.nn.functional.one_hot(label, 2).float()
            batch = PatchBatch(image, one_hot, one_hot >= 0, tuple(map(str, range(BATCH))))
            optimizer = torch.optim.SGD(objective.trainable_parameters(), lr=RATE)
            objective(batch, 0.5).loss.backward()
            optimizer.step()
            teacher = frozen.network
        else:
            box = box_of((teacher, student), None)
            box.pre_epoch_process(epoch=0)
            box.post_forward_process(box.forward_process(image, label))
        after = teacher.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        buffers = {name for name, _ in teacher.named_buffers()}
        found[side] = {"training_mode": teacher.training, "buffers_moved": len(moved & buffers),
                       "weights_moved": len(moved - buffers)}  # fmt: skip
    return found


def binary_value() -> dict[str, float]:
    """Compare the loss of one logit with the Bernoulli KL divergence, computed by hand."""
    teacher, student = torch.tensor([[1.5], [-2.0], [0.3]]), torch.tensor([[0.2], [0.1], [-1.0]])
    p, q = (torch.sigmoid(z.double() / TEMPERATURE) for z in (teacher, student))
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    kd = KDLoss(".", "output", ".", "output", temperature=TEMPERATURE, alpha=0.0)
    io = [{".": {"output": logits}} for logits in (student, teacher)]
    theirs = kd(*io, targets=torch.zeros(3, dtype=torch.long))
    ours = soft_label_loss(teacher, student, outputs="independent", temperature=TEMPERATURE)
    return {"by_hand": float(TEMPERATURE**2 * kl.mean()), "medkd": float(ours),
            "torchdistill": float(theirs)}  # fmt: skip


def attention_of_other_sizes() -> dict[str, str]:
    """Compare 3-D features of different sizes: a value, or the error."""
    teacher, student = torch.rand(2, 8, 8, 8, 8), torch.rand(2, 4, 4, 4, 4)
    sides = {side: {"io": "output", "path": "x"} for side in ("teacher", "student")}
    theirs = ATLoss({"one": sides})
    ways: dict[str, Callable[[], Tensor]] = {
        "medkd": lambda: attention_loss(teacher, student),
        "torchdistill": lambda: theirs({"x": {"output": student}}, {"x": {"output": teacher}}),
    }
    found = {}
    for side, way in ways.items():
        try:
            found[side] = f"{float(way()):.4f}"
        except RuntimeError as error:
            found[side] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return found


def main() -> None:
    """Measure everything and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    result = {
        "torchdistill": torchdistill.__version__, "torch": torch.__version__, "steps": STEPS,
        "batch": BATCH, "machine": platform.machine(), "threads": torch.get_num_threads(),
        "speed": {name: measure(name) for name in TASKS},
        "teacher_after_one_step": teacher_after_steps(), "one_logit": binary_value(),
        "attention_of_other_sizes": attention_of_other_sizes(), "load": os.getloadavg()[0],
    }  # fmt: skip
    write_json(out, result)


if __name__ == "__main__":
    main()
