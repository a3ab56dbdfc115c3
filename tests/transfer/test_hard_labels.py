"""The loss on the data's own labels, with values that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from hypothesis import given
from hypothesis import strategies as st

from medkd.transfer.hard_labels import hard_label_loss


def test_cross_entropy_of_a_certain_label_is_minus_log_of_its_share() -> None:
    # -ln .8 = .2231
    value = hard_label_loss(
        torch.tensor([[0.1, 0.8, 0.1]]).log(),
        torch.tensor([[0.0, 1.0, 0.0]]),
        outputs="exclusive",
        known=torch.ones(1, 3, dtype=torch.bool),
    )

    assert value.item() == pytest.approx(0.2231, abs=5e-5)


@given(
    z=st.lists(st.floats(-12, 12), min_size=4, max_size=4),
    label=st.lists(st.booleans(), min_size=4),
)
def test_hard_labels_on_two_logits_and_one_give_the_same_value(
    z: list[float], label: list[bool]
) -> None:
    margin = torch.tensor(z, dtype=torch.float64)[:, None]
    two = torch.cat([torch.full_like(margin, 0.7), margin + 0.7], dim=1)
    y = torch.tensor(label[:4]).double()[:, None]
    more = {"known": torch.ones(4, 1, dtype=torch.bool), "smoothing": 0.1}
    more["positive_share"] = torch.tensor([0.2])

    one = hard_label_loss(margin, y, outputs="independent", **more)

    assert hard_label_loss(two, y, outputs="exclusive", **more).item() == pytest.approx(one.item())


def test_labels_that_are_not_known_change_nothing() -> None:
    logits = torch.tensor([[0.5, -1.0], [2.0, 0.1]], requires_grad=True)
    known = torch.tensor([[True, False], [True, True]])
    label = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])

    value = hard_label_loss(logits, label, outputs="independent", known=known)
    value.backward()

    three = F.binary_cross_entropy_with_logits(
        torch.tensor([0.5, 2.0, 0.1]), torch.tensor([1.0, 0.0, 1.0])
    )
    assert value.item() == pytest.approx(three.item())
    assert logits.grad[0, 1] == 0
    assert torch.isfinite(logits.grad).all()


def test_class_balance_makes_both_classes_weigh_the_same() -> None:
    # One positive among four: weights 1 / (2 * .25) = 2 and 1 / (2 * .75) = 2/3; all losses ln 2.
    known = torch.ones(4, 1, dtype=torch.bool)
    label = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    logits = torch.zeros(4, 1, requires_grad=True)

    value = hard_label_loss(
        logits, label, outputs="independent", known=known, positive_share=torch.tensor([0.25])
    )
    value.backward()

    assert value.item() == pytest.approx(math.log(2))
    assert logits.grad.sum().item() == pytest.approx(0.0, abs=1e-7)


def test_smoothing_gives_each_class_its_part() -> None:
    # y 1 becomes .9 * 1 + .1 / 2 = .95; at logit ln 19 the share is .95: loss = its entropy
    value = hard_label_loss(
        torch.tensor([[math.log(19)]]), torch.ones(1, 1), outputs="independent",
        known=torch.ones(1, 1, dtype=torch.bool), smoothing=0.1,
    )  # fmt: skip

    assert value.item() == pytest.approx(-0.95 * math.log(0.95) - 0.05 * math.log(0.05))


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_a_batch_is_the_mean_of_its_samples(outputs: str) -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(5, 3).double(), torch.eye(3)[[0, 2, 1, 1, 0]].double()
    known = torch.ones(5, 3, dtype=torch.bool)

    each = [
        hard_label_loss(logits[n : n + 1], label[n : n + 1], outputs=outputs, known=known[:1])
        for n in range(5)
    ]

    whole = hard_label_loss(logits, label, outputs=outputs, known=known)
    assert whole.item() == pytest.approx(sum(each).item() / 5)


@pytest.mark.parametrize("outputs", ["independent", "exclusive"])
def test_nothing_known_gives_0_and_a_gradient_of_0(outputs: str) -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    known = torch.zeros(3, 2, dtype=torch.bool)

    value = hard_label_loss(logits, torch.full((3, 2), float("nan")), outputs=outputs, known=known)
    value.backward()

    assert value.item() == 0
    assert logits.grad.abs().max() == 0
