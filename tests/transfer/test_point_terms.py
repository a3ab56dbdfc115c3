"""What a point detector learns from a teacher's map, against slow sums over cells."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medkd.errors import SettingsError
from medkd.transfer.objective import TransferObjective
from medkd.transfer.point_terms import SoftPointsSettings, soft_points_loss, teacher_marks
from medkd.transfer.settings import TransferSettings
from medkd.transfer.table import TERMS
from medkd.transfer.teacher import FrozenTeacher
from medkd.types import ABSENT, EXCLUDED, NODULE, PatchBatch, Points
from tests.contracts import TinyNet, tiny_batch

OF_POINTS = [kind for kind, its in TERMS.items() if its.settings.compares == "points"]


class TinyDetector(nn.Module):
    """One convolution of stride 2 to the five channels of a map."""

    finds_points, label_count, spatial_dims = True, 1, 3

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv3d(1, 5, 2, stride=2)

    def forward(self, view: Tensor) -> Tensor:
        return self.conv(view)


def a_batch(*, known: tuple[bool, bool] = (True, True)) -> PatchBatch:
    image = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    points = Points(
        torch.tensor([[[3.0, 4.0, 2.0]], [[0.0, 0.0, 0.0]]]),
        torch.tensor([[6.0], [-1.0]]),
        torch.tensor([[NODULE], [ABSENT]]),
    )
    labels = torch.tensor([[1.0], [0.0]])
    return PatchBatch(image, labels, torch.tensor(known)[:, None], ("a", "b"), points=points)


def objective_of(*terms: dict[str, object]) -> TransferObjective:
    settings = TransferSettings.model_validate({"terms": list(terms)})
    return TransferObjective(TinyDetector(0), FrozenTeacher(TinyDetector(1)), settings)


def a_map(*peaks: tuple[int, int, int, float]) -> Tensor:
    found = torch.zeros(1, 5, 5, 5, 5)
    found[:, 0] = -6.0
    for i, j, k, logit in peaks:
        found[0, 0, i, j, k] = logit
    return found


@pytest.mark.parametrize("kind", OF_POINTS)
def test_every_term_for_points_gives_a_finite_loss_with_gradient(kind: str) -> None:
    objective, batch = objective_of({"kind": kind}), a_batch(known=(True, False))
    image = batch.image.clone()
    output = objective(batch, 1.0)
    assert set(output.terms) == {"score", "offset", "size", kind}
    assert torch.equal(batch.image, image)
    assert all(torch.isfinite(term) and term >= 0 for term in output.terms.values())
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.trainable_parameters())
    assert torch.equal(objective(batch, 1.0).terms[kind], output.terms[kind])


@pytest.mark.parametrize("kind", OF_POINTS)
def test_a_term_for_points_does_not_fit_a_classifier(kind: str) -> None:
    settings = TransferSettings.model_validate({"terms": [{"kind": kind}]})
    with pytest.raises(SettingsError) as refused:
        TransferObjective(
            TinyNet(width=4, seed=0), FrozenTeacher(TinyNet(width=4, seed=1)), settings
        )
    assert "compares points, but the student classifies samples" in str(refused.value)


def test_soft_labels_of_samples_do_not_fit_a_detector() -> None:
    with pytest.raises(SettingsError, match="compares logits, but the student finds points"):
        objective_of({"kind": "soft_label"})


def test_a_classifier_cannot_teach_a_detector() -> None:
    settings = TransferSettings.model_validate({"terms": [{"kind": "soft_points"}]})
    with pytest.raises(SettingsError, match="only one of teacher and student"):
        TransferObjective(TinyDetector(0), FrozenTeacher(TinyNet(width=4, seed=1)), settings)


def test_samples_without_labels_carry_no_label_loss() -> None:
    control = TransferObjective(TinyDetector(0), None, TransferSettings())
    both, first = control(a_batch(known=(True, False)), 0.0), a_batch()
    alone = PatchBatch(
        first.image[:1], first.label[:1], first.label_known[:1], ("a",),
        points=first.points.select(torch.tensor([0])),
    )  # fmt: skip
    assert torch.allclose(both.loss, control(alone, 0.0).loss)
    assert control(a_batch(known=(False, False)), 0.0).loss.item() == 0.0


def test_a_batch_of_candidates_cannot_train_a_detector() -> None:
    control = TransferObjective(TinyDetector(0), None, TransferSettings())
    with pytest.raises(ValueError, match="crops with points"):
        control(tiny_batch(), 0.0)


def test_soft_points_equals_a_sum_over_cells() -> None:
    random = torch.Generator().manual_seed(3)
    teacher, student = (torch.randn(2, 5, 4, 4, 4, generator=random) for _ in range(2))
    settings = SoftPointsSettings(foreground=0.6, offset_weight=0.7, size_weight=0.3)
    score = offset = size = total = peaks = 0.0
    for b in range(2):
        goals = teacher[b, 0].sigmoid()
        for i in range(4):
            for j in range(4):
                for k in range(4):
                    p_t = float(goals[i, j, k])
                    z = float(student[b, 0, i, j, k])
                    p_s = 1 / (1 + math.exp(-z))
                    around = goals[
                        max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2, max(k - 1, 0) : k + 2
                    ]
                    peaks += p_t >= 0.6 and p_t == float(around.max())
                    if p_t >= 0.6 or p_s >= 0.6:
                        entropy = -p_t * math.log(p_s) - (1 - p_t) * math.log(1 - p_s)
                        score += (p_t - p_s) ** 2 * entropy
                    if p_t >= 0.6:
                        total += p_t
                        away = (student[b, 1:4, i, j, k] - teacher[b, 1:4, i, j, k]).abs().tolist()
                        offset += p_t * sum(d * d if d < 0.5 else d - 0.25 for d in away)
                        size += p_t * abs(float(student[b, 4, i, j, k] - teacher[b, 4, i, j, k]))
    expected = score / max(peaks, 1) + 0.7 * offset / total + 0.3 * size / total
    assert float(soft_points_loss(teacher, student, settings)) == pytest.approx(expected, rel=1e-4)


def test_a_student_that_equals_its_teacher_has_no_loss() -> None:
    taught = a_map((2, 2, 2, 2.0))
    assert float(soft_points_loss(taught, taught.clone(), SoftPointsSettings())) == 0.0


def test_sure_peaks_are_nodules_and_doubtful_ones_carry_no_loss() -> None:
    taught = a_map((1, 1, 1, 2.0), (3, 3, 3, -1.0), (1, 1, 2, 1.0))
    taught[0, 1:4, 1, 1, 1] = torch.tensor([0.25, 0.0, -0.25])
    taught[0, 4, 1, 1, 1] = math.log(7.0)
    marks = teacher_marks(taught, sure=0.5, doubtful=0.1)
    assert marks.kind[0].tolist()[:2] == [NODULE, EXCLUDED]
    assert set(marks.kind[0].tolist()[2:]) == {ABSENT}
    assert marks.center_vox[0, 0].tolist() == [3.0, 2.5, 2.0]
    assert float(marks.diameter_mm[0, 0]) == pytest.approx(7.0)


def test_the_temperature_of_a_teacher_divides_the_logits_of_its_map_only() -> None:
    network, view = TinyDetector(1), torch.rand(1, 1, 8, 8, 8)
    plain, scaled = FrozenTeacher(network)(view).logits, FrozenTeacher(network, 2.0)(view).logits
    assert torch.allclose(scaled[:, 0], plain[:, 0] / 2)
    assert torch.equal(scaled[:, 1:], plain[:, 1:])
