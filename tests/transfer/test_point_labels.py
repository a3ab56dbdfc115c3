"""Targets and losses of a point detector, on places that can be checked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medkd.transfer.point_labels import (
    CellTargets,
    PointLossSettings,
    point_loss,
    point_targets,
)
from medkd.types import ABSENT, EXCLUDED, NODULE, Points

SHAPE = (8, 8, 8)
SCHEMES = [PointLossSettings(scheme="gaussian"), PointLossSettings(scheme="assigned")]


def points(*rows: tuple[float, float, float, float, int]) -> Points:
    """One view with findings (i, j, k in voxels, diameter in mm, kind)."""
    values = torch.tensor(rows).view(1, len(rows), 5)
    return Points(values[..., :3], values[..., 3], values[..., 4].int())


def targets(settings: PointLossSettings, *rows: tuple[float, float, float, float, int]):
    return point_targets(points(*rows), SHAPE, cell_mm=2.0, settings=settings)


def perfect(found: CellTargets) -> Tensor:
    """A map that gives the targets, with sure scores."""
    logit = torch.where(found.positive, 9.0, -9.0)
    return torch.cat([logit[:, None], found.offset, found.log_diameter[:, None]], dim=1)


def test_the_cell_of_a_nodule_has_heat_1_and_the_offset_to_its_centre() -> None:
    found = targets(SCHEMES[0], (6.5, 6.9, 8.5, 6.0, NODULE))  # cell 3 has its centre at 6.5
    assert found.heat[0, 3, 3, 4] == 1.0
    assert found.positive.sum() == 1
    assert found.offset[0, :, 3, 3, 4].tolist() == pytest.approx([0.0, 0.2, 0.0], abs=1e-6)
    assert found.log_diameter[0, 3, 3, 4].item() == pytest.approx(math.log(6.0))
    # 1 cell = 2 mm away along i, .4 mm along j; sigma = 1.2 mm
    expected = math.exp(-(2.0**2 + 0.4**2) / (2 * 1.2**2))
    assert found.heat[0, 2, 3, 4].item() == pytest.approx(expected, rel=1e-5)


def test_the_nearest_cells_are_assigned() -> None:
    found = targets(SCHEMES[1], (6.5, 6.5, 8.5, 6.0, NODULE))
    assert found.positive.sum() == 7  # the cell and its six neighbours
    assert found.positive[0, 3, 3, 5]
    assert not found.positive[0, 3, 4, 5]


@pytest.mark.parametrize("settings", SCHEMES, ids=lambda s: s.scheme)
def test_an_excluded_finding_carries_no_loss_but_a_nodule_in_it_does(settings) -> None:
    found = targets(settings, (6.5, 6.5, 6.5, 10.0, EXCLUDED))
    assert not found.counted[0, 3, 3, 3]
    assert found.counted[0, 7, 7, 7]
    both = targets(settings, (6.5, 6.5, 6.5, 10.0, EXCLUDED), (6.5, 6.5, 6.5, 6.0, NODULE))
    assert both.counted[0, 3, 3, 3]


@pytest.mark.parametrize("settings", SCHEMES, ids=lambda s: s.scheme)
def test_a_perfect_map_has_almost_no_loss_and_a_moved_one_more(settings) -> None:
    found = targets(settings, (6.5, 6.9, 8.5, 8.0, NODULE), (2.0, 3.0, 12.0, 5.0, NODULE))
    best = perfect(found)
    loss = point_loss(best, found, settings)
    assert loss["offset"] < 1e-6
    assert loss["size"] < 1e-6
    assert loss["score"] < 0.2
    moved = torch.roll(best, 2, dims=2)
    assert point_loss(moved, found, settings)["score"] > 1.0


@pytest.mark.parametrize("settings", SCHEMES, ids=lambda s: s.scheme)
def test_absent_rows_change_nothing_and_an_empty_view_has_a_finite_loss(settings) -> None:
    found = torch.randn(1, 5, *SHAPE, generator=torch.Generator().manual_seed(4))
    one, two = (6.5, 6.5, 8.5, 6.0, NODULE), (-50.0, 0.0, 0.0, 5.0, ABSENT)
    alone, filled = targets(settings, one), targets(settings, one, two)
    for name, value in point_loss(found, alone, settings).items():
        assert torch.equal(point_loss(found, filled, settings)[name], value), name
    empty = point_loss(found, targets(settings, two), settings)
    assert all(torch.isfinite(value) for value in empty.values())
    assert empty["offset"] == 0


def test_a_nodule_outside_the_view_has_no_positive_cell() -> None:
    found = targets(SCHEMES[0], (-12.0, 6.5, 6.5, 6.0, NODULE))
    assert not found.positive.any()
    assert found.nodules == 1  # the least divisor


def test_the_focal_loss_equals_the_papers_formula_cell_by_cell() -> None:
    settings = SCHEMES[0]
    found = torch.randn(1, 5, *SHAPE, generator=torch.Generator().manual_seed(6))
    its = targets(settings, (6.5, 6.9, 8.5, 6.0, NODULE), (11.0, 4.0, 3.0, 9.0, NODULE))
    total = 0.0
    for cell in torch.cartesian_prod(*[torch.arange(8)] * 3).tolist():
        y = its.heat[(0, *cell)].item()
        p = 1 / (1 + math.exp(-found[(0, 0, *cell)].item()))
        total += (
            -((1 - p) ** 2) * math.log(p) if y == 1.0
            else -((1 - y) ** 4) * p**2 * math.log(1 - p)
        )  # fmt: skip
    assert point_loss(found, its, settings)["score"].item() == pytest.approx(total / 2, rel=1e-4)


@pytest.mark.parametrize("settings", SCHEMES, ids=lambda s: s.scheme)
def test_the_loss_has_finite_gradients(settings) -> None:
    found = torch.randn(1, 5, *SHAPE, generator=torch.Generator().manual_seed(8))
    found.requires_grad_()
    its = targets(settings, (6.5, 6.5, 8.5, 6.0, NODULE), (6.5, 6.5, 3.0, -1.0, EXCLUDED))
    sum(point_loss(found, its, settings).values()).backward()
    assert torch.isfinite(found.grad).all()
