"""The layers of student and control are compared with the teacher's on the test samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medkd.config.run_settings import RunSettings
from medkd.evaluate.cka import linear_cka
from medkd.models.detector import DetectorSettings
from medkd.models.package import ModelInfo, load_model, save_model
from medkd.models.table import build_model, parse_model_settings
from medkd.runs import RunFolder
from medkd.train.domains import Domain, build_domain
from medkd.train.logs import no_progress
from medkd.train.plan import Arm, RunContext, plan_arms
from medkd.train.similarity import SAMPLES, compare_layers, why_not_compared
from medkd.transfer.taps import tap_layers

Build = Callable[..., RunSettings]
TEACHER = {"kind": "compact2d", "channels": [6, 8], "strides": [1, 2], "stem_channels": 4}
STUDENT = {**TEACHER, "channels": [3, 5]}
LAYERS = ("pool", "features.3", "features.4")


@pytest.fixture(scope="module")
def domain(image_settings: Build, tmp_path_factory: pytest.TempPathFactory) -> Domain:
    settings = image_settings()
    return build_domain(settings.target, work_dir=tmp_path_factory.mktemp("domain"), seed=0)


@pytest.fixture
def context(image_settings: Build, domain: Domain, tmp_path: Path) -> RunContext:
    """A run whose control has the very weights of its teacher."""
    run = RunFolder(tmp_path / "run")
    for arm, values, seed in (
        ("teacher", TEACHER, 1), ("control", TEACHER, 1), ("student", STUDENT, 2)
    ):  # fmt: skip
        settings = parse_model_settings(values)
        info = ModelInfo(settings.model_dump(mode="json"))
        save_model(run.model(arm), build_model(settings, seed=seed), info)
    return RunContext(image_settings(), run, domain, domain, "cpu", no_progress)


def student_of(context: RunContext) -> Arm:
    return plan_arms(context.settings)[-1]


def test_an_arm_with_the_teachers_weights_has_similarity_one_on_the_diagonal(
    context: RunContext,
) -> None:
    control, student = compare_layers([student_of(context)], ["control", "student"], context)

    assert (control.arm, student.arm) == ("control", "student")
    assert control.teacher_layers == control.layers == LAYERS
    assert [control.cka[n][n] for n in range(3)] == [1.0, 1.0, 1.0]
    assert all(value is not None and value < 0.99 for row in student.cka for value in row)


def test_a_value_is_the_cka_of_the_two_layers_on_all_test_samples(context: RunContext) -> None:
    source = context.target.parts["test"]
    view = source.__getitems__(range(len(source))).image
    features = []
    for arm, layer in (("teacher", "pool"), ("student", "features.4")):
        network = load_model(context.run.model(arm)).network
        with tap_layers(network, [layer]) as outputs:
            network(view)
        features.append(outputs[layer].detach().numpy())

    (found,) = compare_layers([student_of(context)], ["student"], context)

    assert found.samples == len(source) < SAMPLES
    expected = linear_cka([([features[0]], [features[1]])])[0, 0]
    assert found.cka[0][2] == pytest.approx(expected, abs=1e-4)


def test_layers_that_a_term_names_are_compared_too(context: RunContext) -> None:
    terms = [{"kind": "hint", "teacher_layer": "features.3.conv1", "student_layer": "features.4"}]
    transfer = student_of(context).transfer.model_validate({"terms": terms})
    student = replace(student_of(context), transfer=transfer)

    (found,) = compare_layers([student], ["student"], context)

    assert found.teacher_layers == ("pool", "features.3", "features.3.conv1", "features.4")
    assert found.layers == LAYERS


def test_equal_results_of_the_control_are_kept_once(context: RunContext) -> None:
    student = student_of(context)

    found = compare_layers([student, student], ["control", "student"], context)

    assert [one.arm for one in found] == ["control", "student"]


class Few:
    """A part of a data set with three samples."""

    def __len__(self) -> int:
        return 3


def test_point_detectors_and_too_few_samples_are_left_out_with_the_reason(
    context: RunContext, domain: Domain
) -> None:
    settings = context.settings
    assert settings.student
    own = settings.student.model_copy(update={"model": DetectorSettings()})
    detectors = replace(context, settings=settings.model_copy(update={"student": own}))
    few = replace(context, target=replace(domain, parts={**domain.parts, "test": Few()}))

    assert "point detectors are not compared" in why_not_compared(detectors)
    assert compare_layers([student_of(context)], ["student"], detectors) == ()
    assert why_not_compared(few) == "Layers are compared on at least 4 test samples, got 3."
    assert why_not_compared(context) == ""
