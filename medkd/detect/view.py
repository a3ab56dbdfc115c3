"""The part of a scan that a patch classifier searches: the padded bounding box of the lungs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from pydantic import AfterValidator, Field
from torch import Tensor

from medkd.data.loading import DEFAULT_WINDOW, hu_window, parse_loading, patch_shape, spacing_mm
from medkd.data.prepared import PreparedScan, to_unit_range
from medkd.detect.fast import Precision
from medkd.errors import CheckpointError
from medkd.settings import ModelPath, Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medkd.data.loading import LoadingStep
    from medkd.geometry import VoxelGrid
    from medkd.lungs import LungField
    from medkd.models.package import LoadedModel, ModelInfo

Voxels = tuple[int, int, int]


class DetectSettings(Settings):
    """How a whole scan is searched."""

    marks: int = Field(100, ge=1, description="Most marks per scan; LUNA16 scores at most 100.")
    proposals: int = Field(120, ge=1, description="Peaks of the logit map scored as patches.")
    refined: int = Field(60, ge=0, description="Best proposals whose position is refined.")
    apart_mm: float = Field(6.0, ge=0, description="Least distance between two marks, mm.")
    step_mm: float = Field(
        8.0, gt=0, description="Largest spacing of the logit map for networks with a dense run, mm."
    )
    sliding_step_mm: float = Field(
        10.0, gt=0, description="Spacing of the logit map for networks without a dense run, mm."
    )
    batch_size: int = Field(32, ge=1, description="Patches per forward pass.")
    tile_voxels: int = Field(24_000_000, ge=1, description="Most voxels per dense forward pass.")
    flips: Literal[1, 2, 4, 8] = Field(
        1,
        description="Mirrored copies whose maps a point detector averages; the time grows alike.",
    )
    second_look: ModelPath | None = Field(
        None,
        description="A patch classifier that scores the best 40 marks again; only for `medkd "
        "detect`, and no frozen threshold applies then.",
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of point detectors; auto: bfloat16 if the processor has it, "
        "otherwise float32.",
    )


def _one_look(settings: DetectSettings) -> DetectSettings:
    if settings.second_look:
        raise ValueError("second_look: only for `medkd detect`; thresholds belong to one model")
    return settings


OneLook = Annotated[DetectSettings, AfterValidator(_one_look)]
"""Settings of a search whose thresholds belong to one model."""


class Places(NamedTuple):
    """What a search finds before close places are merged.

    `centers_mm` are [N, 3] LPS mm, `scores` are [N] probabilities, `diameters_mm` are [N] (None:
    the model gives none).
    """

    centers_mm: NDArray[np.float64]
    scores: NDArray[np.float64]
    diameters_mm: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PatchView:
    """The lungs as network input, padded by half a patch with the lower end of the HU window.

    `image` is [1, 1, I, J, K] in 0..1 on `grid`. `patch` is the patch shape and `stride` the
    distance between scored patches, both in voxels. A dense run is repeated with `shifts`
    offsets along each axis.
    """

    image: Tensor
    grid: VoxelGrid
    lungs: LungField
    patch: tuple[int, int, int]
    stride: tuple[int, int, int]
    shifts: tuple[int, int, int]
    model: LoadedModel

    def inside(self, starts: Tensor) -> NDArray[np.bool_]:
        """Return for each patch, given by its first voxel [N, 3], if its centre is in the lungs."""
        return self.lungs.contains(self.centers_mm(starts))

    def centers_mm(self, starts: Tensor) -> NDArray[np.float64]:
        """Return the centres, [N, 3] LPS mm, of patches given by their first voxels [N, 3]."""
        middle = (np.asarray(self.patch) - 1) / 2
        return self.grid.voxel_to_world(starts.numpy().astype(np.float64) + middle)

    def clipped(self, starts: Tensor) -> Tensor:
        """Round first voxels [N, 3] to integers and move the patches inside the image."""
        most = torch.tensor(self.image.shape[2:]) - torch.tensor(self.patch)
        return torch.minimum(starts.double().round().long().clamp(min=0), most)

    def logits(self, starts: Tensor, *, batch_size: int) -> Tensor:
        """Return the nodule logits [N] of patches given by their first voxels [N, 3]."""
        found = [torch.zeros(0)]
        for first in range(0, len(starts), batch_size):
            part = starts[first : first + batch_size].tolist()
            patches = torch.stack([self._patch(*start) for start in part])
            found.append(nodule_logits(self.model.network(patches), self.model.info))
        return torch.cat(found)

    def _patch(self, i: int, j: int, k: int) -> Tensor:
        a, b, c = self.patch
        return self.image[0, :, i : i + a, j : j + b, k : k + c]


def nodule_logits(outputs: Tensor, info: ModelInfo) -> Tensor:
    """Convert outputs [B, K, ...] of a model to one nodule logit each [B, ...], on the CPU."""
    exclusive = info.outputs == "exclusive"
    return (outputs[:, 1] - outputs[:, 0] if exclusive else outputs[:, 0]).float().cpu()


def check_model(model: LoadedModel) -> tuple[LoadingStep, ...]:
    """Return the loading steps of the model.

    Raises:
        CheckpointError: lists all reasons why the model cannot search scans.
    """
    info, network = model.info, model.network
    reasons = []
    if network.spatial_dims != 3:
        reasons.append(f"its input is {network.spatial_dims}-D; whole scans need 3-D patches")
    steps = parse_loading(info.preprocessing.steps) if info.preprocessing.steps else ()
    if network.finds_points:
        if patch_shape(steps) is not None or spacing_mm(steps) is None:
            reasons.append("a point detector needs a spacing step and no crop step")
    elif network.spatial_dims == 3 and patch_shape(steps) is None:
        reasons.append("its preprocessing has no crop step, so the patch size is unknown")
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
    """Crop the bounding box of the lungs, plus half a patch on each side, from a scan.

    Args:
        prepared: the scan, prepared by the loading steps of the model.
        lungs: the lungs of the scan.
        model: its preprocessing defines patch shape and HU window. The view is on its device.
        settings: the spacing of scored patches.
    """
    steps = check_model(model)
    patch = patch_shape(steps) or (1, 1, 1)
    half_mm = float((np.asarray(patch) * prepared.grid.spacing_mm).max()) / 2
    margin = np.ceil(half_mm / prepared.grid.spacing_mm).astype(int).tolist()
    low = [max(part.start - n, 0) for part, n in zip(lungs.box, margin, strict=True)]
    i, j, k = (
        slice(first, part.stop + n) for first, part, n in zip(low, lungs.box, margin, strict=True)
    )
    hu = prepared.voxels_hu[:, i, j, k]
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
    """Return for each axis the voxels between scored patches and the number of dense shifts."""
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
