"""Networks of the table as teacher and student of one objective, as a run puts them together."""

from __future__ import annotations

import pytest
import torch

from medkd.models.table import build_model, parse_model_settings
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import PatchBatch

BOTH = TransferSettings.model_validate({"terms": [{"kind": "soft_label"}, {"kind": "hint"}]})
PAIRS = {
    "luna_classifier": ({"width": 2, "patch_shape": [48, 32, 16]}, "compact3d", (48, 32, 16)),
    "resnet3d": ({"depth": 10, "width": 0.125}, "compact3d", (24, 24, 24)),
    "timm2d": ({"image_size": 64}, "compact2d", (28, 28)),
    "compact2d": ({"channels": [64, 64, 128, 256]}, "shallow2d", (28, 28)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PAIRS)
def test_a_student_learns_from_every_kind_of_teacher_by_logits_and_embedding(kind: str) -> None:
    values, student_kind, shape = PAIRS[kind]
    teacher = FrozenTeacher(build_model(parse_model_settings({"kind": kind, **values}), seed=1))
    student = build_model(parse_model_settings({"kind": student_kind}), seed=0)
    objective = TransferObjective(student, teacher, BOTH).train()
    optimiser = torch.optim.AdamW(objective.trainable_parameters(), 3e-3)
    image = torch.rand(4, 1, *shape, generator=torch.Generator().manual_seed(0))
    known = torch.zeros(4, 1, dtype=torch.bool)
    batch = PatchBatch(image, torch.zeros(4, 1), known, ("a", "b", "c", "d"))

    before, hints = teacher.fingerprint(), []
    for _ in range(8):
        output = objective(batch, 1.0)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        hints.append(output.terms["hint"].item())

    assert hints[-1] < hints[0]
    assert teacher.fingerprint() == before
