"""Runs with an alignment of two sites: what the arms see, what changes and what does not."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medkd.config.run_settings import RunSettings
from medkd.errors import SettingsError
from medkd.jsonio import read_json
from medkd.models.classifiers import PooledConvNet
from medkd.models.package import read_info
from medkd.runs import ARMS, RunFolder
from medkd.train.alignment import pair_with_other_domain, with_unlabelled
from medkd.train.bench import run_bench
from medkd.train.compare import term_records
from medkd.train.domains import Domain, build_domain
from medkd.train.logs import no_progress
from medkd.train.networks import ArmNetwork, fit_network
from medkd.train.plan import Arm, RunContext, plan_arms
from medkd.train.run import run_training
from medkd.transfer.features import pool
from medkd.transfer.taps import tap_layers
from medkd.types import CaseOrigins, Evaluation
from tests.train.test_run import interrupt_at
from tests.train.two_sites import two_site_values
from tests.transfer import slow_losses

Values = dict[str, Any]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Values:
    return two_site_values(tmp_path_factory.mktemp("sites"))


@pytest.fixture(scope="module")
def domains(values: Values, tmp_path_factory: pytest.TempPathFactory) -> tuple[Domain, Domain]:
    settings, work = RunSettings.model_validate(values), tmp_path_factory.mktemp("work")
    source, target = (
        build_domain(one, work_dir=work, seed=0) for one in (settings.source, settings.target)
    )
    return source, target


def aligned(values: Values, kind: str | None, **more: Any) -> Values:
    """The settings with an alignment of teacher and student."""
    both = {"kind": kind, **more} if kind else None
    return values | {
        "teacher": values["teacher"] | {"alignment": both},
        "transfer": values["transfer"] | {"alignment": both},
    }


def context_of(values: Values, domains: tuple[Domain, Domain], folder: Path) -> RunContext:
    settings = RunSettings.model_validate(values)
    return RunContext(settings, RunFolder(folder / "run"), *domains, "cpu", no_progress)


def fitted(context: RunContext, role: str) -> ArmNetwork:
    """Train the arm of a role without a teacher."""
    (arm,) = [arm for arm in plan_arms(context.settings) if arm.role == role]
    alone = arm.transfer.model_copy(update={"terms": ()})
    return fit_network(replace(arm, teacher=None, transfer=alone), context, None)


def weights_of(found: ArmNetwork) -> dict[str, Tensor]:
    return found.network.state_dict()


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """All views that networks in training are given."""
    given: list[Tensor] = []
    logits = PooledConvNet._logits

    def watched(self: PooledConvNet, view: Tensor) -> Tensor:
        given.extend([view] if self.training else [])
        return logits(self, view)

    monkeypatch.setattr(PooledConvNet, "_logits", watched)
    return given


def test_a_teacher_sees_the_target_and_a_student_the_source_beside_its_own_domain(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path
) -> None:
    context = context_of(aligned(values, "coral"), domains, tmp_path)
    teacher, control, student = plan_arms(context.settings)

    assert context.other_domain_of(teacher) is context.target
    assert context.other_domain_of(student) is context.source
    assert context.other_domain_of(control) is None


def test_the_own_views_come_first_and_are_those_of_a_training_without_alignment(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path, seen: list[Tensor]
) -> None:
    fitted(context_of(values, domains, tmp_path / "plain"), "student")
    plain = list(seen)
    seen.clear()
    fitted(context_of(aligned(values, "mmd"), domains, tmp_path / "aligned"), "student")

    assert len(plain) == len(seen) == 6
    for alone, joint in zip(plain, seen, strict=True):
        assert len(joint) == 2 * len(alone)
        assert torch.equal(joint[: len(alone)], alone)
        assert not torch.equal(joint[len(alone) :], alone)


def test_samples_of_the_other_domain_are_seen_as_that_domain_augments_them(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path, seen: list[Tensor]
) -> None:
    plain = values["source"] | {"augmentation": {}}
    source = replace(domains[0], settings=RunSettings.model_validate(
        values | {"source": plain}).source)  # fmt: skip
    fitted(context_of(aligned(values, "coral"), (source, domains[1]), tmp_path), "student")
    stored = source.parts["train"].__getitems__(range(len(source.parts["train"]))).image
    known = {image.numpy().tobytes() for image in stored}

    others = [image for joint in seen for image in joint[len(joint) // 2 :]]

    assert all(image.numpy().tobytes() in known for image in others)


@pytest.mark.parametrize("role", ["control", "teacher"])
def test_an_arm_without_alignment_does_not_see_the_other_domain(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path, role: str
) -> None:
    """Its weights are those of a run that has no second domain at all."""
    source, target = domains
    own = source if role == "teacher" else target
    apart = fitted(context_of(values, domains, tmp_path / "two"), role)
    alone = fitted(context_of(values, (own, own), tmp_path / "one"), role)

    assert equal(weights_of(apart), weights_of(alone))


def test_the_control_is_bit_identical_with_and_without_an_aligned_student(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path
) -> None:
    plain = fitted(context_of(values, domains, tmp_path / "plain"), "control")
    beside = fitted(context_of(aligned(values, "dann"), domains, tmp_path / "aligned"), "control")

    assert equal(weights_of(plain), weights_of(beside))


def test_the_labels_of_the_other_domain_change_nothing(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path
) -> None:
    source, target = domains
    turned = copy.copy(source.parts["train"])
    turned.label = 1 - turned.label
    spoilt = replace(source, parts=source.parts | {"train": turned})

    first, second = (
        fitted(context_of(aligned(values, "dann"), (one, target), tmp_path / name), "student")
        for name, one in (("plain", source), ("turned", spoilt))
    )

    assert equal(weights_of(first), weights_of(second))


@pytest.mark.parametrize("kind", ["coral", "mmd", "dann"])
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_two_trainings_are_equal_and_another_alignment_gives_other_weights(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path, kind: str, role: str
) -> None:
    first, again, heavier = (
        fitted(context_of(aligned(values, kind, weight=w), domains, tmp_path / name), role)
        for name, w in (("first", 1.0), ("again", 1.0), ("heavier", 5.0))
    )

    assert equal(weights_of(first), weights_of(again))
    assert not equal(weights_of(first), weights_of(heavier))


def coral_distance(found: ArmNetwork, domains: tuple[Domain, Domain]) -> float:
    """Distance of covariances of held-out embeddings, relative to their size, by slow loops."""
    rows = []
    for domain in domains:
        part = domain.parts["test"]
        network = found.network.eval()
        with torch.no_grad(), tap_layers(network, [network.embedding_layer]) as layers:
            network(part.__getitems__(range(len(part))).image)
        rows.append(pool(layers[network.embedding_layer]).double().numpy())
    scale = np.concatenate([one - one.mean(axis=0) for one in rows]).std()
    return slow_losses.coral(rows[0] / scale, rows[1] / scale)


@pytest.mark.parametrize("seed", [0, 1])
def test_coral_brings_held_out_embeddings_of_two_sites_together(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path, seed: int
) -> None:
    training = values["teacher"]["training"] | {"epochs": 8, "keep": "last"}
    longer = values | {"seed": seed, "teacher": values["teacher"] | {"training": training}}
    apart, together = (
        coral_distance(
            fitted(context_of(aligned(longer, kind, **more), domains, tmp_path / name), "teacher"),
            domains,
        )
        for name, kind, more in (("plain", None, {}), ("aligned", "coral", {"weight": 10.0}))
    )

    assert together < 0.7 * apart


@pytest.mark.parametrize(("arm", "epoch"), [("teacher", 1), ("student", 1)])
def test_an_interrupted_aligned_run_ends_as_one_in_one_go(
    values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm: str, epoch: int
) -> None:
    kind = "dann"  # its discriminator must go on too
    settings = RunSettings.model_validate(aligned(values, kind))
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    run_training(settings, whole)
    with monkeypatch.context() as patched:
        interrupt_at(patched, arm, epoch)
        with pytest.raises(KeyboardInterrupt):
            run_training(settings, parts)

    run_training(settings, parts, resume=True)

    for name in ARMS:
        first, second = (read_info(run.model(name)).weights_sha256 for run in (whole, parts))
        assert first == second
    evaluation = read_json(parts.evaluation, Evaluation)
    assert [term.kind for term in evaluation.terms] == ["hard_label", "soft_label", kind]
    assert "aligned with training samples of" in evaluation.source_data


def test_a_model_says_that_unlabelled_samples_of_another_domain_shaped_it(
    values: Values,
    domains: tuple[Domain, Domain],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = fitted(context_of(aligned(values, "mmd"), domains, tmp_path), "teacher").info
    words = f"aligned with training samples of {domains[1].index.name}, without their labels"
    assert info.trained_on.endswith(words)
    assert not info.trained_on_synthetic
    assert info.origins == domains[0].origins()["train"]

    synthetic = {"train": CaseOrigins(phantom=3)}
    monkeypatch.setattr(Domain, "origins", lambda _self, _prefix="": synthetic)
    monkeypatch.setattr(Domain, "generators", ("medkd phantom 2",))
    shaped = with_unlabelled(info, domains[1], "aligned with training samples")
    assert shaped.trained_on_synthetic
    assert shaped.generators == ("medkd phantom 2",)


def test_the_record_lists_the_alignment_beside_the_terms(values: Values) -> None:
    settings = RunSettings.model_validate(aligned(values, "coral", weight=3.0))

    *_, record = term_records(settings.transfer)

    assert (record.kind, record.weight) == ("coral", 3.0)


def refusal(values: Values, tmp_path: Path) -> str:
    with pytest.raises(SettingsError) as refused:
        run_training(RunSettings.model_validate(values), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run" / "training").exists()
    return str(refused.value)


def test_fewer_samples_than_a_batch_at_the_other_site_are_refused_before_training(
    values: Values, tmp_path: Path
) -> None:
    large = values["teacher"]["training"] | {"batch_size": 128}
    teacher = values["teacher"] | {"training": large, "alignment": {"kind": "mmd"}}

    text = refusal(values | {"teacher": teacher}, tmp_path)

    assert "teacher: alignment: " in text
    assert "has 96 training samples, fewer than one batch of 128: lower" in text


def test_all_layers_that_do_not_exist_are_refused_before_training(
    values: Values, tmp_path: Path
) -> None:
    text = refusal(aligned(values, "coral", layer="pools"), tmp_path)

    assert "teacher: no layer 'pools'; similar names are pool" in text
    assert "student: no layer 'pools'; similar names are pool" in text


def test_an_arm_that_is_not_aligned_keeps_its_own_loader(
    values: Values, domains: tuple[Domain, Domain], tmp_path: Path
) -> None:
    context = context_of(values, domains, tmp_path)
    arm: Arm = plan_arms(context.settings)[0]
    own = object()

    assert pair_with_other_domain(own, arm, context) is own


def only_aligned(values: Values, **more: Any) -> RunSettings:
    """A student with an alignment, but no teacher and no terms."""
    transfer = {"alignment": {"kind": "coral"}}
    return RunSettings.model_validate(values | {"teacher": None, "transfer": transfer} | more)


def test_a_student_can_be_aligned_without_a_teacher(values: Values, tmp_path: Path) -> None:
    evaluation = run_training(only_aligned(values), RunFolder(tmp_path / "run"))
    assert [arm.name for arm in evaluation.arms] == ["control", "student"]
    assert {(one.first, one.second) for one in evaluation.differences} == {("student", "control")}
    assert [term.kind for term in evaluation.terms] == ["hard_label", "coral"]


def test_an_aligned_arm_of_a_bench_is_compared_with_the_control(
    values: Values, tmp_path: Path
) -> None:
    arm = {"name": "aligned", "teacher": None, "transfer": {"alignment": {"kind": "coral"}}}
    settings = only_aligned(values, transfer=None, bench={"seeds": [0], "arms": [arm]})
    record = run_bench(settings, tmp_path / "bench")
    assert [row.role for row in record.of("aligned")] == ["student"]
    assert "aligned minus control" in (tmp_path / "bench" / "table.md").read_text()
