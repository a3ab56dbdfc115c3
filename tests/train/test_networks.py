"""What the arms of a run see: the same pixels, in the same order, in the same views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medkd.config.run_settings import RunSettings
from medkd.data.augment import view_batch
from medkd.models.classifiers import PooledConvNet
from medkd.models.table import build_model
from medkd.runs import RunFolder
from medkd.train.domains import Domain, build_domain
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


def test_teachers_are_trained_on_the_source_domain_and_students_on_the_target_domain(
    context: RunContext, domain: Domain
) -> None:
    apart = replace(context, source=replace(domain))
    teacher, control, student = plan_arms(context.settings)
    assert apart.domain_of(teacher) is apart.source
    assert apart.domain_of(control) is apart.target
    assert apart.domain_of(student) is apart.target


def test_a_model_states_its_configuration_and_seed(context: RunContext) -> None:
    info = taught(context).info
    assert (info.config, info.seed) == (context.settings.name, context.settings.seed)


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


def test_a_teacher_of_the_same_domain_is_trained_on_the_same_views(
    context: RunContext, seen: dict[str, list[Tensor]]
) -> None:
    """In its own order, since its seed is another one."""
    control, _ = arms_of(context)
    same = replace(control, name="as_teacher", role="teacher")
    fit_network(same, context, None)
    fit_network(control, context, None)
    both = [torch.cat(seen["training"][first : first + 6]) for first in (0, 6)]
    ours, theirs = (sorted(map(str, views.flatten(1).tolist())) for views in both)
    assert ours == theirs


def test_a_resumed_training_goes_on_with_the_views_of_one_go(
    context: RunContext, seen: dict[str, list[Tensor]]
) -> None:
    control, _ = arms_of(context)

    def interrupt(_title: str, step: int, *_: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    fit_network(control, context, None)
    parts = replace(context, run=RunFolder(context.run.path / "parts"), progress=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit_network(control, parts, None)
    before = len(seen["training"])
    fit_network(control, replace(parts, progress=no_progress), None)
    resumed = seen["training"][before:]
    assert len(resumed) == 3
    assert all(torch.equal(a, b) for a, b in zip(resumed, seen["training"][3:6], strict=True))


def test_views_differ_between_numbers_and_seeds(domain: Domain) -> None:
    samples = domain.parts["train"].__getitems__(range(8))
    first, second = (replace(samples, view_number=(k,) * 8) for k in (0, 1))
    settings = domain.settings.augmentation
    view = partial(view_batch, settings=settings, seed=1)
    assert torch.equal(view(first).image, view(first).image)
    assert not torch.equal(view(first).image, view(second).image)
    assert not torch.equal(view(first).image, view_batch(first, settings, seed=2).image)


def test_one_view_a_sample_is_trained_on_again_in_every_epoch(
    context: RunContext, domain: Domain, seen: dict[str, list[Tensor]]
) -> None:
    augmentation = domain.settings.augmentation.model_copy(update={"views": 1})
    settings = domain.settings.model_copy(update={"augmentation": augmentation})
    once = replace(context, target=replace(domain, settings=settings))
    fit_network(arms_of(context)[0], once, None)
    epochs = [torch.cat(seen["training"][first : first + 3]) for first in (0, 3)]
    first, second = (sorted(map(str, epoch.flatten(1).tolist())) for epoch in epochs)
    assert first == second


def test_the_prevalence_that_training_showed_is_known(context: RunContext) -> None:
    control, _ = arms_of(context)
    balanced = TransferSettings.model_validate({"hard_label": {"class_balanced": True}})
    found = fit_network(replace(control, transfer=balanced), context, None)
    assert (found.prior.true, found.prior.trained) == ((0.5,), (0.5,))
