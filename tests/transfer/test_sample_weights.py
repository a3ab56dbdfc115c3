"""How much a sample counts by what the teacher answers, with values that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.transfer.objective import TransferObjective
from medkd.transfer.sample_weights import weigh_samples
from medkd.transfer.settings import TransferSettings
from medkd.transfer.soft_labels import soft_label_loss
from medkd.transfer.teacher import FrozenTeacher
from tests.contracts import TinyNet, check_term, tiny_batch, tiny_objective
from tests.transfer import slow_losses


def settings_of(by: str, **more: object) -> TransferSettings:
    term = {"kind": "soft_label", "sample_weight": by, **more}
    return TransferSettings.model_validate({"terms": [term]})


def weights_of(
    logits: list[list[float]], label: list[list[float]], *, outputs: str, by: str
) -> Tensor:
    y = torch.tensor(label)
    known = ~y.isnan()
    return weigh_samples(torch.tensor(logits), y, known, outputs=outputs, by=by)


def test_certainty_counts_fully_and_equal_probabilities_not_at_all() -> None:
    # p = 1/4 and 3/4: H = .5623, 1 - .5623 / .6931 = .1887
    logits = [[0.0], [99.0], [-99.0], [torch.tensor(3.0).log().item()]]
    found = weights_of(logits, [[1.0]] * 4, outputs="independent", by="confidence")
    assert found.flatten().tolist() == pytest.approx([0.0, 1.0, 1.0, 0.1887], abs=5e-5)


def test_one_logit_and_two_give_the_same_confidence() -> None:
    one = weights_of([[1.2]], [[1.0]], outputs="independent", by="confidence")
    two = weights_of([[0.3, 1.5]], [[1.0]], outputs="exclusive", by="confidence")
    assert two.item() == pytest.approx(one.item())


def test_confidence_in_classes_is_that_of_the_slow_entropy() -> None:
    logits = 2 * torch.randn(6, 4, generator=torch.Generator().manual_seed(1)).double()
    label = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
    known = torch.ones_like(label, dtype=torch.bool)
    found = weigh_samples(logits, label, known, outputs="exclusive", by="confidence")
    assert found.shape == (6, 1)
    assert found.flatten().tolist() == pytest.approx(slow_losses.confidence(logits.numpy()))


def test_a_teacher_that_is_wrong_does_not_count_and_an_unknown_label_does() -> None:
    nan = float("nan")
    logits = [[2.0], [2.0], [-1.0], [-1.0]]
    found = weights_of(logits, [[1.0], [0.0], [0.0], [nan]], outputs="independent", by="correct")
    assert found.flatten().tolist() == [1.0, 0.0, 1.0, 1.0]


def test_the_most_probable_class_is_right_or_wrong() -> None:
    label = [[0.0, 1, 0], [0.0, 0, 1], [float("nan")] * 3]
    logits = [[0.0, 2.0, 1.0]] * 3
    found = weights_of(logits, label, outputs="exclusive", by="correct")
    assert found.tolist() == [[1.0], [0.0], [1.0]]


def test_a_weighted_loss_equals_a_slow_weighted_mean() -> None:
    generator = torch.Generator().manual_seed(3)
    teacher, student = (torch.randn(5, 4, generator=generator).double() for _ in range(2))
    wanted = [0.2, 0.0, 1.0, 0.7, 0.1]
    weight = torch.tensor(wanted).double()[:, None]

    value = soft_label_loss(teacher, student, outputs="exclusive", temperature=2.0, weight=weight)

    arrays = (teacher.numpy(), student.numpy())
    assert value.item() == pytest.approx(slow_losses.weighted_soft_label(*arrays, 2.0, wanted))


def test_only_the_ratio_of_weights_counts_and_equal_ones_change_nothing() -> None:
    teacher, student = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(4))
    more = {"outputs": "independent", "temperature": 2.0}
    known = torch.tensor([[True, False, True]]).expand(6, 3)

    plain = soft_label_loss(teacher, student, known=known, **more)

    same = soft_label_loss(teacher, student, known=known, weight=torch.full((6, 3), 0.01), **more)
    torch.testing.assert_close(same, plain)


def test_a_batch_without_weight_gives_no_loss_and_no_gradient() -> None:
    student = torch.randn(3, 2, requires_grad=True)
    more = {"outputs": "independent", "temperature": 1.0, "weight": torch.zeros(3, 2)}

    value = soft_label_loss(torch.randn(3, 2), student, **more)
    value.backward()

    assert value.item() == 0
    assert student.grad.abs().max() == 0


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("by", ["confidence", "correct"])
def test_a_weighted_term_holds_the_contract(by: str, spatial_dims: int) -> None:
    check_term(settings_of(by), spatial_dims=spatial_dims)


def test_the_term_counts_the_samples_on_which_the_teacher_is_right() -> None:
    batch = tiny_batch()
    objective = tiny_objective(settings_of("correct")).eval()
    said = (objective.teacher(batch.image).logits >= 0).float()
    label = torch.cat([said[:1], 1 - said[1:]])
    alone = replace(
        batch, image=batch.image[:1], label=label[:1], label_known=batch.label_known[:1],
        sample_id=batch.sample_id[:1],
    )  # fmt: skip

    weighted = objective(replace(batch, label=label), 1.0).terms["soft_label"]

    torch.testing.assert_close(weighted, objective(alone, 1.0).terms["soft_label"])


@pytest.mark.parametrize(
    ("by", "reason"),
    [("confidence", "the same probability"), ("correct", "wrong on every labelled sample")],
)
def test_a_teacher_by_which_no_sample_counts_is_refused_before_the_training(
    by: str, reason: str
) -> None:
    net = TinyNet(width=4, seed=0)
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    objective = TransferObjective(TinyNet(width=4, seed=1), FrozenTeacher(net), settings_of(by))
    batch = tiny_batch()  # a logit of 0 counts as positive, so negative labels make it wrong
    with pytest.raises(SettingsError) as refused:
        objective.prepare([replace(batch, label=torch.zeros_like(batch.label))])
    assert reason in refused.value.reasons[0]
    assert "sample_weight: equal" in refused.value.reasons[0]
