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
from medkd.train.domains import Domain, build_domain, make_view
from medkd.train.recipes import Assignment, TrainedArm, control_arm, distill, train_teacher
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


def assignment(settings: RunSettings, folder: Path) -> Assignment:
    assert settings.student is not None
    return Assignment(
        "arm", settings.student.model, settings.student.training, folder, seed=4, device="cpu"
    )


def taught(settings: RunSettings, domain: Domain, folder: Path) -> TrainedArm:
    assert settings.transfer is not None
    task = assignment(settings, folder)
    teacher = FrozenTeacher(train_teacher(task, domain).network)
    again = assignment(settings, folder / "taught")
    return distill(again, domain, settings.transfer, teacher=teacher)


def test_teacher_and_student_see_the_very_same_pixels(
    image_settings: Build, domain: Domain, seen: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    taught(image_settings(), domain, tmp_path)
    during = seen["teacher"][1:]  # the first is the probe for the layers' widths
    assert len(during) == 6
    assert all(
        teacher is student for teacher, student in zip(during, seen["training"][-6:], strict=True)
    )


def test_control_and_student_see_the_same_views_in_the_same_order(
    image_settings: Build, domain: Domain, seen: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    settings = image_settings()
    assert settings.transfer is not None
    taught(settings, domain, tmp_path)
    student = seen["training"][-6:]
    control_arm(assignment(settings, tmp_path / "control"), domain, settings.transfer)
    control = seen["training"][-6:]
    assert all(torch.equal(a, b) for a, b in zip(control, student, strict=True))


def test_a_teacher_trained_on_the_same_set_with_the_same_seed_sees_the_same_views(
    image_settings: Build, domain: Domain, seen: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    taught(image_settings(), domain, tmp_path)
    own, student = seen["training"][:6], seen["training"][-6:]
    assert all(torch.equal(a, b) for a, b in zip(own, student, strict=True))


def test_a_resumed_training_goes_on_with_the_views_of_one_go(
    image_settings: Build, domain: Domain, seen: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    settings = image_settings()
    assert settings.transfer is not None

    def interrupt(_title: str, step: int, *_: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    control_arm(assignment(settings, tmp_path / "whole"), domain, settings.transfer)
    task = assignment(settings, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        control_arm(task, domain, settings.transfer, progress=interrupt)
    before = len(seen["training"])
    control_arm(task, domain, settings.transfer)
    resumed = seen["training"][before:]
    assert len(resumed) == 3
    assert all(torch.equal(a, b) for a, b in zip(resumed, seen["training"][3:6], strict=True))


def test_views_differ_between_numbers_and_seeds(domain: Domain) -> None:
    samples = domain.parts["train"].__getitems__(range(8))
    first, second = (replace(samples, view_number=(k,) * 8) for k in (0, 1))
    view = make_view(domain, seed=1)
    assert torch.equal(view(first).image, view(first).image)
    assert not torch.equal(view(first).image, view(second).image)
    assert not torch.equal(view(first).image, make_view(domain, seed=2)(first).image)


def test_one_view_a_sample_is_trained_on_again_in_every_epoch(
    image_settings: Build, domain: Domain, seen: dict[str, list[Tensor]], tmp_path: Path
) -> None:
    settings = image_settings()
    assert settings.transfer is not None
    augmentation = domain.settings.augmentation.model_copy(update={"views": 1})
    once = replace(
        domain, settings=domain.settings.model_copy(update={"augmentation": augmentation})
    )
    control_arm(assignment(settings, tmp_path), once, settings.transfer)
    epochs = [torch.cat(seen["training"][first : first + 3]) for first in (0, 3)]
    first, second = (sorted(map(str, epoch.flatten(1).tolist())) for epoch in epochs)
    assert first == second


def test_the_prior_that_training_showed_is_known(
    image_settings: Build, domain: Domain, tmp_path: Path
) -> None:
    settings = image_settings(transfer={"hard_label": {"class_balanced": True}, "terms": []},
                              student=None)  # fmt: skip
    task = assignment(image_settings(), tmp_path)
    assert settings.transfer is not None
    found = control_arm(task, domain, settings.transfer)
    assert (found.prior.true, found.prior.trained) == (0.5, 0.5)
