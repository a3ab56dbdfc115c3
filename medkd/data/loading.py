"""From a path to a network's view: the loading steps of a configuration, as a MONAI `Compose`.

CT: `load`, then `orientation` and `spacing` if wanted, then `crop` and `intensity` in either
order. Images: one `image` step. What comes out is [1, I, J, K] or [1, I, J] float32 in 0..1,
the one view that teacher and student see. Dictionaries have the keys `image` (path, or array
for an image in memory) and, where there is a crop, `center_mm` (LPS).
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from medkd.data.crop import CropPatchd
from medkd.data.monai_bridge import MedkdReader
from medkd.data.resample import SlabSpacingd
from medkd.errors import MedkdError, SettingsError
from medkd.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


KEY = "image"

DEFAULT_WINDOW = (-1000.0, 400.0)
"""HU of lung and soft tissue, where a configuration names no window."""

_RAS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
_PAIRS = ("LR", "PA", "IS")


class LoadStep(Settings):
    """Read a CT from its path: HU int16 [1, I, J, K]."""

    kind: Literal["load"] = "load"


class OrientationStep(Settings):
    """Turn the axes to a common order without interpolating (MONAI `Orientationd`)."""

    kind: Literal["orientation"] = "orientation"
    axcodes: str = Field(
        default="LPS",
        description="where i, j, k point: one letter of each pair L/R, P/A, I/S; LPS leaves an "
        "ordinary axial scan as it is",
    )

    @model_validator(mode="after")
    def _axes_are_named_once(self) -> OrientationStep:
        used = [pair for pair in _PAIRS for letter in self.axcodes.upper() if letter in pair]
        if len(self.axcodes) != 3 or sorted(used) != sorted(_PAIRS):
            raise ValueError(
                f"axcodes: expected one letter of each pair L/R, P/A, I/S, got {self.axcodes!r}"
            )
        return self


class SpacingStep(Settings):
    """Resample to a common spacing by linear interpolation."""

    kind: Literal["spacing"] = "spacing"
    spacing_mm: tuple[
        Annotated[float, Field(gt=0)],
        Annotated[float, Field(gt=0)],
        Annotated[float, Field(gt=0)],
    ] = Field(default=(1.0, 1.0, 1.0), description="mm between voxels along i, j, k")
    engine: Literal["slab", "monai"] = Field(
        default="slab",
        description="slab: ours, faster, HU rounded to whole HU; monai: MONAI's Spacingd",
    )


class IntensityStep(Settings):
    """Map a window of HU to 0..1 and clip (MONAI `ScaleIntensityRanged`)."""

    kind: Literal["intensity"] = "intensity"
    hu_window: tuple[float, float] = Field(
        default=DEFAULT_WINDOW, description="HU that become 0 and 1; outside is clipped"
    )

    @model_validator(mode="after")
    def _window_is_open(self) -> IntensityStep:
        if not self.hu_window[0] < self.hu_window[1]:
            raise ValueError(f"hu_window: expected low < high, got {self.hu_window}")
        return self


class CropStep(Settings):
    """Cut the patch about a candidate, whole voxels, outside filled with the window's low end."""

    kind: Literal["crop"] = "crop"
    patch_shape: tuple[
        Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
    ] = Field(default=(32, 32, 32), description="voxels along i, j, k")


class ImageStep(Settings):
    """Take a radiograph, or an image or cube of a MedMNIST set, to 0..1."""

    kind: Literal["image"] = "image"
    source: Literal["memory", "file"] = Field(
        default="memory",
        description="memory: a uint8 array of a MedMNIST set; file: a radiograph of an "
        "archive, or by its path",
    )
    size_px: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        min_length=2,
        max_length=3,
        description="pixels along each axis (rows, columns or i, j, k) after resizing by area, "
        "aspect not kept; none: as they are",
    )


LoadingStep = Annotated[
    LoadStep | OrientationStep | SpacingStep | IntensityStep | CropStep | ImageStep,
    Field(discriminator="kind"),
]

_RANK = {"load": 0, "orientation": 1, "spacing": 2, "crop": 3, "intensity": 3}


def _in_order(steps: tuple[LoadingStep, ...]) -> tuple[LoadingStep, ...]:
    reasons = loading_reasons(steps)
    if reasons:
        raise ValueError("; ".join(reasons))
    return steps


LoadingSettings = Annotated[tuple[LoadingStep, ...], AfterValidator(_in_order)]
"""The steps of a configuration, in an order that makes sense."""

_ADAPTER: TypeAdapter[tuple[Any, ...]] = TypeAdapter(LoadingSettings)


def loading_reasons(steps: tuple[LoadingStep, ...]) -> list[str]:
    """Say why these steps, in this order, lead to no view."""
    kinds = [step.kind for step in steps]
    reasons = [
        f"{kind}: expected at most once, got {kinds.count(kind)} times"
        for kind in dict.fromkeys(kinds)
        if kinds.count(kind) > 1
    ]
    if "image" in kinds:
        others = [kind for kind in kinds if kind != "image"]
        reasons += [f"image: stands alone, got it with {', '.join(others)}"] if others else []
        return reasons
    if not kinds or kinds[0] != "load":
        reasons.append("expected load (CT) or image (radiograph) as the first step")
    if "intensity" not in kinds:
        reasons.append("expected an intensity step: a view is in 0..1")
    ranks = [_RANK[kind] for kind in kinds]
    if ranks != sorted(ranks):
        reasons.append(
            "expected the order load, orientation, spacing, then crop and intensity, got "
            + ", ".join(kinds)
        )
    return reasons


def parse_loading(steps: Iterable[Mapping[str, Any]]) -> tuple[LoadingStep, ...]:
    """Turn plain dictionaries (as a model directory holds them) into settings.

    Raises:
        SettingsError: with every reason.
    """
    try:
        return _ADAPTER.validate_python([dict(step) for step in steps])
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError("the loading steps cannot be used", reasons) from error


def loading_as_dicts(steps: tuple[LoadingStep, ...]) -> list[dict[str, Any]]:
    """Turn settings into plain dictionaries for JSON; `parse_loading` reads them back."""
    return [step.model_dump(mode="json") for step in steps]


def scan_steps(steps: tuple[LoadingStep, ...]) -> tuple[LoadingStep, ...]:
    """Return the steps before the crop: they depend on the scan alone and can be cached."""
    kinds = [step.kind for step in steps]
    return steps[: kinds.index("crop")] if "crop" in kinds else steps


def patch_steps(steps: tuple[LoadingStep, ...]) -> tuple[LoadingStep, ...]:
    """Return the crop and the steps after it: they depend on the candidate."""
    return steps[len(scan_steps(steps)) :]


def hu_window(steps: tuple[LoadingStep, ...]) -> tuple[float, float] | None:
    """Return the HU that become 0 and 1; None for images, which have no HU."""
    return next((step.hu_window for step in steps if isinstance(step, IntensityStep)), None)


def patch_shape(steps: tuple[LoadingStep, ...]) -> tuple[int, int, int] | None:
    """Return the voxels of a patch along i, j, k; None where nothing is cropped."""
    return next((step.patch_shape for step in steps if isinstance(step, CropStep)), None)


def spacing_mm(steps: tuple[LoadingStep, ...]) -> tuple[float, float, float] | None:
    """Return the common spacing along i, j, k; None where scans keep their own."""
    return next((step.spacing_mm for step in steps if isinstance(step, SpacingStep)), None)


def pad_value(steps: tuple[LoadingStep, ...]) -> float:
    """Return what fills a crop outside the volume: the window's low end, 0 once scaled."""
    kinds = [step.kind for step in steps]
    window = hu_window(steps)
    if window is None or ("crop" in kinds and kinds.index("intensity") < kinds.index("crop")):
        return 0.0
    return window[0]


def build_loading(steps: tuple[LoadingStep, ...], *, pad: float | None = None) -> Any:  # noqa: ANN401  # MONAI has no types
    """Build the MONAI `Compose` of dictionary transforms that the steps name.

    Args:
        steps: all steps of a configuration, or a part of them (`scan_steps`, `patch_steps`).
        pad: what fills a crop outside the volume; from the steps where not given (a part of the
            steps may lack the window: then give `pad_value` of them all).

    Returns:
        `Compose`; call it through `apply_loading` to get refusals as they were raised.

    Example:
        >>> steps = parse_loading([{"kind": "load"}, {"kind": "spacing"}, {"kind": "intensity"}])
        >>> [type(step).__name__ for step in build_loading(steps).transforms]
        ['LoadImaged', 'SlabSpacingd', 'ScaleIntensityRanged']
    """
    from monai.transforms import Compose

    fill = pad_value(steps) if pad is None else pad
    return Compose([transform for step in steps for transform in _transforms_of(step, fill)])


def apply_loading(transform: Any, item: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # MONAI has no types
    """Run a `Compose` on a dictionary; a refusal inside comes out as itself.

    Raises:
        MedkdError: the refusal that MONAI wraps into a RuntimeError.
    """
    try:
        return dict(transform(dict(item)))
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, MedkdError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from error


def _transforms_of(step: LoadingStep, pad: float) -> list[Any]:
    """Return the transforms of one step: the closed table from kind to MONAI transform."""
    from monai import transforms as mt

    made: Any
    match step:
        case LoadStep():
            made = _load_transform(np.int16)
        case OrientationStep():
            made = mt.Orientationd(KEY, axcodes=step.axcodes.upper(), labels=_RAS_LABELS)
        case SpacingStep(engine="slab"):
            made = SlabSpacingd(KEY, step.spacing_mm)
        case SpacingStep():
            made = mt.Spacingd(KEY, pixdim=step.spacing_mm, mode="bilinear")
        case CropStep():
            made = CropPatchd(KEY, step.patch_shape, pad_value=pad)
        case IntensityStep():
            low, high = step.hu_window
            made = mt.ScaleIntensityRanged(KEY, low, high, b_min=0.0, b_max=1.0, clip=True)
        case ImageStep():
            return _image_transforms(step)
    return [made]


def _load_transform(dtype: type[np.int16] | type[np.float32]) -> Any:  # noqa: ANN401  # MONAI has no types
    """Return `LoadImaged` with our reader."""
    from monai import transforms as mt

    with _quiet_readers():
        return mt.LoadImaged(KEY, reader=MedkdReader(), dtype=dtype, ensure_channel_first=True)


@contextmanager
def _quiet_readers() -> Iterator[None]:
    """Hide what MONAI says of its own readers: it sets them all up beside ours."""
    plugin = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = plugin.level
    plugin.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        plugin.setLevel(level)


def _image_transforms(step: ImageStep) -> list[Any]:
    from monai import transforms as mt

    if step.source == "file":
        chain = [_load_transform(np.float32)]
    else:
        chain = [
            mt.EnsureChannelFirstd(KEY, channel_dim="no_channel"),
            mt.ScaleIntensityRanged(KEY, 0.0, 255.0, b_min=0.0, b_max=1.0, clip=True),
        ]
    if step.size_px is not None:
        chain.append(mt.Resized(KEY, spatial_size=step.size_px, mode="area"))
    return chain
