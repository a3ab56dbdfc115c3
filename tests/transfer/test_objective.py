"""The weighted sum: what enters it, how it is scheduled, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.models.table import build_model, parse_model_settings
from medkd.transfer.objective import TransferObjective, term_names
from medkd.transfer.settings import TransferSettings
from medkd.transfer.table import NOTHING_WITH_TWO_CLASSES, TERMS
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import PatchBatch
from tests.contracts import TinyNet, check_term, tiny_batch, tiny_objective

MAPS = {"student_layer": "conv", "teacher_layer": "conv"}
EXAMPLES: dict[str, dict[str, object]] = {"hint": MAPS, "attention": MAPS, "feature_kl": MAPS}
"""Settings under which a term of the table is checked; none: its defaults."""


def settings_of(*terms: dict[str, object], **more: object) -> TransferSettings:
    return TransferSettings.model_validate({"terms": list(terms), **more})


OF_SAMPLES = [kind for kind, its in TERMS.items() if its.settings.compares != "points"]
"""The other terms are checked in `test_point_terms.py`."""


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("kind", OF_SAMPLES)
def test_every_term_of_the_table_holds_the_contract(kind: str, spatial_dims: int) -> None:
    several = kind in NOTHING_WITH_TWO_CLASSES  # they need three classes
    settings = settings_of(
        {"kind": kind, **EXAMPLES.get(kind, {})},
        outputs="exclusive" if several else "independent",
    )

    check_term(settings, spatial_dims=spatial_dims, labels=3 if several else 1)


@pytest.mark.parametrize("kind", sorted(set(OF_SAMPLES) - {"adversarial"}))
def test_training_lowers_every_term(kind: str) -> None:
    """All but the adversarial one, which student and discriminator pull in two directions."""
    several = kind in NOTHING_WITH_TWO_CLASSES
    settings = settings_of(
        {"kind": kind, **EXAMPLES.get(kind, {})},
        outputs="exclusive" if several else "independent",
        hard_label={"weight": 1e-9},
    )
    shape = {"spatial_dims": 2, "labels": 3 if several else 1}
    objective = tiny_objective(settings, **shape)
    objective.prepare([tiny_batch(samples=40, **shape)])
    batch = tiny_batch(samples=12, **shape)
    optimiser = torch.optim.Adam(objective.trainable_parameters(), lr=0.02)

    values = []
    for _ in range(40):
        optimiser.zero_grad()
        output = objective(batch, 1.0)
        output.loss.backward()
        optimiser.step()
        values.append(output.terms[kind].item())

    assert values[-1] < 0.9 * values[0]


def gradient_of(layer: str, teacher_seed: int, settings: TransferSettings) -> Tensor:
    """d loss / d student output of `layer`, with a teacher of that seed."""
    student = TinyNet(width=4, seed=0)
    objective = TransferObjective(
        student, FrozenTeacher(TinyNet(width=6, seed=teacher_seed)), settings
    )
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    handle = student.get_submodule(layer).register_forward_hook(keep)
    objective(tiny_batch(), 1.0).loss.backward()
    handle.remove()
    return kept[0].grad


def test_the_gradient_of_the_students_logits_changes_with_the_teacher() -> None:
    settings = settings_of({"kind": "soft_label"})

    first, second = (gradient_of("head", seed, settings) for seed in (1, 2))

    assert not torch.allclose(first, second, atol=1e-5)


def test_the_gradient_of_the_students_feature_changes_with_the_teachers_feature() -> None:
    settings = settings_of({"kind": "hint"})

    first, second = (gradient_of("pool", seed, settings) for seed in (1, 2))

    assert not torch.allclose(first, second, atol=1e-5)


def test_without_terms_the_teacher_changes_nothing() -> None:
    first, second = (gradient_of("head", seed, settings_of()) for seed in (1, 2))

    assert torch.equal(first, second)


def test_teacher_and_student_are_given_the_very_same_tensor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective = tiny_objective(settings_of({"kind": "soft_label"}, {"kind": "hint"}))
    seen: list[Tensor] = []
    plain = TinyNet.forward

    def forward(self: TinyNet, view: Tensor) -> Tensor:
        seen.append(view)
        return plain(self, view)

    monkeypatch.setattr(TinyNet, "forward", forward)
    batch = tiny_batch()
    objective(batch, 0.0)

    assert len(seen) == 2
    assert all(view is batch.image for view in seen)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    objective = tiny_objective(
        settings_of(
            {"kind": "soft_label", "weight": 0.7},
            {"kind": "hint", "weight": 3.0},
            hard_label={"weight": 0.5},
        )
    ).eval()

    output = objective(tiny_batch(), 0.5)

    assert output.weights == {"hard_label": 0.5, "soft_label": 0.7, "hint": 3.0}
    total = sum(output.weights[name] * value for name, value in output.terms.items())
    torch.testing.assert_close(output.loss.detach(), total)
    assert output.logits.requires_grad
    assert not any(value.requires_grad for value in output.terms.values())


def test_the_schedule_moves_the_terms_and_not_the_labels() -> None:
    objective = tiny_objective(
        settings_of(
            {"kind": "soft_label", "weight": 2.0}, schedule={"kind": "warmup", "share": 0.5}
        )
    )

    output = objective(tiny_batch(), 0.25)

    assert output.weights == {"hard_label": 1.0, "soft_label": 1.0}
    torch.testing.assert_close(output.loss, output.terms["hard_label"] + output.terms["soft_label"])
    whole = objective(tiny_batch(), 1.0)
    expected = whole.terms["hard_label"] + 2.0 * whole.terms["soft_label"]
    torch.testing.assert_close(whole.loss, expected)


def test_the_temperature_moves_from_the_first_to_the_final_one() -> None:
    moving = {"kind": "soft_label", "temperature": 4.0, "final_temperature": 1.0}
    objective = tiny_objective(settings_of(moving)).eval()
    batch = tiny_batch()

    for progress, temperature in ((0.0, 4.0), (0.5, 2.5), (1.0, 1.0)):
        fixed = settings_of({"kind": "soft_label", "temperature": temperature})
        expected = tiny_objective(fixed).eval()(batch, progress).terms["soft_label"]
        assert objective(batch, progress).terms["soft_label"] == expected


def test_a_student_of_soft_labels_alone_does_not_see_the_labels() -> None:
    settings = settings_of({"kind": "soft_label"}, hard_label={"weight": 0})
    batch = tiny_batch()
    turned = replace(batch, label=1 - batch.label)

    first, second = (tiny_objective(settings).eval()(one, 1.0) for one in (batch, turned))

    assert first.weights == {"hard_label": 0.0, "soft_label": 1.0}
    assert first.loss == second.loss


def test_a_sample_without_label_is_taught_by_the_teacher_alone() -> None:
    settings = settings_of({"kind": "soft_label"})
    batch = tiny_batch()
    nothing_known = replace(
        batch,
        label=torch.full_like(batch.label, float("nan")),
        label_known=torch.zeros_like(batch.label_known),
    )

    output = tiny_objective(settings)(nothing_known, 1.0)

    assert output.terms["hard_label"] == 0
    assert output.terms["soft_label"] > 0
    assert output.loss == output.terms["soft_label"]


def test_labelled_only_leaves_the_unlabelled_out() -> None:
    batch = tiny_batch()
    first_known = replace(batch, label_known=torch.tensor([[True], [False], [False], [False]]))
    alone = PatchBatch(batch.image[:1], batch.label[:1], batch.label_known[:1], ("sample0",))
    objective = tiny_objective(settings_of({"kind": "soft_label", "samples": "labelled"})).eval()

    masked = objective(first_known, 1.0).terms["soft_label"]

    torch.testing.assert_close(masked, objective(alone, 1.0).terms["soft_label"])


def test_one_logit_and_two_logits_give_the_same_loss() -> None:
    terms = {"kind": "soft_label", "weight": 0.4}
    one = tiny_objective(settings_of(terms)).eval()
    two = tiny_objective(settings_of(terms, outputs="exclusive"), labels=2).eval()
    teachers = [one.teacher._network, two.teacher._network]
    for narrow, wide in ((one.student, two.student), tuple(teachers)):
        state = {k: v for k, v in narrow.state_dict().items() if not k.startswith("head")}
        state["head.weight"] = torch.cat(
            [torch.zeros(1, narrow.head.in_features), narrow.head.weight]
        )
        state["head.bias"] = torch.cat([torch.zeros(1), narrow.head.bias])
        wide.load_state_dict(state)

    batch = tiny_batch()
    torch.testing.assert_close(one(batch, 1.0).loss, two(batch, 1.0).loss)


def test_two_hints_have_names_and_projectors_of_their_own() -> None:
    settings = settings_of(
        {"kind": "hint"}, {"kind": "hint", "student_layer": "conv", "teacher_layer": "norm"}
    )

    objective = tiny_objective(settings)

    assert term_names(settings) == ["hint", "hint_2"]
    assert set(objective(tiny_batch(), 1.0).terms) == {"hard_label", "hint", "hint_2"}
    assert len(objective.terms.state_dict()) == 4


def test_projectors_are_trained_with_the_student() -> None:
    objective = tiny_objective(settings_of({"kind": "hint"}))
    named = {id(p): name for name, p in objective.named_parameters()}

    trained = {named[id(p)] for p in objective.trainable_parameters()}

    assert "terms.hint.projector.linear.weight" in trained
    assert "student.conv.weight" in trained


def test_building_moves_neither_the_students_statistics_nor_the_global_generator() -> None:
    student = TinyNet(width=4, seed=0).train()
    student.norm.eval()
    before, state = torch.get_rng_state(), student.norm.running_mean.clone()

    TransferObjective(
        student, FrozenTeacher(TinyNet(width=6, seed=1)), settings_of({"kind": "hint"})
    )

    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(student.norm.running_mean, state)
    assert student.conv.training
    assert not student.norm.training


def refusal(settings: TransferSettings, teacher: nn.Module | None, **more: object) -> str:
    frozen = None if teacher is None else FrozenTeacher(teacher)
    with pytest.raises(SettingsError) as caught:
        TransferObjective(TinyNet(width=4, seed=0), frozen, settings, **more)
    return str(caught.value)


def test_what_does_not_fit_is_refused_with_all_reasons_at_once() -> None:
    settings = settings_of({"kind": "soft_label"}, hard_label={"class_balanced": True})

    said = refusal(settings, TinyNet(width=6, seed=1, labels=14))

    assert "teacher of 14 outputs cannot teach 1" in said
    assert "share of positives" in said


def test_two_hints_that_prove_to_tap_the_same_layers_are_refused() -> None:
    named = {"kind": "hint", "student_layer": "pool", "teacher_layer": "pool"}

    said = refusal(settings_of({"kind": "hint"}, named), TinyNet(width=6, seed=1))

    assert "the same term occurs 2 times (hint, pool, pool, False)" in said


def test_every_label_needs_its_share_of_positives() -> None:
    settings = settings_of(hard_label={"class_balanced": True})
    student = TinyNet(width=4, seed=0, labels=3)

    with pytest.raises(SettingsError, match="2 shares of positives, 3 labels"):
        TransferObjective(student, None, settings, positive_share=[0.2, 0.3])


def test_several_labels_some_unknown_are_taught_by_labels_and_teacher() -> None:
    settings = settings_of(
        {"kind": "soft_label", "samples": "labelled"}, {"kind": "hint"},
        hard_label={"class_balanced": True, "smoothing": 0.1},
    )  # fmt: skip
    student, teacher = TinyNet(width=4, seed=0, labels=3), TinyNet(width=6, seed=1, labels=3)
    share = [0.2, 0.3, 0.5]
    objective = TransferObjective(student, FrozenTeacher(teacher), settings, positive_share=share)
    batch = tiny_batch(labels=3)
    known = torch.tensor([[True, True, True], [True, False, True], [False] * 3, [True] * 3])
    label = batch.label.masked_fill(~known, float("nan"))

    output = objective(replace(batch, label=label, label_known=known), 1.0)
    output.loss.backward()

    assert output.logits.shape == (4, 3)
    assert all(torch.isfinite(value) and value > 0 for value in output.terms.values())
    assert all(torch.isfinite(p.grad).all() for p in student.parameters())


def test_terms_without_a_teacher_are_refused() -> None:
    assert "no teacher" in refusal(settings_of({"kind": "soft_label"}), None)


def test_a_layer_that_does_not_exist_is_refused_before_training() -> None:
    hint = {"kind": "hint", "student_layer": "conb", "teacher_layer": "conv"}

    assert "similar names are conv" in refusal(settings_of(hint), TinyNet(width=6, seed=1))


def test_widths_that_differ_without_projector_are_refused_before_training() -> None:
    said = refusal(settings_of({"kind": "hint", "projector": "none"}), TinyNet(width=6, seed=1))

    assert "teacher (1, 6), student after its projector (1, 4)" in said


def test_a_normalised_feature_of_one_channel_is_refused() -> None:
    assert "is +-1" in refusal(settings_of({"kind": "hint"}), TinyNet(width=1, seed=1))


def test_a_network_that_names_no_embedding_layer_needs_the_layer_named() -> None:
    plain = nn.Sequential(
        nn.Conv3d(1, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 1)
    )

    assert "the teacher_layer must be named" in refusal(settings_of({"kind": "hint"}), plain)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_class_that_does_not_occur_cannot_be_balanced(share: float) -> None:
    settings = settings_of(hard_label={"class_balanced": True})

    assert "both classes must occur" in refusal(settings, None, positive_share=[share])


SWIN_LAYER = "body.features.1"


def swin_teacher() -> FrozenTeacher:
    values = {"kind": "torchvision2d", "name": "swin_t", "image_size": 32}
    return FrozenTeacher(build_model(parse_model_settings(values), seed=0))


@pytest.mark.parametrize("kind", ["hint", "attention", "feature_kl", "rkd_distance", "similarity"])
def test_a_layer_with_its_channels_last_is_refused(kind: str) -> None:
    student = build_model(parse_model_settings({"kind": "compact2d"}), seed=0)
    term = {"kind": kind, "teacher_layer": SWIN_LAYER, "student_layer": "features.3"}
    with pytest.raises(SettingsError, match="channels last: name a layer") as refused:
        TransferObjective(student, swin_teacher(), settings_of(term), view_shape=(1, 32, 32))
    assert f"layer '{SWIN_LAYER}' gives (8, 8, 96)" in str(refused.value)


def test_the_embedding_of_such_a_network_can_be_compared() -> None:
    student = build_model(parse_model_settings({"kind": "compact2d"}), seed=0)
    settings = settings_of({"kind": "hint"})
    built = TransferObjective(student, swin_teacher(), settings, view_shape=(1, 32, 32))
    assert built.terms["hint"].projector.linear.out_features == 768
