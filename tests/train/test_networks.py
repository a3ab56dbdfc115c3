"""What the arms of a run see: the same pixels, in the same order, in the same views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medkd.config.run_settings import RunSettings
from medkd.models.classifiers import PooledConvNet
from medkd.models.table import build_model
from medkd.runs import RunFolder
from medkd.train.domains import Domain, build_domain, make_view
from medkd.train.logs import no_progress
from medkd.train.networks import ArmNetwork, fit_network
from medkd.train.plan import Arm, RunContext, plan_arms
from medkd.transfer.settings import TransferSettings
from medkd.transfer.teacher import FrozenTeacher

Build = Callable[..., RunSettings]


@pytest.fixture(scope="module")
def domain(image_settings: Build, tmp_path_factory: pytest.TempPathFactory) -> Domain:
    settings = image_settings()
    return build_domain(settings.target, work_dir=tmp_path_factory.mktemp("domain"), seed=0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor]]:
    """Everything that a network in training and a teacher are given from now on."""
    given: dict[str, list[Tensor]] = {"teacher": [], "training": []}
    logits, answer = PooledConvNet._logits, FrozenTeacher.__call__

    def watched_logits(self: PooledConvNet, view: Tensor) -> Tensor:
        if self.training:
            given["training"].append(view)
        return logits(self, view)

    def watched_answer(self: FrozenTeacher, view: Tensor, *rest: Any) -> Any:
        given["teacher"].append(view)
        return answer(self, view, *rest)

    monkeypatch.setattr(PooledConvNet, "_logits", watched_logits)
    monkeypatch.setattr(FrozenTeacher, "__call__", watched_answer)
    return given


@pytest.fixture
def context(image_settings: Build, domain: Domain, tmp_path: Path) -> RunContext:
    run = RunFolder(tmp_path / "run")
    return RunContext(image_settings(), run, domain, domain, "cpu", no_progress)


def arms_of(context: RunContext) -> tuple[Arm, Arm]:
    """The control and the student."""
    _, control, student = plan_arms(context.settings)
    return control, replace(student, teacher=None)


def taught(context: RunContext) -> ArmNetwork:
    control, student = arms_of(context)
    teacher = FrozenTeacher(build_model(control.model, seed=1))
    return fit_network(student, context, teacher)


def test_teacher_and_student_see_the_very_same_pixels(
    context: RunContext, seen: dict[str, list[Tensor]]
) -> None:
    taught(context)
    during = seen["teacher"][1:]  # the first is the probe for the layers' widths
    assert len(during) == 6
    assert all(
        teacher is student for teacher, student in zip(during, seen["training"][-6:], strict=True)
    )


def test_control_and_student_see_the_same_views_in_the_same_order(
    context: RunContext, seen: dict[str, list[Tensor]]
) -> None:
    taught(context)
    student = seen["training"][-6:]
    fit_network(arms_of(context)[0], context, None)
    control = seen["training"][-6:]
    assert all(torch.equal(a, b) for a, b in zip(control, student, strict=True))


def test_views_differ_between_epochs_and_seeds(domain: Domain) -> None:
    batch = domain.parts["train"].__getitems__(range(8))
    view = make_view(domain, seed=1)
    assert torch.equal(view(batch, 0, 0).image, view(batch, 0, 0).image)
    assert not torch.equal(view(batch, 0, 0).image, view(batch, 1, 0).image)
    assert not torch.equal(view(batch, 0, 0).image, make_view(domain, seed=2)(batch, 0, 0).image)


def test_the_prevalence_that_training_showed_is_known(context: RunContext) -> None:
    control, _ = arms_of(context)
    balanced = TransferSettings.model_validate({"hard_label": {"class_balanced": True}})
    found = fit_network(replace(control, transfer=balanced), context, None)
    assert (found.prior.true, found.prior.trained) == ((0.5,), (0.5,))
