"""Subclasses of a teacher's embedding: how classes are divided, taught, and when refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medkd.errors import SettingsError
from medkd.transfer.objective import TransferObjective
from medkd.transfer.settings import TransferSettings, check_transfer
from medkd.transfer.subclasses import SubclassSettings, SubclassTerm, subclass_loss
from medkd.transfer.teacher import FrozenTeacher, TeacherOutput
from medkd.transfer.terms import TermContext, TermInputs
from tests.contracts import TinyNet, tiny_batch, tiny_objective
from tests.transfer import slow_losses

LAYERS = {"teacher_layer": "pool", "student_layer": "pool"}
SETTINGS = SubclassSettings(subclasses=2, temperature=2.0, subclass_temperature=0.5, **LAYERS)


def embeddings() -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings [40, 5] of a linear teacher, its margins [40, 1], and labels [40, 1]."""
    generator = torch.Generator().manual_seed(5)
    spread = torch.tensor([3.0, 2.0, 1.0, 0.5, 1.0])
    rows = torch.randn(40, 5, generator=generator) * spread
    margin = rows @ torch.tensor([0.0, 0.3, 0.0, 0.0, 2.0])
    return rows, margin[:, None], (margin > 0).float()[:, None]


def term_of(settings: SubclassSettings, *, width: int = 5, classes: int = 1) -> SubclassTerm:
    torch.manual_seed(3)
    empty = {"pool": torch.zeros(1, width)}
    outputs = "independent" if classes == 1 else "exclusive"
    return SubclassTerm(settings, TermContext(outputs, empty, empty, classes))


def prepared(*, known: bool = True, sharp: float = 1.0) -> SubclassTerm:
    rows, margin, label = embeddings()
    term = term_of(SETTINGS)
    seen = torch.full_like(label, known, dtype=torch.bool)
    term.observe(TeacherOutput(margin * sharp, {"pool": rows}), label, seen)
    term.finish()
    return term


def inputs_of(rows: Tensor, margin: Tensor, *, known: Tensor | None = None) -> TermInputs:
    known = torch.ones_like(margin, dtype=torch.bool) if known is None else known
    feature = {"pool": rows}
    return TermInputs(margin, margin, feature, feature, margin, known)


def test_the_loss_equals_slow_loops() -> None:
    term, (rows, margin, label) = prepared(), embeddings()

    value = term(inputs_of(rows, margin)).item()

    shares = slow_losses.subclass_shares(
        rows.double().numpy(), margin[:, 0].double().numpy(), label[:, 0].int().tolist(),
        rotation=term.rotation.double().numpy(), temperatures=np.array([2.0, 0.5]),
    )  # fmt: skip
    student = [slow_losses.softmax(g / 2) for g in term.head(rows).detach().double().numpy()]
    each = [slow_losses.kl(q, p) for q, p in zip(shares, student, strict=True)]
    assert value == pytest.approx(4 * sum(each) / 40, rel=1e-4)


def test_a_head_that_repeats_the_teachers_subclasses_costs_nothing() -> None:
    scores, places = torch.tensor([[0.2, 1.0], [3.0, -1.0]]), torch.randn(2, 2, 2)
    within = (places / 0.5).log_softmax(2)
    log_q = ((scores / 2).log_softmax(1)[:, :, None] + within).flatten(1)

    equal = subclass_loss(scores, places, 2 * log_q + 7, settings=SETTINGS)
    other = subclass_loss(scores, places, torch.zeros(2, 4), settings=SETTINGS)

    assert equal.item() == pytest.approx(0.0, abs=1e-6)
    assert other.item() > 0.1


def test_what_moves_the_teachers_logit_does_not_move_the_subclasses() -> None:
    term, (rows, _, _) = prepared(), embeddings()
    along_the_logit = torch.tensor([0.0, 0.3, 0.0, 0.0, 2.0])

    moved = term.coordinates(rows + along_the_logit)

    torch.testing.assert_close(moved, term.coordinates(rows), rtol=1e-3, atol=1e-3)


def test_the_places_of_a_class_have_mean_0_and_mean_variance_1() -> None:
    term, (rows, _, label) = prepared(), embeddings()

    own = term.coordinates(rows)[label[:, 0] == 1, 1]

    assert own.mean(0).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert own.var(0, unbiased=False).mean().item() == pytest.approx(1.0, abs=1e-4)


def test_samples_without_labels_are_divided_by_the_teachers_word() -> None:
    # A teacher that is certain of the true labels divides as the labels do.
    without = prepared(known=False, sharp=1e3)

    torch.testing.assert_close(without.mean, prepared().mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(without.directions, prepared().directions, rtol=1e-2, atol=1e-2)


def test_two_logits_divide_as_one_does() -> None:
    rows, margin, label = embeddings()
    two = torch.cat([torch.zeros_like(margin), margin], dim=1) + 0.3
    term = term_of(SETTINGS, classes=2)
    known = torch.ones_like(label, dtype=torch.bool)

    term.observe(TeacherOutput(two, {"pool": rows}), label, known)
    term.finish()

    torch.testing.assert_close(term.directions, prepared().directions, rtol=1e-3, atol=1e-4)


def test_unknown_samples_are_left_out_if_asked_and_nothing_known_gives_0() -> None:
    rows, margin, _ = embeddings()
    known = torch.ones_like(margin, dtype=torch.bool)
    known[3:] = False
    term = prepared()
    everything, first = term(inputs_of(rows, margin)), term(inputs_of(rows[:3], margin[:3]))
    term.settings = SETTINGS.model_copy(update={"samples": "labelled"})

    assert term(inputs_of(rows, margin, known=known)).item() == pytest.approx(first.item())
    assert term(inputs_of(rows, margin, known=known & False)).item() == 0
    assert everything.item() != pytest.approx(first.item(), rel=1e-3)


def test_three_exclusive_classes_are_divided_too() -> None:
    settings = settings_of({"kind": "subclass", "subclasses": 2}, outputs="exclusive")
    objective = tiny_objective(settings, labels=3)
    objective.prepare([tiny_batch(labels=3, samples=30)])

    output = objective(tiny_batch(labels=3), 1.0)

    assert output.terms["subclass"] > 0
    assert objective.terms["subclass"].head.out_features == 6


def settings_of(*terms: dict[str, object], **more: object) -> TransferSettings:
    return TransferSettings.model_validate({"terms": list(terms), **more})


def test_several_independent_labels_are_refused() -> None:
    reasons = check_transfer(settings_of({"kind": "subclass"}), 14, teacher_label_count=14)

    assert "14 independent labels are not exclusive classes" in reasons[0]


def test_more_subclasses_than_directions_are_refused_before_training() -> None:
    settings = settings_of({"kind": "subclass", "subclasses": 6})

    with pytest.raises(SettingsError, match="5 directions that do not move its logits"):
        TransferObjective(
            TinyNet(width=4, seed=0), FrozenTeacher(TinyNet(width=6, seed=1)), settings
        )


def test_samples_that_differ_too_little_are_refused() -> None:
    objective = tiny_objective(settings_of({"kind": "subclass", "subclasses": 3}))

    with pytest.raises(SettingsError, match="class 1 differ in fewer than 3 directions"):
        objective.prepare([tiny_batch(samples=4)])


def test_a_term_that_was_not_prepared_says_so() -> None:
    objective = tiny_objective(settings_of({"kind": "subclass"}))

    assert objective.needs_samples
    with pytest.raises(ValueError, match="prepare before the training"):
        objective(tiny_batch(), 1.0)


def test_preparing_again_gives_the_same_subclasses_as_a_resumed_training_needs() -> None:
    first, second = (tiny_objective(settings_of({"kind": "subclass"})) for _ in range(2))
    for objective in (first, second):
        objective.prepare([tiny_batch(samples=40)])

    state = second.terms.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in first.terms.state_dict().items())
    assert first.student.state_dict().keys() == TinyNet(width=4, seed=0).state_dict().keys()
