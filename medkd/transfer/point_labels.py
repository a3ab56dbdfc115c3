"""Targets and losses of a point detector on labelled nodules.

Two schemes turn nodules into targets of the cells of a map (`medkd.models.detector`):

- "gaussian": a Gaussian around each nodule, penalty-reduced focal loss (Law and Deng 2018,
  CornerNet, eq. 1; Zhou et al. 2019, CenterNet). Position and size are learned where the Gaussian
  is high.
- "assigned": the k cells that are nearest to a nodule relative to its radius, varifocal loss
  (Zhang et al. 2021, VarifocalNet, eq. 2). The target of a cell is how well its own predicted
  position fits.

A cell inside an excluded finding, where the reference standard is unknown, carries no loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # torch's usual alias
from pydantic import Field
from torch import Tensor

from medkd.settings import Settings
from medkd.types import EXCLUDED, NODULE, Points

_UNKNOWN_DIAMETER_MM = 6.0


class PointLossSettings(Settings):
    """How a point detector learns from labelled nodules."""

    scheme: Literal["gaussian", "assigned"] = Field(
        "gaussian", description="gaussian: focal loss on a heat map; assigned: nearest cells"
    )
    width: float = Field(0.2, gt=0, description="gaussian: sigma relative to the diameter")
    least_width_mm: float = Field(1.2, gt=0, description="gaussian: smallest sigma, mm")
    cells: int = Field(7, ge=1, description="assigned: cells per nodule")
    offset_weight: float = Field(1.0, ge=0, description="factor on the loss of positions")
    size_weight: float = Field(0.5, ge=0, description="factor on the loss of log diameters")


@dataclass(frozen=True, slots=True, eq=False)
class CellTargets:
    """Targets of the cells of a map.

    Args:
        heat: [B, I, J, K] 0..1; the score that is learned with `scheme: gaussian`.
        positive: [B, I, J, K] bool, cells that belong to a nodule.
        counted: [B, I, J, K] bool, cells that carry a loss.
        weight: [B, I, J, K] weight of a cell in the losses of position and size.
        offset: [B, 3, I, J, K] from the cell's centre to its nodule's centre, in cells.
        log_diameter: [B, I, J, K].
        radius: [B, I, J, K] radius of its nodule, in cells.
        nodules: number of nodules with a cell in the batch.
    """

    heat: Tensor
    positive: Tensor
    counted: Tensor
    weight: Tensor
    offset: Tensor
    log_diameter: Tensor
    radius: Tensor
    nodules: Tensor


def point_targets(
    points: Points, shape: tuple[int, int, int], *, cell_mm: float, settings: PointLossSettings
) -> CellTargets:
    """Turn the findings of a batch into targets of the cells of a map.

    Args:
        points: the findings.
        shape: cells of the map on each axis.
        cell_mm: edge of a cell.
        settings: the scheme.
    """
    device = points.center_vox.device
    lines = [torch.arange(n, device=device, dtype=torch.float32) for n in shape]
    cells = torch.stack(torch.meshgrid(*lines, indexing="ij"))
    center = (points.center_vox - 0.5) / 2  # voxel 2 c + .5 is the centre of cell c
    known = points.diameter_mm > 0
    diameter = torch.where(known, points.diameter_mm, _UNKNOWN_DIAMETER_MM)
    offset = center[:, :, :, None, None, None] - cells[None, None]
    square = offset.square().sum(dim=2)
    nodule = (points.kind == NODULE)[:, :, None, None, None]
    excluded = (points.kind == EXCLUDED)[:, :, None, None, None]
    radius = (diameter / (2 * cell_mm))[:, :, None, None, None]
    nearest, owner = torch.where(nodule, square, torch.inf).min(dim=1)
    heat, positive = _heat(square, nodule, radius, cell_mm=cell_mm, settings=settings)
    inside = (excluded & (square <= (radius + 0.5).square())).any(dim=1)

    def of_owner(values: Tensor) -> Tensor:
        spread = values.expand(-1, -1, *shape) if values.ndim == 5 else values
        return spread.gather(1, owner[:, None]).squeeze(1)

    own_radius = of_owner(radius)
    return CellTargets(
        heat=heat,
        positive=positive,
        counted=positive | ~inside,
        weight=torch.where(torch.isfinite(nearest), heat * (heat > 0.3), 0.0)
        if settings.scheme == "gaussian"
        else positive.float(),
        offset=offset.gather(1, owner[:, None, None].expand(-1, 1, 3, -1, -1, -1)).squeeze(1),
        log_diameter=(own_radius * 2 * cell_mm).log(),
        radius=own_radius,
        nodules=(nodule & _within(center, shape)[:, :, None, None, None]).sum().clamp(min=1),
    )


def _heat(
    square: Tensor, nodule: Tensor, radius: Tensor, *, cell_mm: float, settings: PointLossSettings
) -> tuple[Tensor, Tensor]:
    """Return the Gaussian heat [B, I, J, K] and the positive cells of the scheme."""
    batch, count = square.shape[:2]
    if settings.scheme == "gaussian":
        sigma = (radius * 2 * settings.width).clamp(min=settings.least_width_mm / cell_mm)
        cells = 1
    else:
        sigma, cells = radius.clamp(min=0.5), settings.cells
    flat = torch.where(nodule, square, torch.inf).view(batch, count, -1)
    found = flat.topk(min(cells, flat.shape[2]), dim=2, largest=False)
    # A nodule outside the view, farther than a cell and its radius, has no positive cell.
    near = found.values <= (radius.view(batch, count, 1) + 0.87).square()
    picked = torch.zeros_like(flat, dtype=torch.bool).scatter(2, found.indices, near)
    positive = picked.view_as(square).any(dim=1)
    heat = torch.where(nodule, torch.exp(-square / (2 * sigma.square())), 0.0).amax(dim=1)
    return torch.where(positive & (settings.scheme == "gaussian"), 1.0, heat), positive


def _within(center: Tensor, shape: tuple[int, int, int]) -> Tensor:
    most = torch.tensor(shape, device=center.device) - 0.5
    return ((center >= -0.5) & (center <= most)).all(dim=2)


def point_loss(
    found: Tensor, targets: CellTargets, settings: PointLossSettings
) -> dict[str, Tensor]:
    """Return the unweighted losses of score, position and size.

    Args:
        found: [B, 5, I, J, K] map of the detector.
        targets: from `point_targets`.
        settings: the scheme.

    Returns:
        "score" summed over cells and divided by the number of nodules; "offset" (smooth L1, in
        cells) and "size" (L1 of log diameters), means weighted by `targets.weight`.
    """
    found = found.float()
    logits, offset, log_diameter = found[:, 0], found[:, 1:4], found[:, 4]
    if settings.scheme == "gaussian":
        score = _focal(logits, targets)
    else:
        score = _varifocal(logits, offset, targets)
    weight = targets.weight
    total = weight.sum().clamp(min=1e-6)
    error = F.smooth_l1_loss(offset, targets.offset, reduction="none", beta=0.5).sum(dim=1)
    size = (log_diameter - targets.log_diameter).abs()
    return {
        "score": (score * targets.counted).sum() / targets.nodules,
        "offset": (weight * error).sum() / total,
        "size": (weight * size).sum() / total,
    }


def _focal(logits: Tensor, targets: CellTargets) -> Tensor:
    """Return the penalty-reduced focal loss of each cell (alpha 2, beta 4)."""
    share = logits.sigmoid()
    of_nodule = -((1 - share) ** 2) * F.logsigmoid(logits)
    of_rest = -((1 - targets.heat) ** 4) * share**2 * F.logsigmoid(-logits)
    return torch.where(targets.positive, of_nodule, of_rest)


def _varifocal(logits: Tensor, offset: Tensor, targets: CellTargets) -> Tensor:
    """Return the varifocal loss of each cell (alpha .75, gamma 2)."""
    away = (offset.detach() - targets.offset).square().sum(dim=1)
    fit = torch.exp(-away / (2 * targets.radius.clamp(min=0.5).square()))
    goal = torch.where(targets.positive, fit, 0.0)
    entropy = F.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    share = logits.detach().sigmoid()
    return torch.where(targets.positive, goal * entropy, 0.75 * share**2 * entropy)
