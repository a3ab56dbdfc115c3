"""The loading steps of a configuration, from a file to the input of a network.

CT: `load`, then optionally `orientation` and `spacing`, then `crop` and `intensity` in either
order. Images: one `image` step. The steps become a MONAI `Compose`, whose output is [1, I, J, K]
or [1, I, J], float32 in 0..1, the common input of teacher and student. Its input is a dictionary
with the key `image` (a path, or an array for an image in memory) and, for a crop, `center_mm`
(LPS).
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
"""HU window of lung and soft tissue, used if a configuration has no window."""

_RAS_LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
_PAIRS = ("LR", "PA", "IS")


class LoadStep(Settings):
    """Read a CT scan from its path: int16 HU [1, I, J, K]."""

    kind: Literal["load"] = "load"


class OrientationStep(Settings):
    """Reorder and flip the axes to a common orientation (MONAI `Orientationd`)."""

    kind: Literal["orientation"] = "orientation"
    axcodes: str = Field(
        default="LPS",
        description="Directions of i, j, k: one letter of each pair L/R, P/A, I/S. LPS does not "
        "change an ordinary axial scan.",
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
    ] = Field(default=(1.0, 1.0, 1.0), description="Voxel spacing along i, j, k, mm.")
    engine: Literal["slab", "monai"] = Field(
        default="slab",
        description="slab: our own faster code, rounds to whole HU; monai: Spacingd of MONAI.",
    )


class IntensityStep(Settings):
    """Scale an HU window to 0..1 and clip (MONAI `ScaleIntensityRanged`)."""

    kind: Literal["intensity"] = "intensity"
    hu_window: tuple[float, float] = Field(
        default=DEFAULT_WINDOW, description="HU that become 0 and 1; values outside are clipped."
    )

    @model_validator(mode="after")
    def _window_is_open(self) -> IntensityStep:
        if not self.hu_window[0] < self.hu_window[1]:
            raise ValueError(f"hu_window: expected low < high, got {self.hu_window}")
        return self


class CropStep(Settings):
    """Crop a patch of whole voxels around a candidate.

    Voxels outside the volume are filled with the lower end of the HU window.
    """

    kind: Literal["crop"] = "crop"
    patch_shape: tuple[
        Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
    ] = Field(default=(32, 32, 32), description="Voxels along i, j, k.")


class ImageStep(Settings):
    """Read a radiograph, or a MedMNIST image or cube, and scale it to 0..1."""

    kind: Literal["image"] = "image"
    source: Literal["memory", "file"] = Field(
        default="memory",
        description="memory: a uint8 array of a MedMNIST set. file: a radiograph, from an archive "
        "or a path.",
    )
    size_px: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None,
        min_length=2,
        max_length=3,
        description="Pixels along each axis (rows, columns or i, j, k) after area resizing, "
        "which does not keep the aspect ratio; null: not resized.",
    )


LoadingStep = Annotated[
    LoadStep | OrientationStep | SpacingStep | IntensityStep | CropStep | ImageStep,
    Field(discriminator="kind"),
]

_RANK = {"load": 0, "orientation": 1, "spacing": 2, "crop": 3, "intensity": 3}


def _in_order(steps: tuple[LoadingStep, ...]) -> tuple[LoadingStep, ...]:
    """Return the steps if their kinds and order can be used; otherwise refuse with all reasons."""
    kinds = [step.kind for step in steps]
    reasons = [
        f"{kind}: expected at most once, got {kinds.count(kind)} times"
        for kind in dict.fromkeys(kinds)
        if kinds.count(kind) > 1
    ]
    if "image" in kinds:
        if others := [kind for kind in kinds if kind != "image"]:
            reasons.append(f"image: expected as the only step, got {', '.join(others)} too")
    else:
        if kinds[:1] != ["load"]:
            reasons.append("expected load (CT) or image (radiograph) as the first step")
        if "intensity" not in kinds:
            reasons.append("expected an intensity step, because networks need values in 0..1")
        ranks = [_RANK[kind] for kind in kinds]
        if ranks != sorted(ranks):
            reasons.append(
                "expected the order load, orientation, spacing, then crop and intensity, got "
                + ", ".join(kinds)
            )
    if reasons:
        raise ValueError("; ".join(reasons))
    return steps


LoadingSettings = Annotated[tuple[LoadingStep, ...], AfterValidator(_in_order)]
"""The loading steps of a configuration, validated for their order."""

_ADAPTER: TypeAdapter[tuple[Any, ...]] = TypeAdapter(LoadingSettings)


def parse_loading(steps: Iterable[Mapping[str, Any]]) -> tuple[LoadingStep, ...]:
    """Convert plain dictionaries, as stored in a model directory, to settings.

    Raises:
        SettingsError: lists all reasons.
    """
    try:
        return _ADAPTER.validate_python([dict(step) for step in steps])
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError("the loading steps cannot be used", reasons) from error


def loading_as_dicts(steps: tuple[LoadingStep, ...]) -> list[dict[str, Any]]:
    """Convert settings to plain dictionaries for JSON; `parse_loading` reverses this."""
    return [step.model_dump(mode="json") for step in steps]


def scan_steps(steps: tuple[LoadingStep, ...]) -> tuple[LoadingStep, ...]:
    """Return the steps before the crop; their result depends only on the scan and can be cached."""
    kinds = [step.kind for step in steps]
    return steps[: kinds.index("crop")] if "crop" in kinds else steps


def hu_window(steps: tuple[LoadingStep, ...]) -> tuple[float, float] | None:
    """Return the HU that become 0 and 1; None without an intensity step (images)."""
    return next((step.hu_window for step in steps if isinstance(step, IntensityStep)), None)


def patch_shape(steps: tuple[LoadingStep, ...]) -> tuple[int, int, int] | None:
    """Return the voxels of a patch along i, j, k; None without a crop step."""
    return next((step.patch_shape for step in steps if isinstance(step, CropStep)), None)


def spacing_mm(steps: tuple[LoadingStep, ...]) -> tuple[float, float, float] | None:
    """Return the spacing along i, j, k in mm; None without a spacing step."""
    return next((step.spacing_mm for step in steps if isinstance(step, SpacingStep)), None)


def pad_value(steps: tuple[LoadingStep, ...]) -> float:
    """Return the fill value of a crop outside the volume.

    It is the lower end of the HU window, or 0 if the intensity step comes before the crop.
    """
    kinds = [step.kind for step in steps]
    window = hu_window(steps)
    if window is None or ("crop" in kinds and kinds.index("intensity") < kinds.index("crop")):
        return 0.0
    return window[0]


def build_loading(steps: tuple[LoadingStep, ...], *, pad: float | None = None) -> Any:  # noqa: ANN401  # MONAI has no types
    """Build the MONAI `Compose` of dictionary transforms for the steps.

    Args:
        steps: all steps of a configuration, or a part of them (`scan_steps`).
        pad: fill value of a crop outside the volume; None: `pad_value(steps)`. If `steps` is
            only a part without the HU window, pass `pad_value` of all steps.

    Returns:
        `Compose`; call it through `apply_loading`, which raises refusals unwrapped.

    Example:
        >>> steps = parse_loading([{"kind": "load"}, {"kind": "spacing"}, {"kind": "intensity"}])
        >>> [type(step).__name__ for step in build_loading(steps).transforms]
        ['LoadImaged', 'SlabSpacingd', 'ScaleIntensityRanged']
    """
    from monai.transforms import Compose

    fill = pad_value(steps) if pad is None else pad
    return Compose([transform for step in steps for transform in _transforms_of(step, fill)])


def apply_loading(transform: Any, item: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # MONAI has no types
    """Run a `Compose` on a dictionary, and unwrap refusals.

    Raises:
        MedkdError: the refusal that MONAI wrapped in a RuntimeError.
        RuntimeError: of any other error; MONAI's names the transform, this one also the cause.
    """
    try:
        return dict(transform(dict(item)))
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, MedkdError):
            cause = cause.__cause__
        if isinstance(cause, MedkdError):
            raise cause from error
        raise RuntimeError(f"{error}: {type(cause).__name__}: {cause}") from cause


def _transforms_of(step: LoadingStep, pad: float) -> list[Any]:
    """Return the MONAI transforms of one step."""
    from monai import transforms as mt

    transform: Any
    match step:
        case LoadStep():
            transform = _load_transform(np.int16)
        case OrientationStep():
            transform = mt.Orientationd(KEY, axcodes=step.axcodes.upper(), labels=_RAS_LABELS)
        case SpacingStep(engine="slab"):
            transform = SlabSpacingd(KEY, step.spacing_mm)
        case SpacingStep():
            transform = mt.Spacingd(KEY, pixdim=step.spacing_mm, mode="bilinear")
        case CropStep():
            transform = CropPatchd(KEY, step.patch_shape, pad_value=pad)
        case IntensityStep():
            low, high = step.hu_window
            transform = mt.ScaleIntensityRanged(KEY, low, high, b_min=0.0, b_max=1.0, clip=True)
        case ImageStep():
            return _image_transforms(step)
    return [transform]


def _load_transform(dtype: type[np.int16] | type[np.float32]) -> Any:  # noqa: ANN401  # MONAI has no types
    """Return `LoadImaged` with `MedkdReader`."""
    from monai import transforms as mt

    with _quiet_readers():
        return mt.LoadImaged(KEY, reader=MedkdReader(), dtype=dtype, ensure_channel_first=True)


@contextmanager
def _quiet_readers() -> Iterator[None]:
    """Hide the warnings of MONAI's own readers, which `LoadImaged` always creates too."""
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
