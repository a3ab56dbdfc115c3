"""How views of samples are drawn: settings, and parameters apart from applying them.

Drawing needs a CPU generator alone and touches no pixels; `views.py` applies what was drawn to
the whole batch on its device. Labels are not touched: every view keeps its sample's label.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, field_validator

from medkd.data.views import NOISE_LENGTH, Padding, ViewParameters, apply_view
from medkd.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = [
    "AugmentationSettings",
    "ViewParameters",
    "apply_view",
    "build_batch_augmentd",
    "check_augmentation",
    "draw_parameters",
]

_COLUMNS = 15  # uniform numbers drawn a sample, whatever the settings and dimensions


class AugmentationSettings(Settings):
    """How far a view may depart from its sample; everything off by default."""

    flip: tuple[float, ...] = Field(
        (), max_length=3, description="Probability of a flip along i, j (and k); exact."
    )
    rotate_degrees: float | tuple[float, float, float] = Field(
        0.0,
        description="Largest rotation either way, in degrees: one number about every axis, or "
        "three about (i, j, k). A 2-D image turns in its plane (about k).",
    )
    shift_vox: float = Field(0.0, ge=0, description="Largest shift along each axis, voxels or px.")
    scale_fraction: float = Field(
        0.0, ge=0, lt=1, description="Largest change of size: .12 is a factor of .88 to 1.12."
    )
    padding: Padding = Field("border", description="What stands outside the image.")
    gamma: float = Field(
        1.0, ge=1, description="Exponent on the intensity, from 1/gamma to gamma (log-uniform)."
    )
    intensity_scale: float = Field(
        0.0, ge=0, lt=1, description="Largest change of contrast: .1 is a factor of .9 to 1.1."
    )
    intensity_shift: float = Field(
        0.0, ge=0, le=1, description="Largest change of brightness either way, in 0..1 units."
    )
    noise_sd: float = Field(
        0.0, ge=0, le=1, description="Largest standard deviation of Gaussian noise, 0..1 units."
    )

    @field_validator("flip")
    @classmethod
    def _probabilities(cls, flip: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= p <= 1 for p in flip):
            raise ValueError(f"flip holds probabilities in 0..1 along i, j (and k), got {flip!r}")
        return flip

    @field_validator("rotate_degrees")
    @classmethod
    def _angles(
        cls, degrees: float | tuple[float, float, float]
    ) -> float | tuple[float, float, float]:
        if any(not 0 <= d <= 180 for d in _three(degrees)):
            raise ValueError(f"rotate_degrees lies in 0..180, got {degrees!r}")
        return degrees


def check_augmentation(settings: AugmentationSettings, spatial_dims: int) -> list[str]:
    """Return the reasons why the settings do not fit images of so many axes (none: empty)."""
    reasons = []
    if len(settings.flip) > spatial_dims:
        reasons.append(
            f"flip has {len(settings.flip)} probabilities, but an image here has "
            f"{spatial_dims} axes"
        )
    if spatial_dims == 2 and any(_three(settings.rotate_degrees)[:2]) and _is_triple(settings):
        reasons.append("rotate_degrees about i and j leaves the plane of a 2-D image; set them 0")
    return reasons


def draw_parameters(
    settings: AugmentationSettings,
    batch: int,
    *,
    spatial_dims: int,
    generator: torch.Generator,
) -> ViewParameters:
    """Draw one view a sample.

    The same count of random numbers is taken whatever the settings, so that switching one
    augmentation off leaves the others as they were.

    Args:
        settings: how far a view may go.
        batch: samples.
        spatial_dims: 2 or 3.
        generator: a CPU generator; the only source of randomness.

    Raises:
        ValueError: if the settings do not fit the number of axes.

    Example:
        >>> import torch
        >>> settings = AugmentationSettings(flip=(0.0, 0.5), rotate_degrees=10.0)
        >>> generator = torch.Generator().manual_seed(0)
        >>> drawn = draw_parameters(settings, 4, spatial_dims=2, generator=generator)
        >>> apply_view(torch.zeros(4, 1, 8, 8), drawn).shape
        torch.Size([4, 1, 8, 8])
    """
    if reasons := check_augmentation(settings, spatial_dims):
        raise ValueError("; ".join(reasons))
    uniform = torch.rand(batch, _COLUMNS, generator=generator)
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
        gamma=torch.exp(math.log(settings.gamma) * signed[:, 10]),
        gain=1 + settings.intensity_scale * signed[:, 11],
        offset=settings.intensity_shift * signed[:, 12],
        noise_sd=settings.noise_sd * uniform[:, 13],
        noise_start=(uniform[:, 14].double() * NOISE_LENGTH).long(),
        padding=settings.padding,
    )


def build_batch_augmentd(settings: AugmentationSettings) -> Any:  # noqa: ANN401  # MONAI has no types
    """Build the MONAI form: a dictionary transform for the batch under "image".

    Unlike MONAI's own random transforms it takes [B, C, *spatial] and treats the whole batch at
    once. It is `Randomizable`: `set_random_state` (of it or of its `Compose`) restarts its draws.

    Args:
        settings: how far a view may go.

    Returns:
        A `monai.transforms.RandomizableTransform` to put into a `Compose`.
    """
    # MONAI asks for `Randomizable` by true inheritance, and takes seconds to import.
    from monai.transforms import RandomizableTransform

    class BatchAugmentd(RandomizableTransform):  # type: ignore[misc]  # MONAI has no types
        """Apply one drawn view a sample to a batch in a dictionary."""

        def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
            image = data["image"]
            generator = torch.Generator().manual_seed(int(self.R.randint(2**31)))
            drawn = draw_parameters(
                settings, len(image), spatial_dims=image.dim() - 2, generator=generator
            )
            return {**data, "image": apply_view(image, drawn)}

    return BatchAugmentd()


def _three(degrees: float | tuple[float, float, float]) -> tuple[float, float, float]:
    return degrees if isinstance(degrees, tuple) else (degrees, degrees, degrees)


def _is_triple(settings: AugmentationSettings) -> bool:
    return isinstance(settings.rotate_degrees, tuple)
