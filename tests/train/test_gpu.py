"""Whole runs on a CUDA device: the same job, in mixed precision, against the CPU's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from medkd.config.run_settings import RunSettings
from medkd.detect import search_prepared
from medkd.models.package import LoadedModel
from medkd.runs import RunFolder, read_predictions
from medkd.train import scans
from medkd.train.run import run_training
from medkd.types import CaseResult
from tests.train.test_scans import ct_settings

pytestmark = pytest.mark.gpu


def student_logits(run: RunFolder) -> torch.Tensor:
    rows = read_predictions(run.predictions("student", "test"))
    return torch.tensor([row.logits[0] for row in sorted(rows, key=lambda row: row.sample_id)])


def settings_of(values: dict[str, Any], device: str, precision: str = "no") -> RunSettings:
    """The tiny run, long enough that its student ranks cases."""
    changed = {"epochs": 6, "mixed_precision": precision}
    models = {
        name: {**values[name], "training": {**values[name]["training"], **changed}}
        for name in ("teacher", "student")
    }
    return RunSettings.model_validate({**values, **models, "device": device})


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_run_on_a_gpu_ranks_cases_as_one_on_the_cpu_does(
    precision: str, tmp_path: Path, image_values: dict[str, Any]
) -> None:
    here, there = RunFolder(tmp_path / "cpu"), RunFolder(tmp_path / "gpu")
    run_training(settings_of(image_values, "cpu"), here)
    run_training(settings_of(image_values, "cuda", precision), there)
    both = torch.stack([student_logits(here), student_logits(there)])
    assert torch.isfinite(both).all()
    assert float(torch.corrcoef(both)[0, 1]) > 0.9


def test_the_same_seed_gives_nearly_the_same_student_on_a_gpu(
    tmp_path: Path, image_values: dict[str, Any]
) -> None:
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    for run in (first, second):
        run_training(settings_of(image_values, "cuda"), run)
    torch.testing.assert_close(student_logits(first), student_logits(second), atol=2e-3, rtol=0)


def test_whole_scans_are_searched_on_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = set()

    def watched(prepared: Any, model: LoadedModel, settings: Any) -> CaseResult:
        used.add(next(model.network.parameters()).device.type)
        return search_prepared(prepared, model, settings)

    monkeypatch.setattr(scans, "search_prepared", watched)
    values = ct_settings().model_dump(mode="json", by_alias=True) | {"device": "cuda"}
    run_training(RunSettings.model_validate(values), RunFolder(tmp_path / "run"))
    assert used == {"cuda"}
