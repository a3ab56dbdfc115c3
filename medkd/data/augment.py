"""Views of samples: settings, and drawing their parameters.

A view is named by (sample, k). Its parameters are a pure function of (seed, sample id, k): the
batch, the order, the epoch and the loader processes have no influence, so that teacher, student
and control see the same views, and outputs for a view can be stored. `TrainLoader` numbers the
views; `views.py` applies the parameters to the pixels. A view keeps the label of its sample.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from medkd.data.views import (
    NOISE_LENGTH,
    Padding,
    ViewParameters,
    apply_view,
    each,
    move_points,
)
from medkd.settings import Settings
from medkd.types import EXCLUDED, NODULE, PatchBatch, Points

Views = Literal["live"] | Annotated[int, Field(ge=1)]

_NUMBERS = 15  # uniform numbers of a view, whatever the settings and dimensions


class AugmentationSettings(Settings):
    """How far a view may differ from its sample; everything is off by default."""

    views: Views = Field(
        "live",
        description="Views of a sample: live draws a new one each time; a number V repeats the "
        "same V views in turn.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        description="Seed of the views; null: the seed of the run. A number gives all seeds of a "
        "bench the same views, so that they share a teacher's stored answers.",
    )
    flip: tuple[float, ...] = Field(
        (), max_length=3, description="Probability of a flip along i, j (and k); exact."
    )
    rotate_degrees: float | tuple[float, float, float] = Field(
        0.0,
        description="Largest rotation in either direction, in degrees: one number for all axes, or "
        "three about (i, j, k). A 2-D image is rotated in its plane (about k).",
    )
    shift_vox: float = Field(0.0, ge=0, description="Largest shift along each axis, voxels or px.")
    scale_fraction: float = Field(
        0.0, ge=0, lt=1, description="Largest change of size: .12 is a factor of .88 to 1.12."
    )
    padding: Padding = Field("border", description="What is read outside the image.")
    gamma: float = Field(
        1.0, ge=1, description="Exponent on the intensity, from 1/gamma to gamma (log-uniform)."
    )
    intensity_scale: float = Field(
        0.0, ge=0, lt=1, description="Largest change of contrast: .1 is a factor of .9 to 1.1."
    )
    intensity_shift: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Largest change of brightness in either direction, in 0..1 units.",
    )
    noise_sd: float = Field(
        0.0, ge=0, le=1, description="Largest standard deviation of Gaussian noise, 0..1 units."
    )

    @field_validator("flip")
    @classmethod
    def _probabilities(cls, flip: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= p <= 1 for p in flip):
            raise ValueError(
                f"flip must hold probabilities in 0..1 along i, j (and k), got {flip!r}"
            )
        return flip

    @field_validator("rotate_degrees")
    @classmethod
    def _angles(
        cls, degrees: float | tuple[float, float, float]
    ) -> float | tuple[float, float, float]:
        if any(not 0 <= d <= 180 for d in _three(degrees)):
            raise ValueError(f"rotate_degrees must be in 0..180, got {degrees!r}")
        return degrees


def check_augmentation(settings: AugmentationSettings, spatial_dims: int) -> list[str]:
    """Return why the settings do not fit images with this number of axes; empty if they do."""
    reasons = []
    if len(settings.flip) > spatial_dims:
        reasons.append(
            f"flip has {len(settings.flip)} probabilities, but an image here has "
            f"{spatial_dims} axes"
        )
    degrees = settings.rotate_degrees
    if spatial_dims == 2 and isinstance(degrees, tuple) and any(degrees[:2]):
        reasons.append("rotate_degrees about i and j leaves the plane of a 2-D image; set them 0")
    return reasons


def view_batch(batch: PatchBatch, settings: AugmentationSettings, *, seed: int) -> PatchBatch:
    """Replace the samples of a batch by the views given by sample ids and view numbers.

    Args:
        batch: samples without augmentation, on any device.
        settings: how far a view may differ.
        seed: the run's seed.
    """
    drawn = draw_parameters(
        settings,
        batch.sample_id,
        batch.view_number,
        spatial_dims=batch.image.dim() - 2,
        seed=seed,
    )
    points = batch.points and _moved_points(batch.points, drawn, batch.image.shape[2:])
    return dataclasses.replace(batch, image=apply_view(batch.image, drawn), points=points)


def _moved_points(points: Points, drawn: ViewParameters, shape: Sequence[int]) -> Points:
    """Move points as their images; a nodule outside its image carries no loss in the view.

    The view may include its place, but shows the padding of the image there.
    """
    device = points.center_vox.device
    center_vox = move_points(points.center_vox.cpu(), drawn, shape).to(device)
    diameter_mm = points.diameter_mm / drawn.scale[:, None].to(device)
    most = torch.tensor(shape, device=device) - 0.5
    shown = ((points.center_vox > -0.5) & (points.center_vox < most)).all(dim=2)
    kind = torch.where(~shown & (points.kind == NODULE), EXCLUDED, points.kind)
    return Points(center_vox, diameter_mm, kind)


def draw_parameters(
    settings: AugmentationSettings,
    sample_id: Sequence[str],
    view_number: Sequence[int],
    *,
    spatial_dims: int,
    seed: int,
) -> ViewParameters:
    """Draw the parameters of views, each from (seed, sample id, view number) alone.

    Every setting uses its own random numbers, so that switching one augmentation off does not
    change the others.

    Args:
        settings: how far a view may differ.
        sample_id: [B] names of the samples.
        view_number: [B] k >= 0 of each sample's view.
        spatial_dims: 2 or 3.
        seed: the run's seed.

    Raises:
        ValueError: if the settings do not fit the number of axes.

    Example:
        >>> settings = AugmentationSettings(flip=(0.0, 0.5), rotate_degrees=10.0)
        >>> drawn = draw_parameters(settings, ("a", "b"), (0, 7), spatial_dims=2, seed=0)
        >>> apply_view(torch.zeros(2, 1, 8, 8), drawn).shape
        torch.Size([2, 1, 8, 8])
    """
    if reasons := check_augmentation(settings, spatial_dims):
        raise ValueError("; ".join(reasons))
    uniform = _uniform(seed, sample_id, view_number)
    signed = 2 * uniform - 1
    probability = torch.zeros(spatial_dims)
    probability[: len(settings.flip)] = torch.tensor(settings.flip)
    degrees = torch.tensor(_three(settings.rotate_degrees))
    angles = torch.deg2rad(degrees) * signed[:, 3:6]
    return ViewParameters(
        flip=uniform[:, :spatial_dims] < probability,
        angle_radians=angles[:, 2:] if spatial_dims == 2 else angles,
        shift_vox=settings.shift_vox * signed[:, 6 : 6 + spatial_dims],
        scale=1 + settings.scale_fraction * signed[:, 9],
        gamma=each(math.exp, math.log(settings.gamma) * signed[:, 10]),
        gain=1 + settings.intensity_scale * signed[:, 11],
        offset=settings.intensity_shift * signed[:, 12],
        noise_sd=settings.noise_sd * uniform[:, 13],
        noise_start=(uniform[:, 14].double() * NOISE_LENGTH).long(),
        padding=settings.padding,
    )


def _uniform(seed: int, sample_id: Sequence[str], view_number: Sequence[int]) -> Tensor:
    """Return [B, 15] float32 in [0, 1): 24 bits each of a hash of (seed, sample id, k)."""
    hashes = [
        hashlib.blake2b(f"{seed}\x1f{k}\x1f{name}".encode(), digest_size=4 * _NUMBERS).digest()
        for name, k in zip(sample_id, view_number, strict=True)
    ]
    words = np.frombuffer(b"".join(hashes), dtype="<u4").reshape(-1, _NUMBERS)
    return torch.from_numpy((words >> 8).astype(np.float32) * np.float32(2**-24))


def _three(degrees: float | tuple[float, float, float]) -> tuple[float, float, float]:
    return degrees if isinstance(degrees, tuple) else (degrees, degrees, degrees)
