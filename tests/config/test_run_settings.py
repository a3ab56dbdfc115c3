"""What a run's configuration refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from medkd.config.run_settings import BenchSettings, RunSettings, TeacherSettings
from medkd.config.training_settings import TrainingSettings

CT = [
    {"kind": "load"},
    {"kind": "spacing", "spacing_mm": [2, 2, 2]},
    {"kind": "crop", "patch_shape": [16, 16, 16]},
    {"kind": "intensity", "hu_window": [-1000, 400]},
]


def scans(**changed: Any) -> dict[str, Any]:
    return {
        "data": {"kind": "phantom", "site": "b"},
        "split": {"kind": "fractions"},
        "loading": CT,
        **changed,
    }


def values(**changed: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "source": scans(),
        "target": scans(),
        "teacher": {"model": {"kind": "resnet3d", "depth": 10, "width": 0.25}},
        "student": {"model": {"kind": "compact3d"}},
        "transfer": {"terms": [{"kind": "soft_label"}]},
    }
    return {k: v for k, v in (plain | changed).items() if v is not None}


def refusal(**changed: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        RunSettings.model_validate(values(**changed))
    return str(refused.value)


def test_a_whole_ct_run_is_accepted() -> None:
    assert RunSettings.model_validate(values()).target.is_ct


def test_a_student_for_images_cannot_take_scans() -> None:
    assert "student: compact2d accepts 2-D views" in refusal(
        student={"model": {"kind": "compact2d"}}
    )


def test_both_domains_must_give_the_same_kind_of_view() -> None:
    other = [*CT[:3], {"kind": "intensity", "hu_window": [-1200, 600]}]
    assert "source.loading has the HU window" in refusal(source=scans(loading=other))


def test_an_imported_model_of_another_window_is_refused() -> None:
    assert "needs the HU window" in refusal(teacher={"model": {"kind": "luna_classifier"}})


def test_a_source_that_no_teacher_uses_is_refused() -> None:
    assert "source: not used" in refusal(teacher={"from": "somewhere"})


@pytest.mark.parametrize(
    ("transfer", "reason"),
    [
        ({"terms": []}, "the student would equal the control"),
        ({"terms": [{"kind": "dkd"}]}, "two classes"),
        ({"outputs": "exclusive", "terms": [{"kind": "soft_label"}]}, "exclusive"),
    ],
)
def test_transfer_that_teaches_nothing_is_refused(transfer: dict[str, Any], reason: str) -> None:
    assert reason in refusal(transfer=transfer)


def test_arms_with_and_without_labels_share_a_control() -> None:
    soft = {"terms": [{"kind": "soft_label"}]}
    arms = [
        {"name": "both", "transfer": soft},
        {"name": "soft", "transfer": {**soft, "hard_label": {"weight": 0}}},
    ]
    assert len(BenchSettings.model_validate({"arms": arms}).arms) == 2


def classes(**changed: Any) -> dict[str, Any]:
    """Plain values of a run with one of four classes for each image."""
    network = {"model": {"kind": "shallow2d", "label_count": 4}}
    plain: dict[str, Any] = {
        "target": {"data": {"kind": "medmnist", "path": "four.npz"}, "split": {"kind": "official"}},
        "teacher": network,
        "student": network,
        "transfer": {"outputs": "exclusive", "terms": [{"kind": "soft_label"}]},
    }
    return plain | changed


def test_the_outputs_of_all_arms_are_those_of_the_student() -> None:
    assert RunSettings.model_validate(classes()).outputs == "exclusive"
    assert RunSettings.model_validate(classes(transfer="auto")).outputs == "independent"


def test_a_probe_of_exclusive_classes_is_refused_with_the_way_out() -> None:
    backbone = {"kind": "shallow2d", "channels": 4}
    probe = {"kind": "probe", "backbone": backbone, "layers": ["features"], "label_count": 4}
    with pytest.raises(ValidationError, match="a probe has one yes-or-no classifier") as refused:
        RunSettings.model_validate(classes(teacher=probe))
    assert "use outputs: independent, or a network as the teacher" in str(refused.value)
    assert RunSettings.model_validate(classes(teacher=probe, transfer="auto")).teachers()


def test_batches_too_small_for_a_term_are_refused() -> None:
    student = {"model": {"kind": "compact3d"}, "training": {"batch_size": 2}}
    text = refusal(student=student, transfer={"terms": [{"kind": "rkd_distance"}]})
    assert "at least 3 of them, got 2: raise student.training.batch_size" in text


def test_a_term_on_maps_needs_named_layers() -> None:
    text = refusal(transfer={"terms": [{"kind": "attention"}]})
    assert "name teacher_layer and student_layer" in text


ALIGNED = {"kind": "coral"}
TEACHER = {"model": {"kind": "resnet3d", "depth": 10, "width": 0.25}}
DETECTOR = {"kind": "detector3d"}


@pytest.mark.parametrize("kind", ["coral", "mmd", "dann"])
def test_teacher_and_student_can_be_aligned_and_a_student_by_this_alone(kind: str) -> None:
    both = values(
        teacher=TEACHER | {"alignment": {"kind": kind, "weight": 2}},
        transfer={"alignment": {"kind": kind, "layer": "pool"}},
    )
    settings = RunSettings.model_validate(both)
    assert settings.teacher.alignment.kind == settings.transfer.alignment.kind == kind


def test_alignment_and_adaptation_without_a_second_domain_are_all_refused() -> None:
    teacher = TEACHER | {"alignment": ALIGNED, "adapt": "batch_norm"}
    text = refusal(source=None, teacher=teacher, transfer={"alignment": ALIGNED})
    assert "teacher teacher: alignment: it needs two domains, but source is null" in text
    assert "teacher teacher: adapt: it needs two domains, but source is null" in text
    assert "transfer.alignment: it needs two domains, but source is null" in text


def test_a_batch_of_one_cannot_be_aligned() -> None:
    one = {"training": {"batch_size": 1}}
    text = refusal(
        teacher=TEACHER | one | {"alignment": ALIGNED},
        student={"model": {"kind": "compact3d"}, **one},
        transfer={"alignment": ALIGNED},
    )
    assert "teacher teacher: alignment coral: " in text
    assert "transfer: alignment coral: " in text
    assert "got 1: raise training.batch_size" in text


def test_point_detectors_are_neither_aligned_nor_adapted() -> None:
    detector = {"model": DETECTOR}
    text = refusal(
        teacher=detector | {"alignment": ALIGNED, "adapt": "batch_norm"},
        student=detector,
        transfer={"terms": [{"kind": "soft_points"}], "alignment": ALIGNED},
    )
    assert "teacher teacher: alignment: it compares one embedding for each sample" in text
    assert "transfer: alignment: it compares one embedding for each sample" in text
    assert "adapt: batch_norm is for classifiers" in text


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"alignment": ALIGNED}, "adapt: batch_norm adapts it to the target"),
        ({"adapt": "embedding"}, "mean and SD of the source are not known"),
        ({"adapt": "layer_norm"}, "Input should be 'batch_norm' or 'embedding'"),
    ],
)
def test_a_given_teacher_is_adapted_by_batch_norm_alone(more: dict[str, Any], reason: str) -> None:
    given = {"from": "ct-nodule-source"}
    assert reason in refusal(source=None, teacher=given | more)
    accepted = values(source=None, teacher=given | {"adapt": "batch_norm"})
    assert RunSettings.model_validate(accepted).teacher.adapt == "batch_norm"


PROBE = {"kind": "probe", "backbone": {"kind": "compact3d"}, "layers": ["features.3"]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("adapt", "batch_norm"),
        ("alignment", ALIGNED),
        ("training", {"epochs": 3}),
        ("initialise", {"from": "ct-nodule-small"}),
    ],
)
def test_the_short_form_of_a_probe_has_every_key_of_a_teacher(key: str, value: object) -> None:
    short = TeacherSettings.model_validate(PROBE | {key: value})
    assert short == TeacherSettings.model_validate({"model": PROBE, key: value})
    assert key in short.model_fields_set


def test_a_field_of_view_that_the_body_of_a_probe_cannot_run_is_refused() -> None:
    detector = PROBE | {"backbone": DETECTOR, "layers": ["down4"], "looks": [{"size_vox": 12}]}
    text = refusal(teacher=detector)
    assert "teacher teacher: probe.looks: size_vox: 12 shows (12, 12, 12)" in text


def test_a_probe_in_short_that_is_an_ensemble_too_is_refused() -> None:
    text = refusal(teacher=PROBE | {"ensemble": {"members": ["a", "b"]}})
    assert "give one of from" in text


def test_an_alignment_that_does_not_exist_is_refused() -> None:
    assert "'coral', 'mmd', 'dann'" in refusal(transfer={"alignment": {"kind": "coralle"}})


def test_missing_parts_are_all_named_at_once() -> None:
    text = refusal(source=None, teacher=None, transfer=None)
    assert "teacher: missing" in text
    assert "transfer: missing" in text


def test_whole_scans_are_searched_in_ct_only() -> None:
    images = {"data": {"kind": "medmnist", "path": "x.npz"}, "split": {"kind": "official"}}
    assert "only CT scans can be searched" in refusal(source=None, target=images, detection={})


def test_a_teacher_is_given_or_trained_not_both() -> None:
    both = {"from": "somewhere", "model": {"kind": "resnet3d"}}
    assert "give one of from" in refusal(teacher=both)


@pytest.mark.parametrize(
    ("bench", "reason"),
    [
        ({"seeds": [1, 1]}, "a seed occurs twice"),
        ({"primary": {"first": "nobody"}}, "which is not an arm"),
        (
            {"arms": [{"name": "a", "teacher": "b", "transfer": {"terms": [{"kind": "hint"}]}}]},
            "names the teacher 'b'",
        ),
        ({"teachers": {"control": {"from": "x"}}}, "occurs twice"),
    ],
)
def test_a_bench_whose_names_do_not_fit_is_refused(bench: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BenchSettings.model_validate(bench)


def test_training_that_never_leaves_its_warm_up_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_epochs"):
        TrainingSettings(epochs=2, warmup_epochs=2)


def test_stored_answers_and_averaged_views_are_for_classifiers() -> None:
    detector = {"model": {"kind": "detector3d"}}
    points = {"terms": [{"kind": "soft_points"}], "targets": {"mode": "stored"}}
    words = refusal(student=detector, transfer=points, evaluation={"views": 4})
    assert "detector3d learns from crops" in words
    assert "evaluation.views: a point detector" in words
