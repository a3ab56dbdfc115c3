"""What a patch classifier sees of a scan: the lungs' box, prepared and padded, patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import Field
from torch import Tensor

from medkd.data.loading import DEFAULT_WINDOW, hu_window, parse_loading, patch_shape
from medkd.data.prepared import PreparedScan, to_unit_range
from medkd.errors import CheckpointError
from medkd.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.data.loading import LoadingStep
    from medkd.geometry import VoxelGrid
    from medkd.lungs import LungField
    from medkd.models.package import LoadedModel

Voxels = tuple[int, int, int]


class DetectSettings(Settings):
    """How a whole scan is searched."""

    marks: int = Field(100, ge=1, description="most marks a scan; LUNA16 counts 100")
    proposals: int = Field(120, ge=1, description="peaks of the map that are scored as patches")
    refined: int = Field(60, ge=0, description="best proposals that are moved to their maximum")
    apart_mm: float = Field(6.0, ge=0, description="least distance of two marks")
    step_mm: float = Field(
        8.0, gt=0, description="distance of the places that a dense run scores first"
    )
    sliding_step_mm: float = Field(
        10.0, gt=0, description="the same where a network has no dense run: patch by patch"
    )
    batch_size: int = Field(32, ge=1, description="patches at once")
    tile_voxels: int = Field(24_000_000, ge=1, description="most voxels of one dense pass")


@dataclass(frozen=True, slots=True, eq=False)
class PatchView:
    """The lungs as the network sees them, padded by half a patch of the window's low end.

    `image` [1, 1, I, J, K] in 0..1 on `grid`; `patch` and `stride` (of
    the places scored) in voxels; the dense run is repeated with `shifts` offsets an axis.
    """

    image: Tensor
    grid: VoxelGrid
    lungs: LungField
    patch: tuple[int, int, int]
    stride: tuple[int, int, int]
    shifts: tuple[int, int, int]
    model: LoadedModel

    def inside(self, starts: Tensor) -> NDArray[np.bool_]:
        """Say for each patch, by its first voxel [N, 3], whether its centre lies in the lungs."""
        return self.lungs.contains(self.centers_mm(starts))

    def centers_mm(self, starts: Tensor) -> NDArray[np.float64]:
        """[N, 3] LPS mm of the centres of patches, by their first voxel [N, 3]."""
        middle = (np.asarray(self.patch) - 1) / 2
        return self.grid.voxel_to_world(starts.numpy().astype(np.float64) + middle)

    def clipped(self, starts: Tensor) -> Tensor:
        """Move patches that stick out back into the image; whole voxels."""
        most = torch.tensor(self.image.shape[2:]) - torch.tensor(self.patch)
        return torch.minimum(starts.double().round().long().clamp(min=0), most)

    def logits(self, starts: Tensor, *, batch_size: int) -> Tensor:
        """Score patches [N] by their first voxel [N, 3]."""
        found = [torch.zeros(0)]
        for first in range(0, len(starts), batch_size):
            part = starts[first : first + batch_size].tolist()
            patches = torch.stack([self._patch(*start) for start in part])
            found.append(self.nodule_logit(self.model.network(patches)))
        return torch.cat(found)

    def nodule_logit(self, logits: Tensor) -> Tensor:
        """Turn outputs [B, K, ...] into one logit a sample [B, ...], on the CPU."""
        exclusive = self.model.info.outputs == "exclusive"
        return (logits[:, 1] - logits[:, 0] if exclusive else logits[:, 0]).float().cpu()

    def _patch(self, i: int, j: int, k: int) -> Tensor:
        a, b, c = self.patch
        return self.image[0, :, i : i + a, j : j + b, k : k + c]


def check_model(model: LoadedModel) -> tuple[LoadingStep, ...]:
    """Return the model's loading steps, or refuse with every reason."""
    info, network = model.info, model.network
    reasons = []
    if network.spatial_dims != 3:
        reasons.append(f"it takes {network.spatial_dims}-D views; whole scans need 3-D patches")
    steps = parse_loading(info.preprocessing.steps) if info.preprocessing.steps else ()
    if network.spatial_dims == 3 and patch_shape(steps) is None:
        reasons.append("its preprocessing has no crop step, so the patch's size is not known")
    if network.label_count != (2 if info.outputs == "exclusive" else 1):
        reasons.append(
            f"it has {network.label_count} {info.outputs} outputs, expected one for nodule (or "
            f"two exclusive ones); its labels are {', '.join(info.label_names)}"
        )
    if reasons:
        raise CheckpointError(f"the model {info.kind!r} cannot search whole scans", reasons)
    return steps


def build_view(
    prepared: PreparedScan, lungs: LungField, *, model: LoadedModel, settings: DetectSettings
) -> PatchView:
    """Cut the lungs' box and half a patch around it out of a prepared scan.

    Args:
        prepared: by the model's own loading steps.
        lungs: of the scan.
        model: its preprocessing gives patch and window; the view lies on its device.
        settings: how far apart places are scored.
    """
    steps = check_model(model)
    patch = patch_shape(steps) or (1, 1, 1)
    half_mm = float((np.asarray(patch) * prepared.grid.spacing_mm).max()) / 2
    margin = np.ceil(half_mm / prepared.grid.spacing_mm).astype(int).tolist()
    low = [max(part.start - n, 0) for part, n in zip(lungs.box, margin, strict=True)]
    i, j, k = (
        slice(first, part.stop + n) for first, part, n in zip(low, lungs.box, margin, strict=True)
    )
    hu = prepared.voxels_hu[:, i, j, k].clone()
    scaled = to_unit_range(hu, hu_window(steps) or DEFAULT_WINDOW)[None]
    pad = [size // 2 for size in patch]
    image = F.pad(scaled, [n for size in reversed(pad) for n in (size, size)])
    start = [first - n for first, n in zip(low, pad, strict=True)]
    grid = prepared.grid.cropped(start, (image.shape[2], image.shape[3], image.shape[4]))
    stride, shifts = _steps_between(model.network.dense_stride, grid.spacing_mm, settings)
    device = next(model.network.parameters()).device
    return PatchView(image.to(device), grid, lungs, patch, stride, shifts, model)


def _steps_between(
    dense_stride: tuple[int, ...] | None, spacing_mm: NDArray[np.float64], settings: DetectSettings
) -> tuple[Voxels, Voxels]:
    """Voxels between the places scored, and how often a dense run is shifted for it, an axis."""
    stride, shifts = [], []
    for axis, spacing in enumerate(spacing_mm.tolist()):
        if dense_stride is None:
            stride.append(max(round(settings.sliding_step_mm / spacing), 1))
            shifts.append(1)
            continue
        coarse = dense_stride[axis]
        parts = [n for n in range(1, coarse + 1) if coarse % n == 0]
        fine = [n for n in parts if coarse // n * spacing <= settings.step_mm + 1e-6]
        shifts.append(fine[0] if fine else coarse)
        stride.append(coarse // shifts[-1])
    return (stride[0], stride[1], stride[2]), (shifts[0], shifts[1], shifts[2])
