"""Combinations that cannot teach anything are refused when the configuration is read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from medkd.transfer.settings import TransferSettings, check_transfer
from medkd.transfer.soft_labels import SoftLabelSettings

SOFT = {"kind": "soft_label"}


def settings_of(**values: object) -> TransferSettings:
    return TransferSettings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"hard_label": {"weight": 0}}, "nothing teaches the outputs"),
        ({"hard_label": {"weight": 0}, "terms": [{"kind": "hint"}]}, "nothing teaches the outputs"),
        (
            {"hard_label": {"weight": 0}, "terms": [SOFT], "schedule": {"kind": "decay"}},
            "nothing is learned at the end",
        ),
        ({"terms": [SOFT, {**SOFT, "temperature": 4}]}, "the same term occurs 2 times"),
        ({"terms": [{"kind": "hint"}, {"kind": "hint", "weight": 2}]}, "occurs 2 times"),
        ({"terms": [{**SOFT, "weight": 0}]}, "greater than 0"),
        ({"terms": [{**SOFT, "temperature": 0}]}, "greater than 0"),
        ({"terms": [{**SOFT, "final_temperature": 0}]}, "greater than 0"),
        ({"hard_label": {"smoothing": 1.0}}, "less than 1"),
        ({"terms": [{"kind": "dkd"}]}, "non-target part is 0"),
        ({"terms": [{"kind": "logit_standardisation"}]}, "confidence is lost"),
        ({"terms": [{"kind": "dist"}]}, "only the decision is left"),
        ({"terms": [{"kind": "soft_labels"}]}, "soft_label"),
        ({"temperature": 2}, "Extra inputs"),
    ],
)
def test_what_cannot_teach_is_refused_with_its_reason(
    values: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        TransferSettings.model_validate(values)


@pytest.mark.parametrize(
    ("outputs", "labels", "teacher", "allowed"),
    [
        ("independent", 1, 1, True),
        ("independent", 1, 2, True),
        ("independent", 2, 1, False),
        ("independent", 14, 14, True),
        ("independent", 14, 1, False),
        ("exclusive", 2, 1, True),
        ("exclusive", 2, 2, True),
        ("exclusive", 3, 2, False),
        ("exclusive", 3, None, True),
    ],
)
def test_teacher_and_student_must_name_the_same_labels(
    outputs: str, labels: int, teacher: int | None, allowed: bool
) -> None:
    settings = settings_of(outputs=outputs, terms=[SOFT])

    assert (check_transfer(settings, labels, teacher_label_count=teacher) == ()) is allowed


def test_a_softmax_of_one_output_is_refused() -> None:
    (reason,) = check_transfer(settings_of(outputs="exclusive"), 1)

    assert "always 1" in reason
    assert "needs outputs: independent" in reason


def test_exclusive_logits_are_not_moved_to_the_controls_scale_one_by_one() -> None:
    targets = {"mode": "stored", "average": True, "views": 2, "scale": "control"}
    settings = settings_of(outputs="exclusive", terms=[SOFT], targets=targets)

    (reason,) = check_transfer(settings, 3)

    assert "use targets.scale: own" in reason


def test_a_hint_alone_does_not_care_for_the_teachers_labels() -> None:
    settings = settings_of(terms=[{"kind": "hint"}])

    assert check_transfer(settings, 1, teacher_label_count=14) == ()


def test_the_control_arm_differs_by_the_empty_list_alone() -> None:
    settings = settings_of(terms=[SOFT], hard_label={"smoothing": 0.1}, outputs="exclusive")

    control = settings.without_terms()

    assert control.terms == ()
    assert control.hard_label == settings.hard_label
    assert control.outputs == settings.outputs


def test_the_control_of_soft_labels_alone_learns_from_the_labels() -> None:
    settings = settings_of(terms=[SOFT], hard_label={"weight": 0, "smoothing": 0.1})

    control = settings.without_terms()

    assert (control.hard_label.weight, control.hard_label.smoothing) == (1.0, 0.1)


@pytest.mark.parametrize("progress", [-0.1, 1.1])
def test_a_temperature_outside_of_training_is_refused(progress: float) -> None:
    with pytest.raises(ValueError, match="share of training"):
        SoftLabelSettings(final_temperature=1.0).temperature_at(progress)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ({"kind": "constant"}, [1.0, 1.0, 1.0, 1.0, 1.0]),
        ({"kind": "warmup", "share": 0.5}, [0.0, 0.5, 1.0, 1.0, 1.0]),
        ({"kind": "decay", "start": 0.5, "floor": 0.2}, [1.0, 1.0, 1.0, 0.6, 0.2]),
    ],
)
def test_a_schedule_gives_these_factors_over_training(
    schedule: dict[str, object], factors: list[float]
) -> None:
    built = settings_of(terms=[SOFT], schedule=schedule).schedule

    assert [built.factor(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(factors)


@pytest.mark.parametrize("kind", ["constant", "warmup", "decay"])
@pytest.mark.parametrize("progress", [-0.1, 1.1])
def test_progress_outside_of_training_is_refused(kind: str, progress: float) -> None:
    schedule = settings_of(terms=[SOFT], schedule={"kind": kind}).schedule

    with pytest.raises(ValueError, match="share of training"):
        schedule.factor(progress)
